//! Events as JSON, the way CloudEvents 1.0.2 has them ("JSON Event Format").

use super::Event;
use crate::json::{self, Value, quoted};

/// Content type of what [`Event::structured`] makes.
pub const STRUCTURED: &str = "application/cloudevents+json";

impl Event {
    /// The data, where it is JSON.
    pub fn json(&self) -> Option<Value> {
        self.json_text().and_then(json::parse)
    }

    pub fn extension(&self, name: &str) -> Option<&str> {
        self.draft.extensions.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    /// The whole event in structured mode. Data that is neither JSON nor text stands in `data_base64`.
    pub fn structured(&self) -> String {
        let draft = &self.draft;
        let mut text = String::with_capacity(512 + draft.data.len());
        text.push_str("{\"specversion\":\"1.0\"");
        let mut member = |name: &str, value: &str| {
            text.push_str(",\"");
            text.push_str(name);
            text.push_str("\":");
            text.push_str(value);
        };
        member("id", &quoted(&self.id));
        member("source", &quoted(&self.source));
        member("type", &quoted(&draft.event_type));
        member("time", &quoted(&rfc3339(self.time_ms)));
        if let Some(subject) = &draft.subject {
            member("subject", &quoted(subject));
        }
        if !draft.content_type.is_empty() {
            member("datacontenttype", &quoted(&draft.content_type));
        }
        member("stream", &quoted(&draft.stream_name));
        member("revision", &quoted(&self.revision.to_string()));
        member("position", &quoted(&self.position.to_string()));
        for (name, value) in &draft.extensions {
            member(name, &quoted(value));
        }
        if !draft.data.is_empty() {
            let is_json = is_json(&draft.content_type);
            match std::str::from_utf8(&draft.data) {
                Ok(data) if is_json && json::parse(data).is_some() => member("data", data.trim()),
                Ok(data) if !is_json && draft.content_type.starts_with("text/") => member("data", &quoted(data)),
                _ => member("data_base64", &format!("\"{}\"", base64(&draft.data))),
            }
        }
        text.push('}');
        text
    }

    fn json_text(&self) -> Option<&str> {
        let text = std::str::from_utf8(&self.draft.data).ok();
        text.filter(|_| is_json(&self.draft.content_type))
    }
}

/// `application/json`, anything that ends in `+json`, and what has no type at all (JSON is the format's own).
fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence.is_empty() || essence.ends_with("/json") || essence.ends_with("+json")
}

/// Milliseconds since 1970 as a time of RFC 3339, in UTC. The date is "days to civil" of H. Hinnant, "chrono-Compatible
/// Low-Level Date Algorithms".
pub fn rfc3339(unix_ms: u64) -> String {
    let (days, ms) = (unix_ms / 86_400_000, unix_ms % 86_400_000);
    let since_march_0000 = days + 719_468;
    let (era, day_of_era) = (since_march_0000 / 146_097, since_march_0000 % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", ms % 1_000)
}

/// RFC 4648 §4.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = (0..3).fold(0_u32, |bits, at| bits << 8 | u32::from(group.get(at).copied().unwrap_or(0)));
        for at in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * at) & 63) as usize];
            text.push(if at <= group.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::event_handler::event;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
            (1_769_860_800_123, "2026-01-31T12:00:00.123Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc3339(ms), text);
        }
    }

    #[test]
    fn base64_is_padded() {
        for (plain, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(plain.as_bytes()), text);
        }
        assert_eq!(base64(&[0xfb, 0xff]), "+/8=");
    }

    #[test]
    fn an_event_is_the_json_that_cloudevents_has() {
        let mut event = event("orders-1", "order.placed", r#" {"total": 10000000000000000001} "#);
        event.draft.subject = Some("c-\"7\"".to_owned());
        event.draft.extensions.push(("traceparent".to_owned(), "00-1".to_owned()));
        let json: serde_json::Value = serde_json::from_str(&event.structured()).expect("JSON");
        assert_eq!(json["specversion"], "1.0");
        assert_eq!((&json["type"], &json["stream"]), (&"order.placed".into(), &"orders-1".into()));
        assert_eq!((&json["subject"], &json["traceparent"]), (&"c-\"7\"".into(), &"00-1".into()));
        assert_eq!(json["datacontenttype"], "application/json");
        assert!(event.structured().contains(r#""data":{"total": 10000000000000000001}"#), "no digit is lost");
    }

    #[test]
    fn data_that_is_no_json_is_text_or_base64() {
        let data = |content_type: &str, data: &[u8]| {
            let mut event = event("s", "t", "");
            (event.draft.content_type, event.draft.data) = (content_type.to_owned(), data.to_vec());
            let json: serde_json::Value = serde_json::from_str(&event.structured()).expect("JSON");
            (json["data"].clone(), json["data_base64"].clone())
        };
        let null = serde_json::Value::Null;
        assert_eq!(data("text/plain", b"a\nb"), ("a\nb".into(), null.clone()));
        assert_eq!(data("application/octet-stream", b"foo"), (null.clone(), "Zm9v".into()));
        assert_eq!(data("application/json", b"{"), (null.clone(), "ew==".into()));
        assert_eq!(data("text/plain", b"\xff"), (null.clone(), "/w==".into()));
        assert_eq!(data("application/json", b""), (null.clone(), null));
    }
}
