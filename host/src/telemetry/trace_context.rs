//! Names by which a request is found again beyond the gateway: the trace that it belongs to (W3C Trace Context)
//! and `x-request-id`.
//!
//! The gateway takes part in a trace as a hop of its own: it goes on with the caller's, or begins one, and is the
//! parent of what the endpoint does. `tracestate` belongs to the trace of the `traceparent` beside it, so it is
//! passed on unchanged with that and dropped without (https://www.w3.org/TR/trace-context-1/, sections 3 and 4).

use http::{HeaderMap, HeaderName, HeaderValue, header::Entry};

pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// `00-` trace id `-` parent id `-` flags.
const TRACEPARENT_LEN: usize = 2 + 1 + 32 + 1 + 16 + 1 + 2;
const TRACE_ID: std::ops::Range<usize> = 3..35;
const PARENT_ID: std::ops::Range<usize> = 36..52;
const FLAGS: std::ops::Range<usize> = 53..55;

/// The only flag of version 00.
const SAMPLED: u8 = 1;

/// Longest id that is taken over from a client: room for two UUIDs and a prefix, too short to fill a log.
const REQUEST_ID_LEN_MAX: usize = 128;

/// Makes the headers of an outgoing request continue the trace that they carry, with this gateway as the parent;
/// where they carry none that is right, they begin one and lose their `tracestate`.
pub fn propagate(headers: &mut HeaderMap, rng: &mut fastrand::Rng) {
    let continued = match headers.entry(TRACEPARENT) {
        Entry::Occupied(mut incoming) => {
            let alone = incoming.iter().nth(1).is_none();
            let parent = Parent::parse(incoming.get().as_bytes()).filter(|_| alone);
            incoming.insert(match &parent {
                Some(parent) => parent.child(rng),
                None => begin(rng),
            });
            parent.is_some()
        }
        Entry::Vacant(none) => {
            none.insert(begin(rng));
            false
        }
    };
    if !continued {
        headers.remove(TRACESTATE);
    }
}

/// The client's own id where it has one that is fit for logs, else a new one.
pub fn request_id(incoming: Option<&HeaderValue>, rng: &mut fastrand::Rng) -> HeaderValue {
    match incoming {
        Some(id) if is_fit(id.as_bytes()) => id.clone(),
        _ => generate(rng),
    }
}

/// What of a `traceparent` is carried on.
struct Parent {
    /// As it stands in the header: 32 hex digits.
    trace_id: [u8; 32],
    sampled: bool,
}

impl Parent {
    /// None for what section 3.2 calls invalid. A version after 00 is read as far as 00 goes, as the section on
    /// versioning asks.
    fn parse(value: &[u8]) -> Option<Self> {
        let known = value.first_chunk::<TRACEPARENT_LEN>()?;
        let version: [u8; 2] = [known[0], known[1]];
        let length_right = match (&version, value.get(TRACEPARENT_LEN)) {
            (_, None) => true,
            (b"00", Some(_)) => false,
            (_, Some(next)) => *next == b'-',
        };
        let dashes_right = [2, 35, 52].iter().all(|&at| known[at] == b'-');
        let is_hex = |digits: &[u8]| digits.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let is_id = |digits: &[u8]| is_hex(digits) && digits.iter().any(|&b| b != b'0');
        let right = length_right
            && dashes_right
            && is_hex(&version)
            && version != *b"ff"
            && is_id(&known[TRACE_ID])
            && is_id(&known[PARENT_ID])
            && is_hex(&known[FLAGS]);
        let last_digit = (known[FLAGS.end - 1] as char).to_digit(16)?;
        let trace_id = known[TRACE_ID].try_into().expect("a trace id is 32 bytes");
        right.then_some(Self { trace_id, sampled: last_digit as u8 & SAMPLED != 0 })
    }

    /// The same trace and decision, this gateway as parent, in the version that the gateway speaks.
    fn child(&self, rng: &mut fastrand::Rng) -> HeaderValue {
        traceparent(self.trace_id, self.sampled, rng)
    }
}

/// A new trace, marked as sampled: services whose samplers follow their parent (OpenTelemetry's default) would
/// record nothing otherwise, and did record when they had no parent.
fn begin(rng: &mut fastrand::Rng) -> HeaderValue {
    let mut trace_id = [0; 32];
    write_hex(&mut trace_id, &rng.u128(1..).to_be_bytes());
    traceparent(trace_id, true, rng)
}

fn traceparent(trace_id: [u8; 32], sampled: bool, rng: &mut fastrand::Rng) -> HeaderValue {
    let mut value = *b"00-00000000000000000000000000000000-0000000000000000-00";
    value[TRACE_ID].copy_from_slice(&trace_id);
    write_hex(&mut value[PARENT_ID], &rng.u64(1..).to_be_bytes());
    value[FLAGS.end - 1] = b'0' + u8::from(sampled);
    HeaderValue::from_bytes(&value).expect("hex digits and dashes are a header value")
}

/// 128 random bits in hex. Not secret: it names a request and grants nothing.
fn generate(rng: &mut fastrand::Rng) -> HeaderValue {
    let mut digits = [0; 32];
    write_hex(&mut digits, &rng.u128(..).to_be_bytes());
    HeaderValue::from_bytes(&digits).expect("hex digits are a header value")
}

/// The characters of UUIDs, ULIDs, base64 in both alphabets, and paths of ids; none that a log or a shell reads
/// as more than a character.
fn is_fit(id: &[u8]) -> bool {
    let fit = |b: &u8| b.is_ascii_alphanumeric() || b"-_.:/+=~@".contains(b);
    !id.is_empty() && id.len() <= REQUEST_ID_LEN_MAX && id.iter().all(fit)
}

/// Lower case. `digits` is twice as long as `bytes`. Without a table or a branch, so that it is vectorised: it
/// runs three times a request.
fn write_hex(digits: &mut [u8], bytes: &[u8]) {
    let digit = |nibble: u8| nibble + b'0' + u8::from(nibble > 9) * (b'a' - b'9' - 1);
    for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
        pair[0] = digit(byte >> 4);
        pair[1] = digit(byte & 15);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RIGHT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn propagated(traceparents: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(TRACESTATE, HeaderValue::from_static("vendor=1"));
        for value in traceparents {
            headers.append(TRACEPARENT, HeaderValue::from_bytes(value.as_bytes()).expect("a header value"));
        }
        propagate(&mut headers, &mut fastrand::Rng::with_seed(7));
        headers
    }

    fn value(headers: &HeaderMap) -> &str {
        assert_eq!(headers.get_all(TRACEPARENT).iter().count(), 1);
        headers[TRACEPARENT].to_str().expect("ASCII")
    }

    #[test]
    fn a_trace_goes_on_with_the_gateway_as_parent() {
        let headers = propagated(&[RIGHT]);
        let next = value(&headers);
        assert_eq!(next[..36], RIGHT[..36]);
        assert_ne!(next[PARENT_ID], RIGHT[PARENT_ID]);
        assert_eq!(&next[52..], "-01");
        assert_eq!(headers[TRACESTATE], "vendor=1");
        assert!(Parent::parse(next.as_bytes()).is_some());

        let unsampled = propagated(&["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-fe"]);
        assert!(value(&unsampled).ends_with("-00"), "flags that version 00 does not know are not passed on");
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        for later in [
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-comes",
        ] {
            let headers = propagated(&[later]);
            assert!(value(&headers).starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-"));
            assert!(headers.contains_key(TRACESTATE));
        }
    }

    #[test]
    fn what_is_invalid_begins_a_new_trace_without_the_old_state() {
        let wrong: [&[&str]; 14] = [
            &[],
            &[""],
            &[RIGHT, RIGHT],
            &["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more"],
            &["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01."],
            &["cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.what"],
            &["ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"],
            &["0x-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"],
            &["00-00000000000000000000000000000000-00f067aa0ba902b7-01"],
            &["00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01"],
            &["00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01"],
            &["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0g"],
            &["00-4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7-01"],
            &["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7"],
        ];
        for given in wrong {
            let headers = propagated(given);
            let next = value(&headers);
            assert!(Parent::parse(next.as_bytes()).is_some(), "{given:?} became {next}");
            assert!(!next.contains("4bf92f3577b34da6a3ce929d0e0e4736"), "{given:?} became {next}");
            assert!(next.ends_with("-01"));
            assert!(!headers.contains_key(TRACESTATE), "{given:?}");
        }
    }

    #[test]
    fn a_fit_id_is_kept_and_another_replaced() {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut answer = |given: &[u8]| {
            let given = HeaderValue::from_bytes(given).expect("a header value");
            let answer = request_id(Some(&given), &mut rng);
            (answer == given, answer)
        };
        assert!(answer(b"7b3f9c1e-2a54-4f0e-9a55-0d8f5b8f1c11").0);
        assert!(answer(&[b'a'; REQUEST_ID_LEN_MAX]).0);
        for wrong in [&b""[..], &[b'a'; REQUEST_ID_LEN_MAX + 1], b"a b", b"a\"b", b"\xc3\xa9", b"${jndi}"] {
            let (kept, id) = answer(wrong);
            assert!(!kept, "{wrong:?}");
            assert_eq!(id.len(), 32);
            assert!(is_fit(id.as_bytes()));
        }
    }

    #[test]
    fn new_ids_differ() {
        let mut rng = fastrand::Rng::with_seed(7);
        assert_ne!(request_id(None, &mut rng), request_id(None, &mut rng));
    }
}
