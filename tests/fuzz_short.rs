//! The fuzz targets for a few seconds, from a printed seed: `SLUICE_FUZZ_SEED=… SLUICE_FUZZ_RUNS=…` repeats one or
//! goes on for longer. What libFuzzer does with the same functions stands in `tests/fuzz/`.

#[path = "fuzz/src/lib.rs"]
mod fuzz;
#[path = "raw/http1.rs"]
mod http1;

use std::panic::{AssertUnwindSafe, catch_unwind};

use fastrand::Rng;
use http1::Case;

const RUNS: u64 = 3_000;

/// Short inputs are tried more often in the same time.
const SHORT: usize = 2_000;

fn number(variable: &str) -> Option<u64> {
    Some(std::env::var(variable).ok()?.parse().unwrap_or_else(|_| panic!("{variable} must be a number")))
}

/// Runs a check on inputs that are made from the seed and the run's number; shows the input that fails.
fn run(check: impl Fn(&[u8]), input: impl Fn(&mut Rng) -> Vec<u8>) {
    let seed = number("SLUICE_FUZZ_SEED").unwrap_or_else(|| fastrand::u64(..));
    println!("SLUICE_FUZZ_SEED={seed}");
    for run in 0..number("SLUICE_FUZZ_RUNS").unwrap_or(RUNS) {
        let data = input(&mut Rng::with_seed(seed.wrapping_add(run)));
        if let Err(cause) = catch_unwind(AssertUnwindSafe(|| check(&data))) {
            println!("run {run} of seed {seed}, input b\"{}\"", data.escape_ascii());
            std::panic::resume_unwind(cause);
        }
    }
}

#[test]
fn what_the_guard_passes_has_one_reading() {
    let mut corpus = http1::cases();
    corpus.retain(|case| case.raw.len() < SHORT);
    for case in &corpus {
        let served = case.statuses.iter().filter(|&&status| status == 200).count();
        assert_eq!(fuzz::guard::check(&case.raw), served, "{}", case.name);
    }
    let check = |data: &[u8]| {
        fuzz::guard::check(data);
    };
    run(check, |rng| mutate(rng, &corpus));
}

/// Pieces from which most attacks on framing are made.
const PIECES: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b" ",
    b"\t",
    b"\0",
    b":",
    b",",
    b";",
    b"_",
    b"0\r\n\r\n",
    b"chunked",
    b"Transfer-Encoding: chunked\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: 0\r\n",
    b"Connection: close\r\n",
    b"Expect: 100-continue\r\n",
    b"Upgrade: x\r\n",
    b"Host: a\r\n",
    b"hello",
    b"5\r\nhello\r\n",
    b"HTTP/1.0",
];

/// One or two of the corpus, with up to four changes.
fn mutate(rng: &mut Rng, corpus: &[Case]) -> Vec<u8> {
    let mut data = corpus[rng.usize(..corpus.len())].raw.clone();
    if rng.bool() {
        data.extend_from_slice(&corpus[rng.usize(..corpus.len())].raw);
    }
    for _ in 0..rng.usize(0..=4) {
        let at = rng.usize(0..=data.len());
        let end = (at + rng.usize(0..8)).min(data.len());
        match rng.u8(0..5) {
            0 => drop(data.splice(at..at, PIECES[rng.usize(..PIECES.len())].iter().copied())),
            1 => drop(data.drain(at..end)),
            2 => drop(data.splice(at..end, PIECES[rng.usize(..PIECES.len())].iter().copied())),
            3 if at < data.len() => data[at] = rng.u8(..),
            _ => data.extend_from_within(at..end),
        }
    }
    data
}
