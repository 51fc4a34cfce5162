//! Ejections in the form that all policies share: so they survive not only another version, but another policy.

use crate::{
    InstantUs,
    state::{Reader, Writer},
};

/// Records of an endpoint's key, until when it is ejected, and how often in a row it was.
pub const FORMAT: &str = "ejections/1";
const RECORD_LEN: usize = 24;

/// The longest ejection that the gateway accepts (`ejection.duration-ms` in `wit/failover.wit`).
pub const EJECTION_MS_MAX: u32 = 3_600_000;

/// Beyond what any policy distinguishes; what is more, in a state that somebody else saved, is nonsense.
const TIMES_MAX: u64 = 10_000;

/// What is kept of one endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Saved {
    pub key: u64,
    /// None: it is not ejected. In the past where it is on probation since then.
    pub until: Option<InstantUs>,
    /// How often it was ejected, less what was forgiven since.
    pub times: u32,
}

/// Empty where there is nothing to keep.
pub fn saved(records: impl Iterator<Item = Saved>) -> Vec<u8> {
    let mut state = Writer::new(FORMAT);
    let mut empty = true;
    for Saved { key, until, times } in records.filter(|record| record.until.is_some() || record.times > 0) {
        empty = false;
        state.u64(key);
        state.u64(until.unwrap_or(0));
        state.u64(u64::from(times));
    }
    if empty { Vec::new() } else { state.finish() }
}

/// What [`saved`] wrote. No ejection lasts longer from `now` than the gateway would let it.
pub fn restored(state: &[u8], now: InstantUs) -> Result<Vec<Saved>, String> {
    let mut state = Reader::new(FORMAT, RECORD_LEN, state)?;
    let latest = now + u64::from(EJECTION_MS_MAX) * 1_000;
    let mut records = Vec::new();
    while !state.is_empty() {
        let (key, until, times) = (state.u64(), state.u64(), state.u64());
        let until = (until > 0).then(|| until.min(latest));
        records.push(Saved { key, until, times: times.min(TIMES_MAX) as u32 });
    }
    Ok(records)
}

/// A duration as the gateway takes it: whole milliseconds, at least one, rounded up.
pub fn ejection_ms(duration_us: u64) -> u32 {
    duration_us.div_ceil(1_000).clamp(1, u64::from(EJECTION_MS_MAX)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_saved_is_restored_and_what_is_not_worth_it_is_left_out() {
        let records = [
            Saved { key: 1, until: Some(50), times: 3 },
            Saved { key: 2, until: None, times: 0 },
            Saved { key: 3, until: None, times: 1 },
        ];
        let state = saved(records.into_iter());
        assert_eq!(restored(&state, 10), Ok(vec![records[0], records[2]]));
        assert!(saved(records[1..2].iter().copied()).is_empty());
    }

    #[test]
    fn a_state_full_of_nonsense_ejects_nobody_for_ever() {
        let state = saved([Saved { key: 1, until: Some(u64::MAX), times: u32::MAX }].into_iter());
        assert_eq!(restored(&state, 5), Ok(vec![Saved { key: 1, until: Some(3_600_000_005), times: 10_000 }]));
        assert!(restored(b"quantile/1\n", 5).unwrap_err().contains("not of the format ejections/1"));
    }

    #[test]
    fn durations_are_what_the_gateway_accepts() {
        assert_eq!([0, 1, 1_000, 1_001, u64::MAX].map(ejection_ms), [1, 1, 1, 2, EJECTION_MS_MAX]);
    }
}
