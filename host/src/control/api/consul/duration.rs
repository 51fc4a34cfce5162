//! Durations as Go writes them, in which Consul's API speaks.

use std::time::Duration;

/// Such as `10s`, `1m30s`, `1.5h` or `250ms`; units from `ns` to `h`. None where it is none, or longer than 292 years,
/// where Go's end.
pub fn parse(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut sum_ns: f64 = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        sum_ns += number * unit_ns(&rest[..end])?;
        rest = &rest[end..];
    }
    (!text.is_empty() && sum_ns <= i64::MAX as f64).then(|| Duration::from_nanos(sum_ns as u64))
}

fn unit_ns(unit: &str) -> Option<f64> {
    Some(match unit {
        "ns" => 1.0,
        "us" | "µs" | "μs" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        "m" => 60e9,
        "h" => 3600e9,
        _ => return None,
    })
}

/// As Go would write it, such as `1m30s`: whole units from hours to nanoseconds, without those that are 0.
pub fn text(duration: Duration) -> String {
    let ns = duration.as_nanos();
    if ns == 0 {
        return "0s".to_owned();
    }
    if ns < 1_000_000_000 {
        let (unit, per) =
            [("ms", 1_000_000), ("µs", 1_000)].into_iter().find(|(_, per)| ns >= *per).unwrap_or(("ns", 1));
        return format!("{}{unit}", ns as f64 / per as f64);
    }
    let (hours, minutes) = (duration.as_secs() / 3600, duration.as_secs() / 60 % 60);
    let seconds = (duration.as_secs() % 60) as f64 + f64::from(duration.subsec_nanos()) / 1e9;
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        for (text, ms) in
            [("10s", 10_000), ("1m30s", 90_000), ("1.5h", 5_400_000), ("250ms", 250), ("0", 0), ("2h45m0s", 9_900_000)]
        {
            assert_eq!(parse(text), Some(Duration::from_millis(ms)), "{text}");
        }
        for wrong in ["", "10", "s", "-1s", "1x", "1s ", "1..5s", "10 s", "9999999999h", "1e3s", "."] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn durations_are_written_as_go_writes_them() {
        for given in ["10s", "1m30s", "250ms", "1h0m0s", "0s", "1.5s"] {
            assert_eq!(text(parse(given).expect("right")), given);
        }
    }
}
