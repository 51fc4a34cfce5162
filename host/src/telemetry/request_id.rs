//! `x-request-id`: the name under which a request is found again in every log that it left a line in.

use http::{HeaderName, HeaderValue};

use super::trace_context::write_hex;

pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest id that is taken over from a client: room for two UUIDs and a prefix, too short to fill a log.
const REQUEST_ID_LEN_MAX: usize = 128;

/// The client's own id where it has one that is fit for logs, else a new one.
pub fn request_id(incoming: Option<&HeaderValue>, rng: &mut fastrand::Rng) -> HeaderValue {
    match incoming {
        Some(id) if is_fit(id.as_bytes()) => id.clone(),
        _ => generate(rng),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

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
