//! The barrier: what makes a participant's operations safe to repeat, to lose and to overtake one another.
//!
//! A coordinator repeats a call until it knows the answer, and undoes what it does not know to have run. So an operation
//! may come twice; its undoing may come although it never came (an empty rollback); and it may come after its undoing (it
//! waited somewhere). The barrier keeps a row for each operation that came, *in the same change as the business itself*,
//! and tells from the rows what to do. `examples/participants.md` has the same as a table and statements of SQL.
//!
//! A refusal is kept too: else a second copy of a refused try, arriving after all is over, might find what the first one
//! missed, and nobody would ever undo it.

use serde::{Deserialize, Serialize};

use crate::recent::Recent;

/// Rows that are kept; the oldest go first. A transaction leaves up to three with each of its participants, so these are
/// those of the latest thousand: far more than are under way at a time. (With SQL they are kept by time.)
const ROWS_MAX: usize = 3_000;

/// Operations that undo another one, and which. The others stand for themselves.
const UNDOES: [(&str, &str); 4] =
    [("abort", "prepare"), ("cancel", "try"), ("compensate", "action"), ("rollback", "action")];

/// Operations before the decision: they may say no. What comes after it may not.
const MAY_REFUSE: [&str; 3] = ["prepare", "try", "action"];

/// Whose operation it is. One branch's operation that changes several stores has a barrier in each of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation<'c> {
    pub gid: &'c str,
    pub branch_id: &'c str,
    pub op: &'c str,
}

/// Kept where the business data is kept, and changed with it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Barrier {
    /// By transaction, branch and operation.
    rows: Recent<Row, ROWS_MAX>,
}

/// A service's business and its barrier, to be kept as one value.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Guarded<T> {
    pub business: T,
    pub barrier: Barrier,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Row {
    /// The operation that put it here: its own, or the one that undoes it.
    by: String,
    /// Why it was refused, if it was.
    refusal: Option<String>,
}

/// What became of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Passed<T> {
    Done(T),
    /// It ran before: the answer is as good as then.
    Duplicate,
    /// What it would undo never ran, and never will.
    Empty,
}

/// Why an operation did not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stopped<E> {
    /// The business says no, now.
    Refused(E),
    /// It did so before, in these words.
    RefusedBefore(String),
    /// It has been undone already.
    TooLate,
}

impl Barrier {
    /// Runs `business` if this operation is to run, and not else. What is changed here and by `business` must be kept
    /// together, *a refusal too*; so where `business` refuses, it must have changed nothing.
    pub fn pass<T, E: ToString>(
        &mut self,
        operation: Operation<'_>,
        business: impl FnOnce() -> Result<T, E>,
    ) -> Result<Passed<T>, Stopped<E>> {
        let Operation { op, .. } = operation;
        let own = operation.key(op);
        if let Some(row) = self.rows.get(&own) {
            return match &row.refusal {
                _ if row.by != op => Err(Stopped::TooLate),
                Some(why) => Err(Stopped::RefusedBefore(why.clone())),
                None => Ok(Passed::Duplicate),
            };
        }
        let row = Row { by: op.to_owned(), refusal: None };
        if let Some((_, undone)) = UNDOES.iter().find(|(undoes, _)| *undoes == op) {
            let undone = operation.key(undone);
            let has_run = self.rows.get(&undone).is_some_and(|row| row.refusal.is_none());
            if !has_run {
                if self.rows.get(&undone).is_none() {
                    self.rows.keep(&undone, row.clone());
                }
                self.rows.keep(&own, row);
                return Ok(Passed::Empty);
            }
        }
        match business() {
            Ok(done) => {
                self.rows.keep(&own, row);
                Ok(Passed::Done(done))
            }
            Err(why) => {
                if MAY_REFUSE.contains(&op) {
                    self.rows.keep(&own, Row { refusal: Some(why.to_string()), ..row });
                }
                Err(Stopped::Refused(why))
            }
        }
    }
}

impl<T> Guarded<T> {
    /// As [`Barrier::pass`].
    pub fn pass<E: ToString>(
        &mut self,
        operation: Operation<'_>,
        business: impl FnOnce(&mut T) -> Result<(), E>,
    ) -> Result<Passed<()>, Stopped<E>> {
        let Self { business: own, barrier } = self;
        barrier.pass(operation, || business(own))
    }
}

impl Operation<'_> {
    /// As JSON: whatever the three consist of, no two share a key.
    fn key(&self, op: &str) -> String {
        serde_json::json!([self.gid, self.branch_id, op]).to_string()
    }
}

#[cfg(test)]
mod tests;
