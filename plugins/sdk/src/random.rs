//! Pure functions over 64 random bits: a pick is given fresh ones and needs no generator of its own.

/// 2^64 divided by the golden ratio, the increment of SplitMix64 (Steele, Lea, Flood, "Fast Splittable
/// Pseudorandom Number Generators", OOPSLA 2014).
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The `n`-th value of the SplitMix64 sequence that begins at `seed`. Values for different `n` are
/// independent for every practical purpose; the same arguments give the same value everywhere.
#[inline]
pub fn mix(seed: u64, n: u64) -> u64 {
    let mut z = seed.wrapping_add(GOLDEN.wrapping_mul(n.wrapping_add(1)));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Uniform below `bound`, from the upper half of `random` (multiplication instead of division: Lemire,
/// "Fast Random Integer Generation in an Interval", 2019; the bias is below `bound` / 2^32).
#[inline]
pub fn below(random: u64, bound: u32) -> u32 {
    (((random >> 32) * u64::from(bound)) >> 32) as u32
}

/// A hash of bytes, the same everywhere and for ever (FNV-1a, finished by [`mix`]). Not against an adversary who
/// looks for collisions.
pub fn hash(bytes: &[u8]) -> u64 {
    let fnv = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3));
    mix(fnv, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_never_changes() {
        // What a policy makes of a name must be the same on every gateway and in every version.
        assert_eq!(hash(b""), mix(0xcbf2_9ce4_8422_2325, 0));
        assert_eq!(hash(b"a"), mix(0xaf63_dc4c_8601_ec8c, 0), "FNV-1a's published value for a");
    }

    #[test]
    fn below_is_uniform_and_never_reaches_its_bound() {
        let mut counts = [0_u32; 7];
        for n in 0..70_000 {
            counts[below(mix(1, n), 7) as usize] += 1;
        }
        for count in counts {
            assert!((9_600..10_400).contains(&count), "{counts:?}");
        }
        assert_eq!(below(u64::MAX, 7), 6);
        assert_eq!(below(u64::MAX, u32::MAX), u32::MAX - 1);
    }
}
