//! Active health checks: the gateway asks each endpoint itself, once for all its workers, and believes what it finds.

use std::{
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header::CONTENT_TYPE};
use http_body_util::{BodyExt, Collected};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use sluice_harness::{
    H2Body, Load, Origin, RawExchange, RawOrigin, Sluice, any_route, control::text, guest::failover_that_observes,
    process, sluice, wait_until,
};

/// The shortest that is allowed, for what is about the pace. A check times out within its interval, so where it is about
/// what a check finds, it is longer: a busy machine shall not be taken for an endpoint that hangs.
const INTERVAL: Duration = Duration::from_millis(100);

fn gateway(addresses: &[SocketAddr], check: &str) -> Sluice {
    sluice!().config(any_route("orders", addresses, &format!("health_check = {check}"))).start()
}

fn endpoint(gateway: &Sluice, nth: usize) -> Value {
    gateway.service("orders")["endpoints"][nth].clone()
}

fn fails_checks(gateway: &Sluice, nth: usize) -> bool {
    endpoint(gateway, nth)["fails_checks"].as_bool().expect("a flag")
}

fn outcome(gateway: &Sluice, nth: usize) -> String {
    endpoint(gateway, nth)["last_check"]["outcome"].as_str().unwrap_or_default().to_owned()
}

/// Waits until the last check of each of so many endpoints has succeeded.
fn await_success(gateway: &Sluice, endpoints: usize) {
    wait_until("all to pass a check", || (0..endpoints).all(|nth| outcome(gateway, nth) == "success"));
}

fn available(gateway: &Sluice, address: SocketAddr) -> f64 {
    let label = format!("endpoint=\"{address}\"");
    gateway.metric("sluice_endpoint_available", &["service=\"orders\"", &label])
}

/// An instance whose page of health is its own matter: requests are answered well all the time.
struct Page {
    origin: RawOrigin,
    healthy: Arc<AtomicBool>,
    checks: Arc<Mutex<Vec<Instant>>>,
}

impl Page {
    /// `good` and `bad`: what `/health` answers, from the status line on.
    fn start(name: &str, good: &'static str, bad: &'static str) -> Self {
        let healthy = Arc::new(AtomicBool::new(true));
        let checks = Arc::<Mutex<Vec<Instant>>>::default();
        let (well, times, name) = (Arc::clone(&healthy), Arc::clone(&checks), name.to_owned());
        let origin = RawOrigin::start(move |mut exchange: RawExchange| {
            while let Some(request) = exchange.read_request() {
                if request.starts_with(b"GET /health") {
                    // Before it is noted, so that one which is noted after a change has not been answered as before it.
                    let answer = if well.load(Ordering::Acquire) { good } else { bad };
                    times.lock().expect("no holder panics").push(Instant::now());
                    exchange.write(answer.as_bytes());
                } else {
                    let head = format!("HTTP/1.1 200 OK\r\nx-instance: {name}\r\ncontent-length: 2\r\n\r\nok");
                    exchange.write(head.as_bytes());
                }
            }
        });
        Self { origin, healthy, checks }
    }

    fn well(name: &str) -> Self {
        Self::start(
            name,
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
            "HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n",
        )
    }

    fn address(&self) -> SocketAddr {
        self.origin.address()
    }

    fn set_healthy(&self, healthy: bool) {
        self.healthy.store(healthy, Ordering::Release);
    }

    fn checks(&self) -> Vec<Instant> {
        self.checks.lock().expect("no holder panics").clone()
    }
}

#[test]
fn an_endpoint_that_fails_its_checks_is_out_before_any_request_fails_and_comes_back() {
    const FALL: u32 = 3;
    const RISE: u32 = 2;
    let pages = ["a", "b", "c"].map(Page::well);
    let addresses: Vec<_> = pages.iter().map(Page::address).collect();
    let check = format!("{{ path = \"/health\", interval = \"1 s\", fall = {FALL}, rise = {RISE}, jitter = 0 }}");
    let gateway = gateway(&addresses, &check);
    let load = Load::to(gateway.address()).rate(150.0).start();
    await_success(&gateway, 3);
    let before = pages[1].checks().len();
    pages[1].set_healthy(false);
    wait_until("the endpoint to be out", || available(&gateway, addresses[1]) == 0.0);
    let until_out = pages[1].checks().len() - before;
    println!("out after {until_out} checks at most");
    assert!(until_out >= FALL as usize, "{until_out}");
    let out = endpoint(&gateway, 1);
    assert_eq!((&out["fails_checks"], &out["available"]), (&json!(true), &json!(false)), "{out}");
    assert_eq!(out["standing"], "admitted", "its policy has nothing to do with it: {out}");
    assert_eq!(out["failures"], 0, "no request had to fail: {out}");
    assert_eq!(out["last_check"]["outcome"], "server-error", "{out}");
    assert!(out["last_check"]["consecutive"].as_u64() >= Some(u64::from(FALL)), "{out}");
    assert!(text(&out["last_check"]["detail"]).contains("503"), "{out}");
    // The workers have heard of it before the API told.
    let from = Instant::now();
    load.await_more(100);
    let to = Instant::now();
    let before = pages[1].checks().len();
    pages[1].set_healthy(true);
    wait_until("the endpoint to be back", || available(&gateway, addresses[1]) == 1.0);
    assert!(pages[1].checks().len() - before >= RISE as usize);
    assert!(!fails_checks(&gateway, 1));
    let back = Instant::now();
    load.await_more(150);
    let report = load.stop();
    println!("{report}");
    report.expect_no_failures();
    assert_eq!(report.within(from, to).share("b"), 0.0, "it was out of traffic");
    assert!(report.within(back, Instant::now()).share("b") > 0.1, "it has its share again");
    is_told(&gateway, addresses[1]);
}

/// In the history, each with its reason; and in the log.
fn is_told(gateway: &Sluice, address: SocketAddr) {
    let history = gateway.health_history("orders");
    let said: Vec<_> = history.iter().map(|entry| (text(&entry["endpoint"]), text(&entry["what"]))).collect();
    let of = |what: &str| (address.to_string(), what.to_owned());
    assert_eq!(said, [of("passes-checks"), of("fails-checks")]);
    assert!(text(&history[1]["reason"]).contains("answered 503"), "{history:?}");
    assert!(text(&history[0]["reason"]).contains("answered 200"), "{history:?}");
    gateway.await_log(&["an endpoint fails its checks", &address.to_string(), "answered 503"]);
    gateway.await_log(&["an endpoint's standing has changed", &address.to_string(), "passes-checks"]);
}

#[test]
fn a_check_over_http_asks_and_expects_what_is_configured() {
    let good = "HTTP/1.1 204 Fine\r\n\r\n";
    // By status, by text, by an answer that does not come, and the one that has all that it shall have.
    let status = Page::start("status", "HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nall good", good);
    let text_only = Page::start("text", "HTTP/1.1 202 OK\r\ncontent-length: 8\r\n\r\nall poor", good);
    let right = Page::start("right", "HTTP/1.1 202 OK\r\ncontent-length: 8\r\n\r\nall good", good);
    let silent = RawOrigin::silent();
    let addresses = [status.address(), text_only.address(), right.address(), silent.address()];
    let check = "{ path = \"/health?deep=1\", interval = \"1 s\", timeout = \"900 ms\", status = [202, 206], \
                 body = \"all good\", headers = { host = \"orders.internal\", x-check = \"yes\" } }";
    let gateway = gateway(&addresses, check);
    let said = |nth: usize| {
        let last = endpoint(&gateway, nth)["last_check"].clone();
        let of = |key: &str| last[key].as_str().unwrap_or_default().to_owned();
        (of("outcome"), of("detail"))
    };
    for (nth, outcome, words) in [
        (0, "server-error", "answered 200 OK where 202, 206 was expected"),
        (1, "server-error", "without the expected text \"all good\""),
        (2, "success", "with the expected text"),
        (3, "timed-out", "no answer from "),
    ] {
        wait_until(&format!("{outcome}: {words}"), || {
            let (found, detail) = said(nth);
            found == outcome && detail.contains(words) && fails_checks(&gateway, nth) == (outcome != "success")
        });
    }
    let asked = right.origin.received_text();
    let head = asked.split("\r\n\r\n").next().unwrap_or_default().to_ascii_lowercase();
    for line in ["get /health?deep=1 http/1.1", "host: orders.internal", "x-check: yes", "user-agent: sluice-check/"] {
        assert!(head.contains(line), "{line:?} is not in {head:?}");
    }
}

#[test]
fn a_check_over_tcp_needs_a_connection_and_no_more() {
    let mut origins = ["a", "b", "c"].map(Origin::start);
    let addresses: Vec<_> = origins.iter().map(Origin::address).collect();
    let gateway = gateway(&addresses, "{ kind = \"tcp\", interval = \"500 ms\", fall = 2, rise = 2 }");
    await_success(&gateway, 3);
    assert_eq!(endpoint(&gateway, 2)["last_check"]["detail"], "a connection was accepted");
    let load = Load::to(gateway.address()).rate(100.0).start();
    load.await_more(50);
    origins[2].kill();
    wait_until("the endpoint to be out", || available(&gateway, addresses[2]) == 0.0);
    wait_until("its checks to say so", || fails_checks(&gateway, 2));
    assert_eq!(endpoint(&gateway, 2)["last_check"]["outcome"], "connect-failed");
    load.await_more(50);
    origins[2] = Origin::start_on("c", addresses[2]);
    wait_until("the checks to pass", || !fails_checks(&gateway, 2));
    // Attempts that failed may have had it ejected besides, which is its policy's doing.
    load.stop().expect_no_failures();
}

/// Over HTTP/2: answers as `grpc.health.v1.Health/Check` does, with the serving status of the service asked for.
struct GrpcHealth {
    address: SocketAddr,
    serving: Arc<AtomicBool>,
    asked: Arc<Mutex<Vec<(String, Bytes)>>>,
}

/// `HealthCheckResponse { status }` in gRPC's frame: field 1, a varint.
const SERVING: &[u8] = b"\0\0\0\0\x02\x08\x01";
const NOT_SERVING: &[u8] = b"\0\0\0\0\x02\x08\x02";

impl GrpcHealth {
    fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        listener.set_nonblocking(true).expect("a socket can be made non-blocking");
        let address = listener.local_addr().expect("bound");
        let serving = Arc::new(AtomicBool::new(true));
        let asked = Arc::<Mutex<Vec<(String, Bytes)>>>::default();
        let (says, notes) = (Arc::clone(&serving), Arc::clone(&asked));
        // Ends with the test's process.
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime can be built").block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).expect("made non-blocking above");
                while let Ok((stream, _)) = listener.accept().await {
                    let (says, notes) = (Arc::clone(&says), Arc::clone(&notes));
                    let service = service_fn(move |request| check(request, Arc::clone(&says), Arc::clone(&notes)));
                    let serve = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    tokio::spawn(serve.serve_connection(TokioIo::new(stream), service));
                }
            });
        });
        Self { address, serving, asked }
    }
}

async fn check(
    request: Request<Incoming>,
    says: Arc<AtomicBool>,
    notes: Arc<Mutex<Vec<(String, Bytes)>>>,
) -> Result<Response<H2Body>, Infallible> {
    let path = request.uri().path().to_owned();
    let question = request.into_body().collect().await.map(Collected::to_bytes).unwrap_or_default();
    notes.lock().expect("no holder panics").push((path, question));
    let status = if says.load(Ordering::Acquire) { SERVING } else { NOT_SERVING };
    let mut response = Response::new(H2Body::with_trailers(Bytes::from_static(status), &[("grpc-status", "0")]));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    Ok(response)
}

#[test]
fn a_check_over_grpc_asks_the_health_service() {
    let instances = [GrpcHealth::start(), GrpcHealth::start(), GrpcHealth::start()];
    let addresses: Vec<_> = instances.iter().map(|instance| instance.address).collect();
    let check = "{ kind = \"grpc\", service = \"orders.Orders\", interval = \"1 s\", fall = 2, rise = 2 }";
    let more = format!("protocol = \"h2\"\nhealth_check = {check}");
    let gateway = sluice!().config(any_route("orders", &addresses, &more)).start();
    await_success(&gateway, 3);
    assert_eq!(endpoint(&gateway, 0)["last_check"]["detail"], "answered SERVING");
    let asked = instances[0].asked.lock().expect("no holder panics")[0].clone();
    assert_eq!(asked.0, "/grpc.health.v1.Health/Check");
    assert_eq!(&asked.1[..], b"\0\0\0\0\x0f\x0a\x0dorders.Orders");
    instances[0].serving.store(false, Ordering::Release);
    wait_until("the endpoint to be out", || available(&gateway, addresses[0]) == 0.0);
    assert!(fails_checks(&gateway, 0));
    assert_eq!(endpoint(&gateway, 0)["last_check"]["detail"], "answered NOT_SERVING where SERVING was expected");
    instances[0].serving.store(true, Ordering::Release);
    wait_until("the endpoint to be back", || available(&gateway, addresses[0]) == 1.0);
}

#[test]
fn where_all_fail_their_checks_all_are_used() {
    let pages = ["a", "b"].map(Page::well);
    let addresses: Vec<_> = pages.iter().map(Page::address).collect();
    pages.iter().for_each(|page| page.set_healthy(false));
    let gateway = gateway(&addresses, "{ path = \"/health\", interval = \"100 ms\" }");
    wait_until("both to be out", || (0..2).all(|nth| fails_checks(&gateway, nth)));
    wait_until("the workers to know", || addresses.iter().all(|&address| available(&gateway, address) == 0.0));
    let report = Load::to(gateway.address()).connections(8).run_count(200);
    report.expect_no_failures();
    println!("{report}");
    assert!(report.share("a") > 0.1 && report.share("b") > 0.1, "{report}");
}

#[test]
fn checks_are_made_once_a_gateway_and_not_once_a_worker() {
    const WORKERS: usize = 4;
    const INTERVALS: usize = 60;
    let page = Page::well("a");
    let check = "health_check = { path = \"/health\", interval = \"100 ms\", jitter = 0 }";
    let config = any_route("orders", &[page.address()], check) + &format!("[gateway]\nworkers = {WORKERS}\n");
    let _gateway = sluice!().config(config).start();
    wait_until("so many checks", || page.checks().len() > INTERVALS);
    let checks = page.checks();
    let took = checks[INTERVALS] - checks[0];
    println!("{INTERVALS} intervals of {INTERVAL:?} took {took:?} with {WORKERS} workers");
    // One check an interval, never more, of which a machine that stood still notes the first ones late; once a worker would
    // be four of them.
    assert!(took >= INTERVAL.mul_f64(INTERVALS as f64 * 0.5), "{took:?}");
}

#[test]
fn the_first_checks_of_many_endpoints_are_spread() {
    /// Each first check is due 10 ms after the one before: longer in all than a machine stands still.
    const ENDPOINTS: usize = 300;
    process::raise_descriptor_limit();
    let pages: Vec<_> = (0..ENDPOINTS).map(|nth| Page::well(&nth.to_string())).collect();
    let addresses: Vec<_> = pages.iter().map(Page::address).collect();
    let _gateway = gateway(&addresses, "{ path = \"/health\", interval = \"20 s\" }");
    wait_until("all to be checked", || pages.iter().all(|page| !page.checks().is_empty()));
    let mut first: Vec<_> = pages.iter().map(|page| page.checks()[0]).collect();
    first.sort_unstable();
    let took = first[ENDPOINTS - 1] - first[0];
    println!("{ENDPOINTS} first checks over {took:?}");
    // That they are even is a matter of virtual time (`host/src/failover/checks/tests`); here a machine may have stood still.
    assert!(took >= Duration::from_millis(300), "all at once: {took:?}");
    assert!(took <= Duration::from_secs(10), "and within half an interval: {took:?}");
}

#[test]
fn a_check_counts_for_the_policy_too() {
    let pages = ["a", "b", "c"].map(Page::well);
    let addresses: Vec<_> = pages.iter().map(Page::address).collect();
    // One check that fails is enough for it, so that none must fail as the machine has stood still.
    let gateway = gateway(&addresses, "{ path = \"/health\", interval = \"4 s\", timeout = \"4 s\" }");
    gateway.push("none", &ejects_by_checks());
    gateway.set_failover("orders", "none", json!({}));
    let load = Load::to(gateway.address()).rate(100.0).start();
    load.await_more(50);
    assert!(gateway.health_history("orders").is_empty(), "traffic alone, and checks that pass, eject nobody");
    pages[2].set_healthy(false);
    wait_until("the policy to have seen it", || endpoint(&gateway, 2)["standing"] == "ejected");
    let history = gateway.health_history("orders");
    let ejected: Vec<_> = history.iter().filter(|entry| entry["what"] == "ejected").collect();
    println!("{history:?}");
    assert!(ejected.iter().all(|entry| entry["endpoint"] == addresses[2].to_string()), "{ejected:?}");
    load.stop().expect_no_failures();
}

/// Ejects the slot of each observation, for ten seconds, that is of an active check and no success; and of nothing else.
fn ejects_by_checks() -> Vec<u8> {
    // An observation has 40 bytes: its source at 0 (1: an active check), its slot at 8, its outcome at 12 (0: success).
    // A change has 20: what at 0 (0: eject), the slot at 4, the milliseconds at 8, and a reason, which is empty.
    failover_that_observes(
        r#"(local $changes i32) (local $count i32)
    (local.set $changes (i32.const 1024))
    (block $done (loop $next
      (br_if $done (i32.eqz (local.get $len)))
      (if (i32.and (i32.load8_u (local.get $observations)) (i32.ne (i32.const 0) (i32.load8_u offset=12 (local.get $observations))))
        (then
          (i32.store (local.get $changes) (i32.const 0))
          (i32.store offset=4 (local.get $changes) (i32.load offset=8 (local.get $observations)))
          (i32.store offset=8 (local.get $changes) (i32.const 10000))
          (i32.store offset=12 (local.get $changes) (i32.const 0))
          (i32.store offset=16 (local.get $changes) (i32.const 0))
          (local.set $changes (i32.add (local.get $changes) (i32.const 20)))
          (local.set $count (i32.add (local.get $count) (i32.const 1)))))
      (local.set $observations (i32.add (local.get $observations) (i32.const 40)))
      (local.set $len (i32.sub (local.get $len) (i32.const 1)))
      (br $next)))
    (i32.store (i32.const 72) (i32.const 1024)) (i32.store (i32.const 76) (local.get $count)) (i32.const 72)"#,
    )
}

#[test]
fn a_reload_that_takes_the_check_away_brings_the_endpoint_back() {
    let pages = ["a", "b", "c"].map(Page::well);
    let addresses: Vec<_> = pages.iter().map(Page::address).collect();
    let gateway = gateway(&addresses, "{ path = \"/health\", interval = \"100 ms\", fall = 1 }");
    pages[0].set_healthy(false);
    wait_until("the endpoint to be out", || available(&gateway, addresses[0]) == 0.0);
    gateway.rewrite_config(&any_route("orders", &addresses, ""));
    wait_until("the endpoint to be back", || available(&gateway, addresses[0]) == 1.0);
    let now = endpoint(&gateway, 0);
    assert_eq!((&now["fails_checks"], &now["last_check"]), (&json!(false), &Value::Null), "{now}");
    let report = Load::to(gateway.address()).connections(8).run_count(150);
    report.expect_no_failures();
    assert!(report.share("a") > 0.1, "{report}");
    // Those under way have ended: nobody is asked any more.
    let asked: usize = pages.iter().map(|page| page.checks().len()).sum();
    Load::to(gateway.address()).connections(8).run_count(300).expect_no_failures();
    let after: usize = pages.iter().map(|page| page.checks().len()).sum();
    assert!(after <= asked + pages.len(), "{after} checks, {asked} before");
}
