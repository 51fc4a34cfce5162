//! A failover policy that does whatever its settings say; without any, what `none` does.
//!
//! | setting | what happens |
//! | --- | --- |
//! | `trap_in`, `spin_in`, `allocate_in` | in that call, one of `configure`, `decide`, `complete`, `update`, `observe`, `save`, `restore`: a trap, an endless loop, memory without end |
//! | `decide` | `gives-up`, or `retries-at-once` (always), `retries-never` (after 71 minutes), `falls-back` (to `to`) |
//! | `to` | the service to fall back to: `nowhere` unless given |
//! | `observe` | `nothing`, or, each time: `ejects-all` and `ejects-all-for-nothing` (0 ms), `ejects-all-for-ever` (49 days), `never-admits` (all for an hour, and again), `probes-all`, `unknown-slots`, `floods` (10,000 changes), `flaps` (ejects and admits all) |
//! | `complete` | `never`, or the delay of the second copy: `hedges-at-once` (0), `hedges-late` (71 minutes) |
//! | `state` | what `save` answers: `none`, `huge` (2 MiB), `noise` |

use sluice_sdk::{
    Completion, Context, Endpoint, InstantUs, Settings, Slot,
    failover::{Change, Ejection, Failover, Failure, Observation, Verdict},
};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Call {
    Never,
    Configure,
    Decide,
    Complete,
    Update,
    Observe,
    Save,
    Restore,
}

const CALLS: [(&str, Call); 8] = [
    ("never", Call::Never),
    ("configure", Call::Configure),
    ("decide", Call::Decide),
    ("complete", Call::Complete),
    ("update", Call::Update),
    ("observe", Call::Observe),
    ("save", Call::Save),
    ("restore", Call::Restore),
];

#[derive(Clone, Copy)]
enum Decision {
    GiveUp,
    RetryAtOnce,
    RetryNever,
    FallBack,
}

const DECISIONS: [(&str, Decision); 4] = [
    ("gives-up", Decision::GiveUp),
    ("retries-at-once", Decision::RetryAtOnce),
    ("retries-never", Decision::RetryNever),
    ("falls-back", Decision::FallBack),
];

/// What is done to each endpoint, each time.
#[derive(Clone, Copy)]
enum Deed {
    Nothing,
    /// For so many milliseconds.
    Eject(u32),
    Probe,
    Unknown,
    Flood,
    Flap,
}

const DEEDS: [(&str, Deed); 9] = [
    ("nothing", Deed::Nothing),
    ("ejects-all", Deed::Eject(30_000)),
    ("ejects-all-for-nothing", Deed::Eject(0)),
    ("ejects-all-for-ever", Deed::Eject(u32::MAX)),
    ("never-admits", Deed::Eject(3_600_000)),
    ("probes-all", Deed::Probe),
    ("unknown-slots", Deed::Unknown),
    ("floods", Deed::Flood),
    ("flaps", Deed::Flap),
];

/// Far more changes than endpoints.
const FLOOD: usize = 10_000;

const DELAYS: [(&str, Option<u32>); 3] =
    [("never", None), ("hedges-at-once", Some(0)), ("hedges-late", Some(u32::MAX))];

#[derive(Clone, Copy)]
enum State {
    None,
    Huge,
    Noise,
}

const STATES: [(&str, State); 3] = [("none", State::None), ("huge", State::Huge), ("noise", State::Noise)];

/// What is over the host's limit of 1 MiB.
const HUGE_STATE_BYTES: usize = 2 << 20;

struct Hostile {
    trap_in: Call,
    spin_in: Call,
    allocate_in: Call,
    decision: Decision,
    to: String,
    deed: Deed,
    delay_us: Option<u32>,
    state: State,
    slots: Vec<Slot>,
}

impl Failover for Hostile {
    fn configure(_: &Context, settings: &mut Settings) -> Self {
        let hostile = Self {
            trap_in: settings.one_of("trap_in", &CALLS),
            spin_in: settings.one_of("spin_in", &CALLS),
            allocate_in: settings.one_of("allocate_in", &CALLS),
            decision: settings.one_of("decide", &DECISIONS),
            to: settings.text("to", "nowhere"),
            deed: settings.one_of("observe", &DEEDS),
            delay_us: settings.one_of("complete", &DELAYS),
            state: settings.one_of("state", &STATES),
            slots: Vec::new(),
        };
        hostile.misbehave(Call::Configure);
        hostile
    }

    fn decide(&mut self, _: &Failure) -> Verdict {
        self.misbehave(Call::Decide);
        match self.decision {
            Decision::GiveUp => Verdict::GiveUp,
            Decision::RetryAtOnce => Verdict::Retry(0),
            Decision::RetryNever => Verdict::Retry(u32::MAX),
            Decision::FallBack => Verdict::FallBack(self.to.clone()),
        }
    }

    fn complete(&mut self, _: &[Completion], _: InstantUs) -> Option<u32> {
        self.misbehave(Call::Complete);
        self.delay_us
    }

    fn update(&mut self, endpoints: &[Endpoint], _: InstantUs) {
        self.misbehave(Call::Update);
        self.slots = endpoints.iter().map(|endpoint| endpoint.slot).collect();
    }

    fn observe(&mut self, _: &[Observation], _: InstantUs) -> Vec<Change> {
        self.misbehave(Call::Observe);
        let slots = self.slots.iter().copied();
        match self.deed {
            Deed::Nothing => Vec::new(),
            Deed::Eject(duration_ms) => slots.map(|slot| eject(slot, duration_ms)).collect(),
            Deed::Probe => slots.map(Change::Probe).collect(),
            Deed::Unknown => {
                let unknown = [Slot::MAX, 1 << 20, slots.max().map_or(0, |slot| slot + 1)];
                unknown
                    .into_iter()
                    .flat_map(|slot| [eject(slot, 1_000), Change::Probe(slot), Change::Admit(slot)])
                    .collect()
            }
            Deed::Flood => slots.cycle().map(|slot| eject(slot, 1_000)).take(FLOOD).collect(),
            Deed::Flap => slots.flat_map(|slot| [eject(slot, 1_000), Change::Admit(slot)]).collect(),
        }
    }

    fn save(&self) -> Vec<u8> {
        self.misbehave(Call::Save);
        match self.state {
            State::None => Vec::new(),
            State::Huge => vec![7; HUGE_STATE_BYTES],
            State::Noise => (0..1_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect(),
        }
    }

    fn restore(&mut self, _: &[u8]) -> Result<(), String> {
        self.misbehave(Call::Restore);
        Err("a hostile policy keeps no state".to_owned())
    }
}

impl Hostile {
    fn misbehave(&self, call: Call) {
        if call == self.trap_in {
            panic!("as the settings say");
        }
        if call == self.spin_in {
            loop {
                std::hint::black_box(&self.slots);
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

fn eject(slot: Slot, duration_ms: u32) -> Change {
    Change::Eject(Ejection { slot, duration_ms, reason: "as the settings say".to_owned() })
}

sluice_sdk::failover!(Hostile);
