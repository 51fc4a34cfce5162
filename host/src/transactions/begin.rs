//! How a transaction begins: planned, checked, durable, and only then under way.

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::mpsc;

use super::{
    core::{Core, Counts},
    driver::{Command, Driver, Reply, turn_away},
    error::TransactionError,
    journal::NotKept,
    machine::Machine,
    outcome, plan,
    protocol::{Pinned, ProtocolInForce},
    record::{EventKind, RequestRecord, Restored, Standing, Submitted},
    shown::Status,
    submission::{self, REQUEST_BYTES_MAX, Submission},
    targets,
};
use crate::model::transaction::{Branch, Decision};

/// What a new transaction keeps to.
pub fn pinned(core: &Core, submission: &Submission) -> Result<(Pinned, u64), TransactionError> {
    let protocols = core.protocols();
    let Some(in_force) = protocols.get(&submission.protocol) else {
        let names: Vec<_> = protocols.keys().map(String::as_str).collect();
        let message = format!("there is no protocol {:?}; there are {}", submission.protocol, names.join(", "));
        return Err(TransactionError::field("/trans_type", message));
    };
    Ok((in_force.for_transaction(&submission.gid).clone(), timeout_ms(in_force)))
}

fn timeout_ms(in_force: &ProtocolInForce) -> u64 {
    u64::try_from(in_force.timeout.as_millis()).unwrap_or(u64::MAX)
}

/// What became of beginning one.
pub enum Begun {
    New(Status),
    /// One of this id is there, and has ended.
    Before,
}

/// The task of a transaction from its first moment on, whether or not its client stays: what was sent to the store may
/// be there, and is then to be driven. Answers when it is durable.
pub async fn live(
    core: &Arc<Core>,
    submission: Submission,
    asks: bool,
    pinned: (Pinned, u64),
    commands: mpsc::Receiver<Command>,
    reply: Reply<Begun>,
) {
    let gid = submission.gid.clone();
    let (driver, answer) = match begin(core, submission, asks, pinned).await {
        Ok(Some(driver)) => {
            let status = driver.status();
            (Some(driver), Ok(Begun::New(status)))
        }
        Ok(None) => (None, Ok(Begun::Before)),
        Err(error) => (None, Err(error)),
    };
    if driver.is_none() {
        core.leave(&gid);
    }
    // Whoever has gone meanwhile does not want to know.
    let _ = reply.send(answer);
    match driver {
        Some(driver) => driver.run(commands).await,
        None => turn_away(commands).await,
    }
}

/// Durable when it returns; None where one of this id is there and has ended.
async fn begin(
    core: &Arc<Core>,
    submission: Submission,
    asks: bool,
    (pinned, timeout_ms): (Pinned, u64),
) -> Result<Option<Driver>, TransactionError> {
    if outcome::asks_for_events(&submission.request) && !core.journal.tells_events() {
        return Err(TransactionError::field("/events", "there is no store of events here"));
    }
    let payloads = submission::payloads(&submission.request);
    let branches = planned(core, &submission, &pinned, payloads.len())?;
    let now_ms = core.wall.now_ms();
    let own_ms = submission.options.timeout_ms;
    let Submission { gid, protocol, request, options } = submission;
    let standing = Standing {
        protocol,
        plugin: pinned.pin.plugin.clone(),
        version: pinned.pin.version,
        created_ms: now_ms,
        updated_ms: now_ms,
        expires_ms: Some(now_ms.saturating_add(own_ms.unwrap_or(timeout_ms))),
        expiry_ends_with_asking: own_ms.is_none(),
        requests: 1,
        facts: Default::default(),
        outcome_told: false,
        events: Vec::new(),
        events_left_out: 0,
        troubles: BTreeMap::new(),
    };
    let first = RequestRecord { request, branches: branches.clone() };
    let submitted = Submitted { first, pin: pinned.pin, options };
    let machine = Machine::new(branches);
    let restored = Restored { gid: gid.clone(), submitted, payloads, machine, standing };
    let mut driver = Driver::new(core, restored, Some(pinned.protocol));
    driver.note(EventKind::Begun);
    if asks {
        driver.machine.ask(Decision::Commit);
        driver.note(EventKind::Asked { decision: Decision::Commit, reason: None });
    }
    // What it begins with goes into the same commit.
    driver.step();
    let submitted = Arc::clone(&driver.submitted);
    let told = driver.outcome_to_tell()?;
    match core.journal.begin(&gid, &submitted, driver.current(), told).await {
        Ok(()) => {
            Counts::add(&core.counts.begun);
            driver.carry_out();
            // One that had nothing to do has ended already, and is not removed like others unless that is told.
            driver.unkept = driver.machine.facts().ended.is_some();
            Ok(Some(driver))
        }
        Err(NotKept::Conflict) => Ok(None),
        Err(NotKept::Error(error)) => Err(error),
    }
}

fn planned(
    core: &Core,
    submission: &Submission,
    pinned: &Pinned,
    payloads: usize,
) -> Result<Vec<Branch>, TransactionError> {
    let text = submission::text(&submission.request);
    if text.len() > REQUEST_BYTES_MAX {
        let message = format!("has {} bytes, and {REQUEST_BYTES_MAX} are the most", text.len());
        return Err(TransactionError::field("", message));
    }
    let planned = pinned.protocol.plan(&text, &[]);
    let planned =
        planned.map_err(|fault| TransactionError::Protocol { protocol: submission.protocol.clone(), fault })?;
    let branches = planned.map_err(|problems| TransactionError::Invalid(targets::problems(problems)))?;
    let mut problems = plan::check(&[], &branches, payloads);
    problems.extend(targets::check(&branches, &submission.request, &*core.caller));
    if problems.is_empty() { Ok(branches) } else { Err(TransactionError::Invalid(problems)) }
}
