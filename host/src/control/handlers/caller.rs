//! What the handlers ask of the rest: the calls of their outboxes, and the versions that their states keep to.

use std::sync::Arc;

use http::StatusCode;
use tokio::task::spawn_blocking;

use super::Maker;
use crate::{
    control::calls::{Call, GatewayCaller},
    events::handlers::{Handler, HandlerCaller, HandlerVersions, Making, OutgoingCall, Pin},
    model::HandlerName,
    plugin::BoxFuture,
};

/// Of an answer, as much as is read: what it says is of no use to anybody, but one that is larger cannot be told from one
/// that failed.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

impl HandlerCaller for GatewayCaller {
    fn call(&self, call: OutgoingCall) -> BoxFuture<'static, Result<StatusCode, String>> {
        let OutgoingCall { method, url, headers, body, timeout } = call;
        let answer_bytes_max = ANSWER_BYTES_MAX;
        let sent = self.send(Call { method, url, headers, body, timeout, answer_bytes_max, cuts_answer: false });
        Box::pin(async move { sent.await.map(|answer| answer.status) })
    }

    fn check(&self, target: &str) -> Result<(), String> {
        self.check_target(target)
    }
}

impl HandlerVersions for Maker {
    fn load(&self, name: &HandlerName, pin: &Pin, making: &Making) -> BoxFuture<'_, Result<Arc<dyn Handler>, String>> {
        let (name, pin, making) = (name.clone(), pin.clone(), making.clone());
        Box::pin(async move {
            let (pinned, plugin, id) = (Arc::clone(&self.pinned), pin.plugin.clone(), pin.version);
            let loaded = spawn_blocking(move || pinned.load(&plugin, id)).await;
            let version = loaded.map_err(|error| format!("loading it failed: {error}"))??;
            let made = self.make(&name, version, &pin, &making).await;
            let made = made.map_err(|error| format!("plugin {} {}: {error}", pin.plugin, pin.version))?;
            Ok(Arc::new(made) as Arc<dyn Handler>)
        })
    }
}
