//! A balancer that does whatever its settings say. `hostile` obeys them; `tame` reads the same settings and takes
//! turns. So a service that is bound to `tame` can be given `hostile` as another version with the same settings.
//!
//! | setting | what happens |
//! | --- | --- |
//! | `trap_in`, `spin_in`, `allocate_in` | in that call, one of `configure`, `update`, `pick`, `complete`, `save`, `restore`: a trap, an endless loop, memory without end |
//! | `trap_every` | every so many picks, a trap |
//! | `answer` | `turns`, or `missing` (a slot that no endpoint has), `unavailable`, `none`, `tried` (what was tried, if anything was) |
//! | `bad`, `bad_percent` | so many percent of picks go to the endpoint with that address, the rest to the others |
//! | `state` | what `save` answers: `none`, `huge` (2 MiB), `noise` |

use sluice_sdk::{
    Balancer, Completion, Context, Endpoint, InstantUs, Request, Settings, Slot, incoming, random::below,
};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Call {
    Never,
    Configure,
    Update,
    Pick,
    Complete,
    Save,
    Restore,
}

const CALLS: [(&str, Call); 7] = [
    ("never", Call::Never),
    ("configure", Call::Configure),
    ("update", Call::Update),
    ("pick", Call::Pick),
    ("complete", Call::Complete),
    ("save", Call::Save),
    ("restore", Call::Restore),
];

#[derive(Clone, Copy)]
enum Answer {
    Turns,
    Missing,
    Unavailable,
    None,
    Tried,
}

#[derive(Clone, Copy)]
enum State {
    None,
    Huge,
    Noise,
}

/// What is over the host's limit of 1 MiB.
const HUGE_STATE_BYTES: usize = 2 << 20;

/// The balancer. With `OBEYS` false, its settings mean nothing.
pub struct Behaviour<const OBEYS: bool> {
    trap_in: Call,
    spin_in: Call,
    allocate_in: Call,
    trap_every: u32,
    answer: Answer,
    bad_address: String,
    bad_percent: u32,
    state: State,
    good: Vec<Slot>,
    bad: Option<Slot>,
    all: Vec<Slot>,
    unavailable: Option<Slot>,
    picks: u32,
}

impl<const OBEYS: bool> Balancer for Behaviour<OBEYS> {
    fn configure(_: &Context, settings: &mut Settings) -> Self {
        let behaviour = Self {
            trap_in: settings.one_of("trap_in", &CALLS),
            spin_in: settings.one_of("spin_in", &CALLS),
            allocate_in: settings.one_of("allocate_in", &CALLS),
            trap_every: settings.integer("trap_every", 0, 0..=1_000_000_000),
            answer: settings.one_of(
                "answer",
                &[
                    ("turns", Answer::Turns),
                    ("missing", Answer::Missing),
                    ("unavailable", Answer::Unavailable),
                    ("none", Answer::None),
                    ("tried", Answer::Tried),
                ],
            ),
            bad_address: settings.text("bad", ""),
            bad_percent: settings.integer("bad_percent", 3, 0..=100),
            state: settings.one_of("state", &[("none", State::None), ("huge", State::Huge), ("noise", State::Noise)]),
            good: Vec::new(),
            bad: None,
            all: Vec::new(),
            unavailable: None,
            picks: 0,
        };
        behaviour.misbehave(Call::Configure);
        behaviour
    }

    fn update(&mut self, endpoints: &[Endpoint], _: InstantUs) {
        self.misbehave(Call::Update);
        let available = || endpoints.iter().filter(|endpoint| endpoint.available);
        let is_bad = |endpoint: &&Endpoint| endpoint.address == self.bad_address;
        self.good = available().filter(|endpoint| !is_bad(endpoint)).map(|endpoint| endpoint.slot).collect();
        self.bad = available().find(is_bad).map(|endpoint| endpoint.slot);
        self.all = available().map(|endpoint| endpoint.slot).collect();
        self.unavailable = endpoints.iter().find(|endpoint| !endpoint.available).map(|endpoint| endpoint.slot);
    }

    fn pick(&mut self, request: &Request) -> Option<Slot> {
        self.picks = self.picks.wrapping_add(1);
        if !OBEYS {
            return self.turn(false, &self.all);
        }
        self.misbehave(Call::Pick);
        if self.trap_every > 0 && self.picks.is_multiple_of(self.trap_every) {
            trap();
        }
        match self.answer {
            Answer::None => None,
            Answer::Missing => Some(Slot::MAX),
            Answer::Unavailable if self.unavailable.is_some() => self.unavailable,
            Answer::Tried if request.attempt > 0 => self.all.iter().copied().find(|slot| incoming::tried(*slot)),
            _ if below(request.random, 100) < self.bad_percent && self.bad.is_some() => self.bad,
            _ if self.good.is_empty() => self.bad,
            _ => self.turn(request.attempt > 0, &self.good),
        }
    }

    fn complete(&mut self, _: &[Completion], _: InstantUs) {
        self.misbehave(Call::Complete);
    }

    fn save(&self) -> Vec<u8> {
        self.misbehave(Call::Save);
        match self.state {
            _ if !OBEYS => b"tame".to_vec(),
            State::None => Vec::new(),
            State::Huge => vec![7; HUGE_STATE_BYTES],
            State::Noise => (0..1_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect(),
        }
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), String> {
        self.misbehave(Call::Restore);
        if state == b"tame" { Ok(()) } else { Err("the saved state is not a tame one".to_owned()) }
    }
}

impl<const OBEYS: bool> Behaviour<OBEYS> {
    fn turn(&self, retry: bool, slots: &[Slot]) -> Option<Slot> {
        let from = self.picks as usize;
        let mut turns = (0..slots.len()).map(|n| slots[(from + n) % slots.len()]);
        let next = turns.next()?;
        if retry && incoming::tried(next) {
            turns.find(|slot| !incoming::tried(*slot)).or(Some(next))
        } else {
            Some(next)
        }
    }

    fn misbehave(&self, call: Call) {
        if !OBEYS {
            return;
        }
        if call == self.trap_in {
            trap();
        }
        if call == self.spin_in {
            loop {
                std::hint::black_box(self.picks);
            }
        }
        if call == self.allocate_in {
            let mut hoard = Vec::new();
            loop {
                hoard.push(std::hint::black_box(vec![1_u8; 1 << 20]));
            }
        }
    }
}

fn trap() -> ! {
    panic!("as the settings say")
}
