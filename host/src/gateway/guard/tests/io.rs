//! The guard between a socket and hyper: what the service sees, what the client reads, what the reaper is told.

use std::{cell::RefCell, convert::Infallible, future::Future, rc::Rc, task::Poll, time::Duration};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::limits;
use crate::gateway::guard::{CoarseClock, ConnState, GuardedIo, Overdue, Phase, Refusal, overdue, raise_hyper_limits};

/// A connection served by hyper behind a guard. The service answers a refused head with its status, `/wait` not
/// at all, and anything else with the length of its body or the refusal that ended it.
struct Served {
    client: DuplexStream,
    conn: Rc<ConnState>,
    clock: CoarseClock,
    /// What the service saw, in order.
    seen: Rc<RefCell<Vec<String>>>,
}

const SECOND_US: u64 = 1_000_000;

impl Served {
    fn start() -> Self {
        let (client, server) = duplex(64 * 1024);
        let clock = CoarseClock::starting_at(SECOND_US);
        let conn = ConnState::new(clock.clone());
        let seen = Rc::<RefCell<Vec<String>>>::default();
        let io = GuardedIo::new(server, Rc::clone(&conn), &limits(), Vec::new());
        let (state, log) = (Rc::clone(&conn), Rc::clone(&seen));
        let service = service_fn(move |request| answer(Rc::clone(&state), Rc::clone(&log), request));
        let mut builder = http1::Builder::new();
        builder.header_read_timeout(None);
        raise_hyper_limits(&mut builder, &limits());
        tokio::task::spawn_local(builder.serve_connection(io, service));
        Self { client, conn, clock, seen }
    }

    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.client.write_all(bytes.as_ref()).await.expect("the other side is open");
        settle().await;
    }

    /// All that comes until the connection ends.
    async fn rest(mut self) -> String {
        self.client.shutdown().await.expect("the other side is open");
        let mut rest = Vec::new();
        self.client.read_to_end(&mut rest).await.expect("the other side ends");
        String::from_utf8(rest).expect("the answers are text")
    }

    fn seconds_later(&self, seconds: u64) -> Option<Overdue> {
        overdue(&self.conn, self.clock.now_us() + seconds * SECOND_US, &limits())
    }
}

async fn answer(
    conn: Rc<ConnState>,
    seen: Rc<RefCell<Vec<String>>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let turn = conn.next_request();
    let path = request.uri().path().to_owned();
    let answer = |status, text: String| {
        let body = Full::new(Bytes::from(text));
        Response::builder().status(status).body(body).expect("the status is one")
    };
    if let Some(refusal) = turn.refusal() {
        let mut refused = answer(refusal.status(), refusal.to_string());
        refused.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
        return Ok(refused);
    }
    seen.borrow_mut().push(path.clone());
    if path == "/wait" {
        std::future::pending::<()>().await;
    }
    Ok(match request.into_body().collect().await {
        Ok(body) => answer(StatusCode::OK, body.to_bytes().len().to_string()),
        Err(error) => {
            let refusal = Refusal::behind(&error).expect("only the guard ends a body");
            answer(refusal.status(), refusal.to_string())
        }
    })
}

/// Runs what is ready to run.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default());
    let limit = Duration::from_secs(10);
    let test = async { tokio::time::timeout(limit, test).await.expect("within the deadline") };
    runtime.expect("a runtime").block_on(test);
}

fn statuses(answers: &str) -> Vec<&str> {
    answers.split("HTTP/1.1 ").skip(1).map(|rest| &rest[..3]).collect()
}

const GET: &str = "GET /good HTTP/1.1\r\nHost: a\r\n\r\n";
const CHUNKED: &str = "POST /body HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

#[test]
fn a_refused_head_is_answered_after_the_requests_before_it() {
    run(async {
        let mut served = Served::start();
        served.send(format!("{GET}{GET}GET /bad HTTP/1.1\nHost: a\r\n\r\n{GET}")).await;
        assert_eq!(*served.seen.borrow(), ["/good", "/good"], "the service never sees the bad head, nor what follows");
        let answers = served.rest().await;
        assert_eq!(statuses(&answers), ["200", "200", "400"]);
        assert!(answers.contains("LF alone"), "{answers}");
    });
}

#[test]
fn a_head_may_come_byte_by_byte() {
    run(async {
        let mut served = Served::start();
        for byte in GET.bytes().chain(CHUNKED.bytes()).chain(*b"3;a=b\r\nabc\r\n0\r\nx: y\r\n\r\n") {
            served.send([byte]).await;
        }
        assert_eq!(*served.seen.borrow(), ["/good", "/body"]);
        let answers = served.rest().await;
        assert!(answers.ends_with("\r\n\r\n3"), "{answers}");
    });
}

#[test]
fn bad_framing_ends_a_body_with_its_reason() {
    run(async {
        let mut served = Served::start();
        served.send(format!("{CHUNKED}5\r\nhello\r\n5\nhello\r\n0\r\n\r\n{GET}")).await;
        assert_eq!(*served.seen.borrow(), ["/body"]);
        let answers = served.rest().await;
        assert_eq!(statuses(&answers), ["400"]);
        assert!(answers.contains("LF alone"), "{answers}");
    });
}

#[test]
fn a_head_larger_than_one_read_passes_whole() {
    run(async {
        let mut served = Served::start();
        let field = format!("x-long: {}\r\n", "v".repeat(20_000));
        served.send(GET.replace("\r\n\r\n", &format!("\r\n{field}\r\n"))).await;
        served.send(CHUNKED.to_owned() + &format!("{:x}\r\n{}\r\n0\r\n\r\n", 30_000, "b".repeat(30_000))).await;
        assert_eq!(*served.seen.borrow(), ["/good", "/body"]);
        assert!(served.rest().await.ends_with("30000"));
    });
}

#[test]
fn a_slow_head_is_answered_with_408() {
    run(async {
        let mut served = Served::start();
        assert_eq!(served.conn.phase(), Phase::Idle);
        served.send("\r\n").await;
        assert_eq!(served.conn.phase(), Phase::Idle, "an empty line begins no head");
        served.send("GET / HT").await;
        assert_eq!(served.conn.phase(), Phase::Head);
        assert_eq!(served.seconds_later(10), None);
        assert_eq!(served.seconds_later(11), Some(Overdue::HeaderRead));
        served.clock.set(8 * SECOND_US);
        served.send("TP/1.1\r\nHo").await;
        assert_eq!(served.seconds_later(4), Some(Overdue::HeaderRead), "more bytes of the head give no more time");
        served.conn.expire();
        settle().await;
        assert_eq!(statuses(&served.rest().await), ["408"]);
    });
}

#[test]
fn a_slow_body_is_answered_with_408() {
    run(async {
        let mut served = Served::start();
        served.send(format!("{CHUNKED}5\r\nhel")).await;
        assert_eq!(served.conn.phase(), Phase::Body);
        assert_eq!(served.seconds_later(31), Some(Overdue::BodyRead));
        served.clock.set(21 * SECOND_US);
        served.send("l").await;
        assert_eq!(served.seconds_later(30), None, "each byte begins the time anew");
        assert_eq!(served.seconds_later(31), Some(Overdue::BodyRead));
        served.conn.expire();
        settle().await;
        assert_eq!(statuses(&served.rest().await), ["408"]);
    });
}

#[test]
fn idle_time_begins_when_the_answer_is_complete() {
    run(async {
        let mut served = Served::start();
        served.clock.set(51 * SECOND_US);
        served.send(GET).await;
        assert_eq!(served.conn.phase(), Phase::Idle);
        assert_eq!(served.seconds_later(75), None);
        assert_eq!(served.seconds_later(76), Some(Overdue::Idle));
    });
}

#[test]
fn a_request_being_served_has_no_time_limit_here() {
    run(async {
        let mut served = Served::start();
        served.send("GET /wait HTTP/1.1\r\nHost: a\r\n\r\nGET /next HT").await;
        assert_eq!(served.conn.phase(), Phase::Waiting, "half a head behind it counts only once it is answered");
        assert_eq!(served.seconds_later(3600), None);
    });
}

#[test]
fn what_follows_an_upgrade_goes_to_the_tunnel_unread() {
    run(async {
        let (mut client, server) = duplex(64 * 1024);
        let conn = ConnState::new(CoarseClock::default());
        let io = GuardedIo::new(server, Rc::clone(&conn), &limits(), b"GET / HTTP/1.1\r\nHost: a\r\n".to_vec());
        let state = Rc::clone(&conn);
        let service = service_fn(move |_: Request<Incoming>| {
            state.next_request().grant_upgrade();
            let switching = Response::builder().status(101).header("upgrade", "x").header("connection", "upgrade");
            std::future::ready(switching.body(Full::<Bytes>::default()))
        });
        let mut connection = http1::Builder::new().header_read_timeout(None).serve_connection(io, service);
        let early = b"\x81\x05hello\n\n\r\0GET / HTTP/9.9";
        client.write_all(b"Connection: upgrade\r\nUpgrade: x\r\n\r\n").await.expect("open");
        client.write_all(early).await.expect("open");
        std::future::poll_fn(|cx| connection.poll_without_shutdown(cx)).await.expect("no error");
        let parts = connection.into_parts();
        let (_socket, held) = parts.io.into_parts();
        assert_eq!([&parts.read_buf[..], &held].concat(), early);
        assert_eq!(conn.phase(), Phase::Tunnel);
        assert_eq!(overdue(&conn, 3600 * SECOND_US, &limits()), None);
    });
}

#[test]
fn http_goes_on_after_an_upgrade_that_is_not_granted() {
    run(async {
        let mut served = Served::start();
        let asking = GET.replace("\r\n\r\n", "\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n");
        served.send(format!("{asking}{GET}")).await;
        assert_eq!(*served.seen.borrow(), ["/good", "/good"]);
        served.send(&asking).await;
        served.send(format!("{GET}\n")).await;
        assert_eq!(served.seen.borrow().len(), 4);
        assert_eq!(statuses(&served.rest().await), ["200", "200", "200", "200", "400"]);
    });
}

#[test]
fn little_is_read_while_an_upgrade_is_not_answered() {
    run(async {
        let mut served = Served::start();
        served.send("GET /wait HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n").await;
        let flood = vec![b'x'; 1024 * 1024];
        let mut written = 0;
        loop {
            let mut writing = Box::pin(served.client.write(&flood));
            match std::future::poll_fn(|cx| Poll::Ready(writing.as_mut().poll(cx))).await {
                Poll::Ready(len) => written += len.expect("open"),
                Poll::Pending => break,
            }
            drop(writing);
            settle().await;
        }
        // What the guard holds, and what the pipe does.
        assert!(written <= limits().header_bytes_max + 64 * 1024, "{written}");
    });
}

#[test]
fn a_refused_client_that_goes_on_sending_is_not_cut_before_it_has_its_answer() {
    run(async {
        let mut served = Served::start();
        served.send("GET / HTTP/7.0\r\n\r\n").await;
        served.send(vec![b'x'; 256 * 1024]).await;
        let mut answer = [0; 12];
        served.client.read_exact(&mut answer).await.expect("an answer");
        assert_eq!(&answer, b"HTTP/1.1 505");
        assert_eq!(served.conn.phase(), Phase::Closing);
        assert_eq!(served.seconds_later(3), Some(Overdue::Closing));
    });
}

#[test]
fn a_client_that_takes_nothing_is_noticed() {
    run(async {
        let mut served = Served::start();
        served.clock.set(5 * SECOND_US);
        // Answers of some 120 bytes, until the pipe of 64 KiB is full.
        for _ in 0..1000 {
            served.client.write_all(GET.as_bytes()).await.expect("open");
            if served.conn.write_stalled_since().is_some() {
                break;
            }
            settle().await;
        }
        assert_eq!(served.conn.write_stalled_since(), Some(5 * SECOND_US));
        let mut some = vec![0; 32 * 1024];
        served.client.read_exact(&mut some).await.expect("answers");
        settle().await;
        assert_eq!(served.conn.write_stalled_since(), None);
    });
}
