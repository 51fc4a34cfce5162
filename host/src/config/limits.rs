//! `[gateway.limits]`: what one client may take.

use std::{ops::RangeInclusive, time::Duration};

use super::reader::Value;
use crate::model::Limits;

/// hyper's HTTP/1 buffer is no smaller than 8 KiB; a head above 1 MiB is an attack.
const HEADER_BYTES: RangeInclusive<u64> = 8 * 1024..=1024 * 1024;
/// Browsers send about 20 fields; below 16 ordinary requests would be refused.
const HEADER_COUNT: RangeInclusive<i64> = 16..=1000;
const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60 * 60);
/// Up to 1 EiB, beyond which no transfer ends.
const BODY_BYTES: RangeInclusive<u64> = 0..=1 << 60;
/// As many file descriptors as Linux gives a process at most (`fs.nr_open`).
const CONNECTIONS: RangeInclusive<i64> = 1..=1_048_576;
const H2_STREAMS: RangeInclusive<i64> = 1..=10_000;

pub(super) fn read(value: &Value<'_>) -> Option<Limits> {
    let mut table = value.table("a table: [gateway.limits]")?;
    let mut limits = Limits::default();
    table
        .set(&mut limits.header_bytes_max, "header_bytes_max", |value| usize::try_from(value.size(HEADER_BYTES)?).ok());
    table.set(&mut limits.header_count_max, "header_count_max", |value| whole(value, HEADER_COUNT));
    table.set(&mut limits.header_read_timeout, "header_read_timeout", |value| value.duration(TIMEOUT));
    table.set(&mut limits.keep_alive_timeout, "keep_alive_timeout", |value| value.duration(TIMEOUT));
    table.set(&mut limits.body_read_timeout, "body_read_timeout", |value| value.duration(TIMEOUT));
    table.set(&mut limits.write_timeout, "write_timeout", |value| value.duration(TIMEOUT));
    table.set(&mut limits.body_bytes_max, "body_bytes_max", |value| value.size(BODY_BYTES));
    table.set(&mut limits.connections_max, "connections_max", |value| whole(value, CONNECTIONS));
    table.set(&mut limits.h2_streams_max, "h2_streams_max", |value| whole(value, H2_STREAMS));
    table.finish();
    Some(limits)
}

/// A whole number that fits its place.
pub(super) fn whole<T: TryFrom<i64>>(value: &Value<'_>, range: RangeInclusive<i64>) -> Option<T> {
    T::try_from(value.integer(range)?).ok()
}
