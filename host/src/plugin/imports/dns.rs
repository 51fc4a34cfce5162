//! The `dns` import: names of `allow_names`, asked where the gateway itself asks.

use std::time::{Duration, Instant};

use hickory_resolver::{
    TokioResolver,
    lookup::Lookup,
    net::NetError,
    proto::rr::{RData, RecordType},
};

use super::State;
use crate::plugin::bindings::discovery::sluice::plugin::dns::{self, Error, Target};

/// Records of one answer that are handed on.
const RECORDS_MAX: usize = 4096;

/// Of an answer without records, in seconds: it has no TTL that the resolver shows.
const EMPTY_ANSWER_TTL_S: u32 = 5;

impl dns::Host for State {
    async fn addresses(&mut self, name: String) -> Result<(Vec<String>, u32), Error> {
        let resolver = self.granted(&name)?;
        let (v4, v6) = tokio::join!(ask(&resolver, &name, RecordType::A), ask(&resolver, &name, RecordType::AAAA));
        // Half an answer would look like endpoints that went away.
        let (v4, v6) = match (v4, v6) {
            (Err(Error::NoSuchName), Err(Error::NoSuchName)) => return Err(Error::NoSuchName),
            (v4, v6) => (or_none(v4)?, or_none(v6)?),
        };
        let answers = [v4, v6];
        let records = answers.iter().flatten().flat_map(|lookup| lookup.answers());
        let addresses = records.filter_map(|record| record.data.ip_addr()).take(RECORDS_MAX);
        let addresses: Vec<String> = addresses.map(|address| address.to_string()).collect();
        Ok((addresses, ttl_s(answers.iter().flatten())))
    }

    async fn services(&mut self, name: String) -> Result<(Vec<Target>, u32), Error> {
        let resolver = self.granted(&name)?;
        let lookup = ask(&resolver, &name, RecordType::SRV).await?;
        let targets = lookup.iter().flat_map(|lookup| lookup.answers()).filter_map(|record| match &record.data {
            RData::SRV(srv) => Some(Target {
                name: srv.target.to_utf8().trim_end_matches('.').to_owned(),
                port: srv.port,
                priority: srv.priority,
                weight: srv.weight,
            }),
            _ => None,
        });
        Ok((targets.take(RECORDS_MAX).collect(), ttl_s(lookup.iter())))
    }
}

impl State {
    fn granted(&mut self, name: &str) -> Result<TokioResolver, Error> {
        let Some(outside) = &self.imports.outside else { return Err(Error::NotAllowed) };
        if self.imports.grants.allows_name(name) {
            return Ok(outside.resolver.clone());
        }
        self.imports.refuse(format_args!("name {name:?} is not among allow_names"));
        Err(Error::NotAllowed)
    }
}

/// None where the name is there without records of this type.
async fn ask(resolver: &TokioResolver, name: &str, kind: RecordType) -> Result<Option<Lookup>, Error> {
    match resolver.lookup(name, kind).await {
        Ok(lookup) => Ok(Some(lookup)),
        Err(error) => explained(&error),
    }
}

fn explained(error: &NetError) -> Result<Option<Lookup>, Error> {
    if error.is_nx_domain() {
        Err(Error::NoSuchName)
    } else if error.is_no_records_found() {
        Ok(None)
    } else {
        Err(Error::Failed(error.to_string()))
    }
}

/// A name server that says of one family only that the name is not there, and of the other has addresses, is taken at
/// its better word.
fn or_none(answer: Result<Option<Lookup>, Error>) -> Result<Option<Lookup>, Error> {
    match answer {
        Err(Error::NoSuchName) => Ok(None),
        other => other,
    }
}

fn ttl_s<'a>(lookups: impl Iterator<Item = &'a Lookup>) -> u32 {
    let valid_until = lookups.map(Lookup::valid_until).min();
    let left = valid_until.map(|until| until.saturating_duration_since(Instant::now()) + Duration::from_millis(500));
    left.map_or(EMPTY_ANSWER_TTL_S, |left| u32::try_from(left.as_secs()).unwrap_or(u32::MAX))
}
