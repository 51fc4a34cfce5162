//! Every state that the world can come to.

use std::collections::{HashMap, VecDeque};

use super::{
    doings::{Doing, doings},
    gateway,
    world::{Deed, State, World},
};
use crate::transaction::{Phase, Protocol};

/// More than a test should take the time for.
const STATES_MAX: usize = 4_000_000;

/// What was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Explored {
    pub states: usize,
    /// Of those, in which the transaction was finished.
    pub ends: usize,
}

/// Looks at every state that `world` can come to under `protocol`.
///
/// An error tells the shortest way to a state in which something is wrong: a rule of the gateway broken, participants
/// that disagree, or no end to be reached.
pub fn explore(protocol: &impl Protocol, world: &World) -> Result<Explored, String> {
    world.check();
    let mut search = Search::default();
    search.see(world.begin(), None, "it begins".to_owned());
    let mut ends = 0;
    while let Some(at) = search.pending.pop_front() {
        let state = search.states[at];
        ends += usize::from(state.memory.finished);
        if let Some(wrong) = disagreement(world, &state) {
            return Err(search.way_to(at, &wrong));
        }
        // What is due comes first on the way to the end.
        if state.due {
            let after = gateway::step(protocol, world, &state).map_err(|wrong| search.way_to(at, &wrong))?;
            search.go(at, Doing { after, what: "the gateway takes a step".to_owned(), helps: true });
        }
        for doing in doings(world, &state) {
            search.go(at, doing);
        }
        if search.states.len() > STATES_MAX {
            return Err(format!("the world is too large: more than {STATES_MAX} states"));
        }
    }
    search.all_end()?;
    Ok(Explored { states: search.states.len(), ends })
}

#[derive(Default)]
struct Search {
    states: Vec<State>,
    found: HashMap<State, usize>,
    pending: VecDeque<usize>,
    /// From where each was reached first, and by what.
    from: Vec<(Option<usize>, String)>,
    /// Where each goes when participants answer, and the client says nothing more.
    towards_end: Vec<Option<usize>>,
}

impl Search {
    fn go(&mut self, from: usize, doing: Doing) {
        let to = self.see(doing.after, Some(from), doing.what);
        if doing.helps && self.towards_end[from].is_none() {
            self.towards_end[from] = Some(to);
        }
    }

    fn see(&mut self, state: State, from: Option<usize>, what: String) -> usize {
        if let Some(known) = self.found.get(&state) {
            return *known;
        }
        let at = self.states.len();
        self.found.insert(state, at);
        self.states.push(state);
        self.from.push((from, what));
        self.towards_end.push(None);
        self.pending.push_back(at);
        at
    }

    /// Whether each state's way leads to a finished one.
    fn all_end(&self) -> Result<(), String> {
        let mut good: Vec<bool> = self.states.iter().map(|state| state.memory.finished).collect();
        for begin in 0..self.states.len() {
            let mut way = Vec::new();
            let mut at = begin;
            while !good[at] {
                way.push(at);
                at = match self.towards_end[at] {
                    Some(next) if way.len() <= self.states.len() => next,
                    Some(_) => return Err(self.way_to(begin, "it goes round in circles from here, and never ends")),
                    None => return Err(self.way_to(at, "nothing is under way, and it does not end")),
                };
            }
            for at in way {
                good[at] = true;
            }
        }
        Ok(())
    }

    fn way_to(&self, at: usize, wrong: &str) -> String {
        let mut lines = vec![format!("{wrong}: {:?}", self.states[at])];
        let mut at = Some(at);
        while let Some(here) = at {
            lines.push(self.from[here].1.clone());
            at = self.from[here].0;
        }
        lines.reverse();
        lines.join("\n")
    }
}

/// What must be in no state.
fn disagreement(world: &World, state: &State) -> Option<String> {
    let aborted = state.durable.finished && state.durable.decided == Some(false);
    for branch in 0..usize::from(state.memory.branches) {
        let deed = state.deeds[branch];
        let done = matches!(deed, Deed::Done | Deed::Committed);
        let Some(_) = world.undecided(branch) else { continue };
        if state.durable.decided == Some(true) && !done {
            return Some(format!("it commits, and branch {branch} has not done its part"));
        }
        let undoes = world.branch(branch).operations.iter().any(|operation| operation.phase == Phase::Aborted);
        if aborted && done && (undoes || world.own == Some(branch)) {
            return Some(format!("it has aborted, and what branch {branch} did stands"));
        }
    }
    let any = |wanted: &[Deed]| state.deeds.iter().any(|deed| wanted.contains(deed));
    (any(&[Deed::Committed]) && any(&[Deed::Undone, Deed::Refused]))
        .then(|| "one participant has committed, and another has aborted".to_owned())
}
