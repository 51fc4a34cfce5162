//! What two parsers could read in two ways is refused with its status and a closed connection, and nothing of it
//! arrives at an endpoint.

#[path = "raw/http1.rs"]
mod http1;

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use http1::Case;
use sluice_harness::{RawConnection, RawOrigin, Sluice, any_route, raw_origin, sluice, wait_until};

/// Sent byte by byte only where that is quick.
const BYTEWISE_LEN_MAX: usize = 400;

/// Well within the time for which the gateway bears with a client that it has refused (`LINGER_TIMEOUT`).
const SENT_WITHIN: Duration = Duration::from_secs(1);

/// An endpoint that keeps each whole request that it is sent, and a gateway in front of it.
struct Bench {
    requests: Arc<Mutex<Vec<Vec<u8>>>>,
    _origin: RawOrigin,
    gateway: Sluice,
}

impl Bench {
    fn start() -> Self {
        let requests = Arc::<Mutex<Vec<Vec<u8>>>>::default();
        let kept = Arc::clone(&requests);
        let origin = RawOrigin::start(move |mut exchange| {
            while let Some(request) = exchange.read_request() {
                kept.lock().expect("no holder panics").push(request);
                exchange.write(raw_origin::OK);
            }
        });
        let gateway = sluice!().config(any_route("origin", &[origin.address()], "")).start();
        Self { requests, _origin: origin, gateway }
    }

    /// Sends the case and looks at both sides. The error says what is not as it should be.
    fn check(&self, case: &Case, send: impl Fn(&mut RawConnection, &[u8])) -> Result<(), String> {
        let mut client = RawConnection::to(self.gateway.address());
        send(&mut client, &case.raw);
        for (index, &status) in case.statuses.iter().enumerate() {
            let answer = client.try_read_answer().map_err(|error| format!("answer {index}: {error}"))?;
            let as_it_should_be = answer.status == status
                && (status == 200
                    || answer.header("content-type") == Some("application/problem+json")
                        && answer.header("connection") == Some("close")
                        && answer.text().contains(r#""stage":"guard""#));
            if !as_it_should_be {
                return Err(format!("answer {index}, which should be {status}: {answer:?} {}", answer.text()));
            }
            if status != 200 {
                client.expect_close();
            }
        }
        let arrived = std::mem::take(&mut *self.requests.lock().expect("no holder panics"));
        let served = case.statuses.iter().filter(|&&status| status == 200).count();
        if arrived.len() != served {
            return Err(format!("{} requests arrived, not {served}", arrived.len()));
        }
        arrived.iter().try_for_each(|request| has_one_reading(request).ok_or(request.escape_ascii().to_string()))
    }

    fn check_all(&self, cases: &[Case], send: impl Fn(&mut RawConnection, &[u8])) {
        let wrong: Vec<_> = cases
            .iter()
            .filter_map(|case| Some(format!("{}: {}", case.name, self.check(case, &send).err()?)))
            .collect();
        assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    }
}

/// Whether a request as it reached the endpoint has one reading only, and is not the hidden one.
fn has_one_reading(request: &[u8]) -> Option<()> {
    let text = String::from_utf8_lossy(request);
    let (head, _) = text.split_once("\r\n\r\n")?;
    let mut lines = head.split("\r\n");
    let is_hidden = lines.next()?.contains("/smuggled");
    let names: Option<Vec<_>> = lines.map(|line| Some(line.split_once(':')?.0.to_ascii_lowercase())).collect();
    let names = names?;
    let count = |wanted: &str| names.iter().filter(|name| *name == wanted).count();
    let is_clear = !head.replace("\r\n", "").contains(['\r', '\n', '\0'])
        && names.iter().all(|name| !name.contains(char::is_whitespace))
        && count("host") == 1
        && count("content-length") + count("transfer-encoding") <= 1;
    (is_clear && !is_hidden).then_some(())
}

#[test]
fn no_ambiguous_request_reaches_an_endpoint() {
    // The gateway may close while the rest is still being sent.
    Bench::start().check_all(&http1::cases(), |client, raw| drop(client.try_send(raw)));
}

#[test]
fn no_ambiguous_request_reaches_an_endpoint_byte_by_byte() {
    let mut short = http1::cases();
    short.retain(|case| case.raw.len() <= BYTEWISE_LEN_MAX);
    Bench::start().check_all(&short, |client, raw| drop(raw.chunks(1).try_for_each(|byte| client.try_send(byte))));
}

#[test]
fn a_client_that_sends_on_after_a_refusal_still_reads_it() {
    let bench = Bench::start();
    let piece = vec![b'x'; 64 * 1024];
    wait_until("a client to send all of it in time", || {
        let mut client = RawConnection::to(bench.gateway.address());
        let begun = Instant::now();
        client.send("POST / HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 5, 5\r\n\r\n");
        let is_sent = (0..8).all(|_| client.try_send(&piece).is_ok());
        // One that a busy machine has held up for longer than the gateway waits shows nothing.
        let is_in_time = begun.elapsed() < SENT_WITHIN;
        if is_in_time {
            assert!(is_sent, "the gateway has reset a client that was still sending");
            assert_eq!(client.read_answer().status, 400);
        }
        is_in_time
    });
}

#[test]
fn refusals_are_counted_by_reason() {
    let bench = Bench::start();
    let refusals = || bench.gateway.metric("sluice_requests_refused_total", &["reason=\"length-and-coding\""]);
    let before = refusals();
    let case = http1::cases().into_iter().find(|case| case.name == "length and chunked").expect("in the table");
    bench.check(&case, |client, raw| client.send(raw)).expect(case.name);
    assert_eq!(refusals() - before, 1.0);
}
