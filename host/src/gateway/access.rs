//! A request's line in the access log: begun with its head, written when the last byte of its answer is gone.

use std::{
    cell::Cell,
    rc::Rc,
    sync::Arc,
    time::{Instant, SystemTime},
};

use http::{HeaderValue, Request, header, uri::PathAndQuery};

use super::{body::RequestBodyState, client::Client, respond::Failure, worker::Worker};
use crate::{
    model::{AccessLog, ServiceName, VersionId},
    telemetry::AccessRecord,
};

/// What is gathered for one request. Written when it is dropped, where it is in the sample.
pub struct AccessEntry {
    record: Option<AccessRecord>,
    worker: Rc<Worker>,
    started: Instant,
    sampled: bool,
    body_in: Option<Rc<RequestBodyState>>,
    bytes_out: Rc<Cell<u64>>,
}

impl AccessEntry {
    /// None where the log is off: then nothing is gathered either.
    pub fn begin<B>(
        client: &Client,
        request: &Request<B>,
        request_id: &HeaderValue,
        started: Instant,
    ) -> Option<Box<Self>> {
        let worker = &client.worker;
        let state = worker.state();
        let mode = &state.snapshot.access_log;
        if matches!(mode, AccessLog::Off) {
            return None;
        }
        let headers = request.headers();
        let host = request.uri().authority().map_or_else(
            || String::from_utf8_lossy(headers.get(header::HOST).map_or(b"", HeaderValue::as_bytes)).into_owned(),
            |authority| authority.to_string(),
        );
        let trusted = &state.snapshot.trusted_proxies;
        let record = AccessRecord {
            at: SystemTime::now(),
            request_id: request_id.clone(),
            client: super::headers::believed_address(headers, &client.address(trusted), trusted),
            method: request.method().clone(),
            host,
            path: request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/")),
            protocol: request.version(),
            route: None,
            service: None,
            endpoint: None,
            picked_by: None,
            attempts: 0,
            status: 0,
            bytes_in: 0,
            bytes_out: 0,
            duration_us: 0,
            first_byte_us: None,
            error: None,
            user_agent: headers.get(header::USER_AGENT).cloned(),
        };
        Some(Box::new(Self {
            record: Some(record),
            worker: Rc::clone(worker),
            started,
            sampled: worker.access_log.wants(mode, worker.random(), false),
            body_in: None,
            bytes_out: Rc::default(),
        }))
    }

    fn note(&mut self, write: impl FnOnce(&mut AccessRecord)) {
        if let Some(record) = &mut self.record {
            write(record);
        }
    }

    pub fn routed(&mut self, route: &str, service: &ServiceName) {
        self.note(|record| {
            record.route = Some(Arc::from(route));
            record.service = Some(service.clone());
        });
    }

    /// Where the bytes of the answer's body are counted.
    pub fn bytes_out(&self) -> &Rc<Cell<u64>> {
        &self.bytes_out
    }

    pub fn receives(&mut self, body: Option<&Rc<RequestBodyState>>) {
        self.body_in = body.cloned();
    }

    pub fn attempted(&mut self, endpoint: &str, picked_by: Option<VersionId>) {
        self.note(|record| {
            record.attempts += 1;
            record.endpoint = Some(Arc::from(endpoint));
            record.picked_by = picked_by;
        });
    }

    pub fn failed(&mut self, failure: &Failure) {
        self.note(|record| record.error = Some(failure.stage()));
        let state = self.worker.state();
        self.sampled |= self.worker.access_log.wants(&state.snapshot.access_log, self.worker.random(), true);
    }

    pub fn answered(&mut self, status: u16) {
        let first_byte_us = us_since(self.started);
        self.note(|record| {
            record.status = status;
            record.first_byte_us = Some(first_byte_us);
        });
    }
}

impl Drop for AccessEntry {
    fn drop(&mut self) {
        let Some(mut record) = self.record.take().filter(|_| self.sampled) else { return };
        if record.status == 0 {
            // It went away before there was an answer.
            record.error = Some("client");
        }
        record.bytes_in = self.body_in.as_ref().map_or(0, |body| body.bytes.get());
        record.bytes_out = self.bytes_out.get();
        record.duration_us = us_since(self.started);
        self.worker.access_log.log(record);
    }
}

fn us_since(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX)
}
