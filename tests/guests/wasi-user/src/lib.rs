//! A balancer that imports WASI 0.2, as components of toolchains with a libc do: it writes to stdout and stderr,
//! reads the clocks, takes random numbers.
//!
//! Its setting `then`: `go-on`, or what else `configure` does: `exit` (a trap), `files` (lists the folders it was given,
//! and traps if there is one). Picks are random, by WASI's generator.

use sluice_sdk::{Balancer, Context, Endpoint, InstantUs, Request, Settings, Slot};
use wasip2::{
    cli::{environment, exit, stderr, stdout},
    clocks::{monotonic_clock, wall_clock},
    filesystem::preopens,
    random::random,
};

#[derive(Clone, Copy)]
enum Then {
    GoOn,
    Exit,
    Files,
}

struct WasiUser(Vec<Slot>);

impl Balancer for WasiUser {
    fn configure(_: &Context, settings: &mut Settings) -> Self {
        let names = [("go-on", Then::GoOn), ("exit", Then::Exit), ("files", Then::Files)];
        match settings.one_of("then", &names) {
            Then::GoOn => {}
            Then::Exit => exit::exit(Err(())),
            Then::Files => assert!(preopens::get_directories().is_empty(), "nobody gave a folder"),
        }
        let began = monotonic_clock::now();
        let seconds = wall_clock::now().seconds;
        let variables = environment::get_environment().len();
        let line = format!("variables {variables}, after 1970: {}\n", seconds > 0);
        // A stream that is closed is no reason to fail.
        let _ = stdout::get_stdout().blocking_write_and_flush(line.as_bytes());
        if monotonic_clock::now() < began {
            let _ = stderr::get_stderr().blocking_write_and_flush(b"time runs backwards\n");
        }
        Self(Vec::new())
    }

    fn update(&mut self, endpoints: &[Endpoint], _: InstantUs) {
        self.0 = endpoints.iter().filter(|endpoint| endpoint.available).map(|endpoint| endpoint.slot).collect();
    }

    fn pick(&mut self, _: &Request) -> Option<Slot> {
        let count = self.0.len() as u64;
        (count > 0).then(|| self.0[(random::get_random_u64() % count) as usize])
    }
}

sluice_sdk::balancer!(WasiUser);
