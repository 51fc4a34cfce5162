//! An event handler, played natively: its state is a `BTreeMap`, and what it causes is handed back.
//!
//! ```
//! use sluice_sdk::{
//!     Context, Settings,
//!     event_handler::{Answer, Effects, Event, EventHandler, Failure, Query, State},
//!     testing::event_handler::{Played, event},
//! };
//!
//! struct Last;
//!
//! impl EventHandler for Last {
//!     fn configure(_: &Context, _: &mut Settings) -> Self {
//!         Last
//!     }
//!
//!     fn handle(&mut self, event: &Event, state: &mut State, _: &mut Effects) -> Result<(), Failure> {
//!         state.put("last", &event.draft.event_type);
//!         Ok(())
//!     }
//! }
//!
//! let mut last = Played::<Last>::new("{}").unwrap();
//! last.handle(&[event("orders", "order.placed", "{}")]).unwrap();
//! assert_eq!(last.state()["last"], b"order.placed");
//! ```

use std::{cell::Cell, collections::BTreeMap, fmt, mem};

use super::{GATEWAY, context};
use crate::{
    Context, Problem, Settings,
    event_handler::{Answer, Draft, Effect, Event, EventHandler, Failure, Query, State, handle},
};

thread_local! {
    static POSITION: Cell<u64> = const { Cell::new(0) };
}

/// An event with JSON as its data (none where `data` is empty), each later in the log than the one before. 2026 begins
/// with the first, and a second passes between them.
pub fn event(stream: &str, event_type: &str, data: &str) -> Event {
    let position = POSITION.get() + 1;
    POSITION.set(position);
    Event {
        id: format!("e-{position}"),
        source: "/tests".to_owned(),
        position,
        revision: 0,
        time_ms: 1_767_225_600_000 + (position - 1) * 1_000,
        draft: Draft::json(stream, event_type, data),
    }
}

/// A handler and its state.
pub struct Played<H> {
    handler: H,
    state: BTreeMap<String, Vec<u8>>,
}

impl<H> fmt::Debug for Played<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Played").field("keys", &self.state.keys()).finish_non_exhaustive()
    }
}

impl<H: EventHandler> Played<H> {
    /// Configures it, as handler `test`.
    pub fn new(settings: &str) -> Result<Self, Vec<Problem>> {
        Self::configured(&Context { settings: settings.to_owned(), ..context() })
    }

    pub fn configured(context: &Context) -> Result<Self, Vec<Problem>> {
        let mut settings = Settings::parse(&context.settings);
        let handler = H::configure(context, &mut settings);
        let problems = settings.finish();
        if problems.is_empty() { Ok(Self { handler, state: BTreeMap::new() }) } else { Err(problems) }
    }

    /// A batch: what it caused, each with the event's index. A failure, with the index of its event, leaves the state as
    /// it was.
    pub fn handle(&mut self, events: &[Event]) -> Result<Vec<(usize, Effect)>, (usize, Failure)> {
        let before = self.state.clone();
        let state = mem::take(&mut self.state);
        GATEWAY.with_borrow_mut(|gateway| gateway.state = state);
        let handled = handle(&mut self.handler, events);
        self.state = GATEWAY.with_borrow_mut(|gateway| mem::take(&mut gateway.state));
        match handled {
            Ok(caused) => Ok(caused.into_iter().map(|caused| (caused.by as usize, caused.effect)).collect()),
            Err(failure) => {
                self.state = before;
                let kind = if failure.transient { Failure::transient } else { Failure::lasting };
                Err((failure.at as usize, kind(failure.message)))
            }
        }
    }

    /// As a client of the read model: `path` without a leading slash, and parameters.
    pub fn read(&self, path: &str, parameters: &[(&str, &str)]) -> Answer {
        let parameters = parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let query = Query { path: path.to_owned(), parameters };
        GATEWAY.with_borrow_mut(|gateway| gateway.state = self.state.clone());
        let answer = self.handler.read(&query, &State::new());
        GATEWAY.with_borrow_mut(|gateway| gateway.state.clear());
        answer
    }

    /// As [`Self::read`]: its status, and its body as text.
    pub fn read_text(&self, path: &str, parameters: &[(&str, &str)]) -> (u16, String) {
        let answer = self.read(path, parameters);
        (answer.status, String::from_utf8_lossy(&answer.body).into_owned())
    }

    pub fn state(&self) -> &BTreeMap<String, Vec<u8>> {
        &self.state
    }

    pub fn handler(&self) -> &H {
        &self.handler
    }
}
