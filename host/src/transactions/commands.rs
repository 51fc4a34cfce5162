//! What clients and operators want of one transaction that has not ended: durable before they are answered.

use bytes::Bytes;
use serde_json::{Map, Value};

use super::{
    driver::{Command, Driver},
    error::{FieldProblem, TransactionError},
    journal::NotKept,
    machine::{Ending, Machine},
    plan,
    record::{EventKind, RequestRecord, Standing},
    shown::Status,
    submission::{self, Enlistment, Submission},
    targets,
};
use crate::{
    model::transaction::{Branch, Decision},
    storage::crash_point,
};

/// Longest reason for an abort that is kept, in bytes.
const REASON_LEN_MAX: usize = 300;

impl Driver {
    pub(super) async fn obey(&mut self, command: Command) {
        // Whoever has gone meanwhile does not want to know.
        match command {
            Command::Again { submission, asks, reply } => {
                let answer = self.again(&submission, asks).await;
                crash_point::here("before-answer");
                let _ = reply.send(answer);
            }
            Command::Ask { decision, reason, reply } => {
                let answer = self.ask(decision, reason).await;
                crash_point::here("before-answer");
                let _ = reply.send(answer);
            }
            Command::Enlist { enlistment, reply } => {
                let answer = self.enlist(*enlistment).await;
                crash_point::here("before-answer");
                let _ = reply.send(answer);
            }
            Command::Stop { reply } => drop(reply.send(self.stop().await)),
            Command::Retry { reply } => drop(reply.send(self.retry().await)),
            Command::Show { reply } => drop(reply.send(self.details())),
            Command::Wait { reply } => self.wait(reply),
        }
    }

    pub(super) fn status(&self) -> Status {
        Status::of(self.machine.facts())
    }

    fn too_late(&self, wanted: &'static str) -> TransactionError {
        TransactionError::TooLate { gid: self.gid.clone(), status: self.status(), wanted }
    }

    async fn again(&mut self, submission: &Submission, asks: bool) -> Result<Status, TransactionError> {
        if let Some(field) = submission.differs_from(&self.submitted.first.request) {
            return Err(TransactionError::OtherContent { gid: self.gid.clone(), field: field.to_owned() });
        }
        if asks { self.ask(Decision::Commit, None).await } else { Ok(self.status()) }
    }

    async fn ask(&mut self, decision: Decision, reason: Option<String>) -> Result<Status, TransactionError> {
        let facts = self.machine.facts();
        let settled = facts.decision.or(facts.asked);
        match settled {
            Some(settled) if settled == decision => return Ok(self.status()),
            None if self.machine.is_going() => {}
            _ => {
                let wanted = if decision == Decision::Commit { "be committed" } else { "be aborted" };
                return Err(self.too_late(wanted));
            }
        }
        let before = self.remember().await?;
        self.machine.ask(decision);
        let reason = reason.map(|reason| reason[..reason.floor_char_boundary(REASON_LEN_MAX)].to_owned());
        self.note(EventKind::Asked { decision, reason });
        self.unkept = true;
        // What follows at once goes into the same commit.
        self.step();
        let kept = self.keep(false).await;
        self.settle(kept, before)?;
        Ok(self.status())
    }

    async fn enlist(&mut self, enlistment: Enlistment) -> Result<Status, TransactionError> {
        let facts = self.machine.facts();
        if facts.complete || facts.decision.is_some() || !self.machine.is_going() {
            return Err(self.too_late("take another branch"));
        }
        let payloads = submission::payloads(&enlistment.request);
        let planned = self.planned(&enlistment, &payloads)?;
        if planned.iter().all(|branch| self.is_there(branch, &payloads)) {
            return Ok(self.status());
        }
        let branches = self.fit(&enlistment, planned, payloads.len())?;
        let before = self.remember().await?;
        self.standing.requests += 1;
        for branch in &branches {
            self.note(EventKind::Enlisted { branch: branch.id.clone() });
        }
        self.machine.enlist(branches.clone());
        let record = RequestRecord { request: enlistment.request, branches };
        let (core, gid) = (self.core.clone(), self.gid.clone());
        let kept = core.journal.enlist(&gid, &record, self.current()).await;
        self.settle(kept, before)?;
        self.payloads.extend(payloads);
        Ok(self.status())
    }

    fn planned(&self, enlistment: &Enlistment, payloads: &[Bytes]) -> Result<Vec<Branch>, TransactionError> {
        let Some(protocol) = &self.protocol else {
            return Err(TransactionError::field("/gid", "its protocol cannot be loaded just now: try again later"));
        };
        let text = submission::text(&enlistment.request);
        let planned = protocol
            .plan(&text, self.machine.branches())
            .map_err(|fault| TransactionError::Protocol { protocol: self.standing.protocol.clone(), fault })?;
        let planned = planned.map_err(|problems| TransactionError::Invalid(targets::problems(problems)))?;
        if planned.is_empty() {
            self.expect_there(&enlistment.request, payloads)?;
        }
        let missing = planned.iter().find(|branch| branch.payload.is_some_and(|at| at as usize >= payloads.len()));
        match missing {
            Some(branch) => {
                let message = format!("branch {:?} of the plan has a payload that is not there", branch.id);
                Err(TransactionError::Invalid(vec![FieldProblem::new("", message)]))
            }
            None => Ok(planned),
        }
    }

    /// The protocol has nothing to add: a branch of this id is there, and what the request brings must be there too.
    fn expect_there(&self, request: &Map<String, Value>, payloads: &[Bytes]) -> Result<(), TransactionError> {
        let id = request.get("branch_id").and_then(Value::as_str);
        let Some(there) = self.machine.branches().iter().find(|branch| Some(branch.id.as_str()) == id) else {
            return Err(TransactionError::field("", "makes no branch"));
        };
        let body = there.payload.and_then(|at| self.payloads.get(at as usize));
        if body == payloads.first() {
            return Ok(());
        }
        Err(TransactionError::OtherContent { gid: self.gid.clone(), field: "data".to_owned() })
    }

    /// A client that has had no answer repeats itself.
    fn is_there(&self, planned: &Branch, payloads: &[Bytes]) -> bool {
        let there = self.machine.branches().iter().find(|branch| branch.id == planned.id);
        there.is_some_and(|there| {
            let body = |branch: &Branch, of: &[Bytes]| branch.payload.and_then(|at| of.get(at as usize)).cloned();
            there.operations == planned.operations && body(there, &self.payloads) == body(planned, payloads)
        })
    }

    /// Their payloads counted on from those there.
    fn fit(&self, from: &Enlistment, mut added: Vec<Branch>, payloads: usize) -> Result<Vec<Branch>, TransactionError> {
        let there = u32::try_from(self.payloads.len()).unwrap_or(u32::MAX);
        for branch in &mut added {
            branch.payload = branch.payload.map(|at| at.saturating_add(there));
        }
        let mut problems = plan::check(self.machine.branches(), &added, self.payloads.len() + payloads);
        problems.extend(targets::check(&added, &from.request, &*self.core.caller));
        if problems.is_empty() { Ok(added) } else { Err(TransactionError::Invalid(problems)) }
    }

    async fn stop(&mut self) -> Result<Status, TransactionError> {
        if self.machine.facts().ended.is_some() {
            return Err(self.too_late("be stopped"));
        }
        let before = self.remember().await?;
        self.machine.stop();
        self.note_end(Ending::Stopped);
        self.unkept = true;
        let kept = self.keep(false).await;
        self.settle(kept, before)?;
        Ok(self.status())
    }

    async fn retry(&mut self) -> Result<Status, TransactionError> {
        if self.machine.facts().ended.is_some() {
            return Err(self.too_late("be tried again"));
        }
        let before = self.remember().await?;
        self.machine.resume();
        self.note(EventKind::Retried);
        let kept = self.keep(false).await;
        self.settle(kept, before)?;
        self.hurry();
        self.call_all();
        Ok(self.status())
    }

    /// Where it goes back to if a change does not become durable; whatever came before is durable first.
    async fn remember(&mut self) -> Result<(Machine, Standing), TransactionError> {
        if self.unkept {
            self.keep(false).await?;
            self.carry_out();
        }
        Ok((self.machine.clone(), self.standing.clone()))
    }

    /// What was asked for holds if it is durable, and else it was never asked for.
    fn settle(&mut self, kept: Result<(), NotKept>, before: (Machine, Standing)) -> Result<(), TransactionError> {
        if let Err(refused) = kept {
            (self.machine, self.standing) = before;
            self.forget_steps();
            return Err(refused.into());
        }
        self.carry_out();
        Ok(())
    }
}
