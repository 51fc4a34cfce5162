//! Randomness of a run: streams that are independent of each other, all of them made of one seed.

/// What a stream is for. Each its own, so that another policy does not change the arrivals or the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Arrivals,
    Gateway,
    /// One an instance, so that it does not matter what others there are.
    Instance {
        worker: u64,
        kind: u64,
    },
    /// One a try of a request: however policies differ, the n-th try of a request is the same work in every run.
    Work {
        request: u64,
        attempt: u64,
    },
}

pub fn stream(seed: u64, stream: Stream) -> fastrand::Rng {
    let (kind, request, attempt) = match stream {
        Stream::Arrivals => (1, 0, 0),
        Stream::Gateway => (2, 0, 0),
        Stream::Instance { worker, kind } => (3, worker, kind),
        Stream::Work { request, attempt } => (4, request, attempt),
    };
    let seed = [kind, request, attempt].into_iter().fold(seed, |mixed, part| mix(mixed ^ mix(part)));
    fastrand::Rng::with_seed(seed)
}

/// With mean 1.
pub fn exponential(random: &mut fastrand::Rng) -> f64 {
    // In (0, 1], of which the logarithm is finite.
    -(1.0 - random.f64()).ln()
}

/// Box and Muller 1958.
pub fn standard_normal(random: &mut fastrand::Rng) -> f64 {
    let (radius, angle) = ((2.0 * exponential(random)).sqrt(), std::f64::consts::TAU * random.f64());
    radius * angle.cos()
}

/// `SplitMix64` (Steele, Lea, Flood 2014).
fn mix(value: u64) -> u64 {
    let mut mixed = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_differ_from_each_other_and_not_from_themselves() {
        let first = |seed, kind| stream(seed, kind).u64(..);
        let work = |request, attempt| Stream::Work { request, attempt };
        let instance = Stream::Instance { worker: 0, kind: 0 };
        let kinds = [Stream::Arrivals, Stream::Gateway, instance, work(0, 0), work(0, 1), work(1, 0)];
        let mut drawn: Vec<u64> = kinds.into_iter().flat_map(|kind| [first(1, kind), first(2, kind)]).collect();
        assert_eq!(first(1, Stream::Arrivals), drawn[0]);
        drawn.sort_unstable();
        drawn.dedup();
        assert_eq!(drawn.len(), 2 * kinds.len());
    }
}
