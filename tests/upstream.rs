//! Connections to endpoints: used again, replaced where nothing can have been done twice, and given up in time.

use std::{
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use http::{Method, Version};
use sluice_harness::{
    DEADLINE, H2Body, H2Connection, HeldPort, Load, Origin, RawConnection, RawOrigin, Sluice, any_route, raw_origin,
    sluice, transfer, wait_until,
};

fn start(addresses: &[std::net::SocketAddr], more: &str) -> Sluice {
    sluice!().config(format!("[gateway]\nworkers = 1\n{}", any_route("orders", addresses, more))).start()
}

fn post(gateway: &Sluice, path: &str) -> sluice_harness::Answer {
    gateway.client().send(Method::POST, path, &[], b"hello".to_vec())
}

#[test]
fn connections_to_an_endpoint_are_used_again() {
    let origin = Origin::start("a");
    let gateway = start(&[origin.address()], "");
    let client = gateway.client();
    for (path, len) in [("/", 2), ("/bytes/100000", 100_000), ("/bytes/0", 0), ("/echo", 0), ("/status/404", 9)] {
        assert_eq!(client.get(path).body.len(), len, "{path}");
    }
    assert_eq!(post(&gateway, "/echo").expect(200).text(), "hello");
    assert_eq!(origin.connections(), 1);
    Load::to(gateway.address()).connections(8).run_count(500).expect_no_failures();
    assert!(origin.connections() <= 9, "{} connections for 8 clients", origin.connections());
    assert_eq!(gateway.metric("sluice_endpoint_connects_total", &[]), origin.connections() as f64);
}

#[test]
fn a_connection_that_died_in_the_pool_is_replaced_without_a_trace() {
    // Says that it goes on, and ends the connection behind each answer.
    let ended = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&ended);
    let origin = RawOrigin::start(move |mut exchange| {
        exchange.answer(raw_origin::OK);
        drop(exchange);
        counted.fetch_add(1, Ordering::AcqRel);
    });
    let gateway = start(&[origin.address()], "");
    for round in 1..=10 {
        post(&gateway, "/").expect(200);
        assert_eq!(origin.connections(), round);
        // One that ends only once it is used again may have done what it was asked for.
        wait_until("the connection's end", || ended.load(Ordering::Acquire) == round);
    }
    assert_eq!(origin.received_text().matches("POST / ").count(), 10);
    assert_eq!(gateway.metric("sluice_attempts_total", &["outcome=\"success\""]), 10.0);
    assert_eq!(gateway.metric("sluice_attempts_total", &[]), 10.0);
}

#[test]
fn what_may_have_been_done_is_never_done_twice() {
    let origin = RawOrigin::dead_on_second_request();
    let gateway = start(&[origin.address()], "");
    post(&gateway, "/first").expect(200);
    let refused = post(&gateway, "/second");
    let problem = refused.expect_problem(502, "upstream");
    assert_eq!(problem["request_sent"], true, "{problem}");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("orders")), "{problem}");
    assert_eq!(origin.received_text().matches("POST /second ").count(), 1, "{}", origin.received_text());
    // A POST without a body is no safer.
    gateway.client().send(Method::POST, "/third", &[], Vec::new()).expect(200);
    gateway.client().send(Method::POST, "/fourth", &[], Vec::new()).expect_problem(502, "upstream");
    assert_eq!(origin.received_text().matches("POST /fourth ").count(), 1, "{}", origin.received_text());
}

#[test]
fn what_can_be_repeated_is() {
    let origin = RawOrigin::dead_on_second_request();
    let gateway = start(&[origin.address()], "");
    for method in ["GET", "GET", "HEAD", "PUT", "DELETE", "OPTIONS", "GET"] {
        let mut raw = RawConnection::to(gateway.address());
        raw.send(format!("{method} / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"));
        assert_eq!(raw.try_read_head().unwrap().status, 200, "{method}");
    }
    assert!(gateway.metric("sluice_request_retries_total", &[]) >= 3.0);

    // At an endpoint that never answers, attempts end.
    let origin = RawOrigin::resets_before_the_answer();
    let gateway = start(&[origin.address()], "");
    gateway.client().get("/").expect_problem(502, "upstream");
    assert_eq!(origin.connections(), 3);
    post(&gateway, "/").expect_problem(502, "upstream");
    assert_eq!(origin.connections(), 4);
}

#[test]
fn where_nobody_listens_another_endpoint_answers_whatever_the_method() {
    let origin = Origin::start("a");
    let dead = HeldPort::any();
    let gateway = start(&[dead.address(), origin.address()], "balancer = { plugin = \"round-robin\" }");
    for _ in 0..10 {
        post(&gateway, "/echo").expect(200);
        gateway.client().get("/").expect(200);
    }
    assert_eq!(origin.requests(), 20);
    assert!(gateway.metric("sluice_attempts_total", &["outcome=\"connect-failed\""]) >= 5.0);

    let gateway = start(&[dead.address()], "");
    let problem = post(&gateway, "/").expect_problem(502, "connect");
    assert_eq!(problem["request_sent"], false, "{problem}");
}

#[test]
fn an_endpoint_that_dies_under_load_costs_no_request_that_can_be_repeated() {
    let mut origins = ["a", "b", "c"].map(Origin::start);
    let addresses = origins.each_ref().map(Origin::address);
    let failover =
        "failover = { plugin = \"standard\", settings = { base_ejection = \"200 ms\", max_ejection = \"1 s\" } }";
    let gateway = sluice!().config(any_route("orders", &addresses, failover)).start();
    let load = Load::to(gateway.address()).connections(16).rate(400.0).start();
    load.await_more(200);
    origins[0].kill();
    load.await_more(400);
    origins[0] = Origin::start_on("a", addresses[0]);
    wait_until("it gets traffic again", || origins[0].requests() > 0);
    load.await_more(200);
    load.stop().expect_no_failures();
}

#[test]
fn a_service_that_does_not_answer_in_time_is_a_504() {
    let origin = RawOrigin::silent();
    let gateway = start(&[origin.address()], "timeout = \"2 s\"");
    let begun = Instant::now();
    let problem = gateway.client().get("/").expect_problem(504, "upstream");
    assert!(begun.elapsed() >= Duration::from_secs(2), "{:?}", begun.elapsed());
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("2s")), "{problem}");
    post(&gateway, "/").expect_problem(504, "upstream");
    wait_until("the origin to have read it", || origin.received_text().contains("POST "));
    assert_eq!(origin.received_text().matches("POST ").count(), 1, "a request that may be under way is not repeated");
    wait_until("nothing to be in flight", || gateway.in_flight("orders") == 0);
    assert_eq!(gateway.metric("sluice_attempts_total", &["outcome=\"timed-out\""]), 2.0);
}

#[test]
fn an_upload_may_take_longer_than_the_answer_to_it() {
    let origin = Origin::start("a");
    let gateway = start(&[origin.address()], "timeout = \"2 s\"");
    let begun = Instant::now();
    let mut raw = RawConnection::to(gateway.address());
    raw.send("POST /count HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
    let mut sent = 0;
    while begun.elapsed() < Duration::from_secs(3) {
        raw.send("1\r\nx\r\n");
        sent += 1;
        assert!(raw.is_silent_for(Duration::from_millis(100)), "answered after {:?}", begun.elapsed());
    }
    raw.send("0\r\n\r\n");
    assert_eq!(raw.read_answer().text(), format!("{sent}\n"));
}

#[test]
fn an_endpoint_that_takes_nothing_of_an_upload_is_a_504() {
    // Accepts and reads nothing, until the test is over.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let gateway = start(&[listener.local_addr().unwrap()], "timeout = \"500 ms\"");
    let mut raw = RawConnection::to(gateway.address());
    raw.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000000\r\n\r\n");
    let piece = vec![b'x'; 64 * 1024];
    let mut writer = RawConnection::over(raw.stream().try_clone().unwrap());
    let sending = std::thread::spawn(move || while writer.try_send(&piece).is_ok() {});
    assert_eq!(raw.read_answer().status, 504);
    drop(raw);
    sending.join().unwrap();
}

#[test]
fn a_stream_that_stands_still_is_ended_and_one_that_moves_is_not() {
    let moves = RawOrigin::start(|mut exchange| {
        exchange.answer(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(3) {
            exchange.write(b"1\r\nx\r\n");
            std::thread::park_timeout(Duration::from_millis(50));
        }
        exchange.write(b"0\r\n\r\n");
        while exchange.read_some() {}
    });
    let gateway = start(&[moves.address()], "idle_timeout = \"2 s\"");
    assert!(gateway.client().get("/").expect(200).body.len() > 2);

    let stops = RawOrigin::start(|mut exchange| {
        exchange.answer(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n");
        while exchange.read_some() {}
    });
    let gateway = start(&[stops.address()], "idle_timeout = \"400 ms\"");
    let mut raw = RawConnection::to(gateway.address());
    raw.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(raw.try_read_head().unwrap().status, 200);
    let rest = raw.read_to_end().unwrap_or_default();
    assert!(!rest.ends_with(b"0\r\n\r\n"), "a body cut off must not look whole");
    wait_until("the attempt to be counted", || {
        gateway.metric("sluice_attempts_total", &["outcome=\"timed-out\""]) == 1.0
    });
    let h2 = H2Connection::to(gateway.address());
    h2.begin(Method::GET, "/", &[], H2Body::empty()).result().expect_err("the stream is reset");
}

#[test]
fn an_exchange_may_last_no_longer_than_its_service_allows() {
    let origin = RawOrigin::start(|mut exchange| {
        exchange.answer(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        // Without end, as far as the gateway takes it.
        let begun = Instant::now();
        while begun.elapsed() < DEADLINE {
            exchange.write(b"1\r\nx\r\n");
            std::thread::park_timeout(Duration::from_millis(20));
        }
    });
    let gateway = start(&[origin.address()], "max_duration = \"2 s\"");
    let begun = Instant::now();
    let mut raw = RawConnection::to(gateway.address());
    raw.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(raw.try_read_head().unwrap().status, 200);
    let _ = raw.read_to_end();
    assert!((Duration::from_secs(2)..DEADLINE / 2).contains(&begun.elapsed()), "{:?}", begun.elapsed());
}

#[test]
fn a_stream_that_never_has_to_be_waited_for_is_ended_too() {
    let origin = Origin::start("a");
    let gateway = start(&[origin.address()], "max_duration = \"2 s\"");
    // More than a client on this machine could take meanwhile.
    let mut transfer = transfer::begin(transfer::Version::H1, gateway.address(), "/bytes/1000000000000", 0).unwrap();
    let begun = Instant::now();
    transfer.read_to_end().expect_err("cut off");
    assert!(begun.elapsed() < DEADLINE / 2, "{:?}", begun.elapsed());
}

#[test]
fn a_connection_that_cannot_be_made_in_time_is_given_up() {
    // A listener with a full queue: the system answers no further SYN.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let mut queued = Vec::new();
    while let Ok(stream) = std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
        queued.push(stream);
    }
    for protocol in ["http/1.1", "h2"] {
        let more = format!("protocol = {protocol:?}\nconnect_timeout = \"300 ms\"\ntimeout = \"20 s\"");
        let gateway = start(&[address], &more);
        let begun = Instant::now();
        let clients: Vec<_> = (0..8)
            .map(|_| {
                let client = gateway.client();
                std::thread::spawn(move || client.get("/").expect_problem(502, "connect"))
            })
            .collect();
        clients.into_iter().for_each(|client| drop(client.join().unwrap()));
        // Three attempts each; not one client after the other.
        assert!(begun.elapsed() < Duration::from_secs(8), "{protocol}: {:?}", begun.elapsed());
    }
}

#[test]
fn an_http_2_endpoint_gets_many_requests_on_one_connection() {
    let origin = Origin::start("a");
    let gateway = start(&[origin.address()], "protocol = \"h2\"");
    Load::to(gateway.address()).connections(16).run_count(500).expect_no_failures();
    Load::to(gateway.address()).connections(16).h2().run_count(500).expect_no_failures();
    assert_eq!(origin.connections(), 1);
    assert!(origin.seen().iter().all(|seen| seen.version == Version::HTTP_2));
    let seen = origin.seen().swap_remove(0);
    assert_eq!(seen.uri.authority().map(|authority| authority.as_str()), Some(gateway.address().to_string().as_str()));
    assert_eq!(seen.headers.get("host"), None);
    assert_eq!(post(&gateway, "/echo").expect(200).text(), "hello");
    assert_eq!(gateway.client().get("/bytes/3000000").expect(200).body.len(), 3_000_000);
}

#[test]
fn an_http_2_endpoint_that_comes_back_is_connected_anew() {
    let mut origin = Origin::start("a");
    let gateway = start(&[origin.address()], "protocol = \"h2\"");
    gateway.client().get("/").expect(200);
    let address = origin.address();
    origin.kill();
    gateway.client().get("/").expect_problem(502, "connect");
    let origin = Origin::start_on("a", address);
    post(&gateway, "/echo").expect(200);
    assert_eq!(origin.requests(), 1);
}

#[test]
fn no_answer_without_a_service_that_could_give_one() {
    let answers = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&answers);
    let garbage = RawOrigin::start(move |mut exchange| {
        exchange.answer(b"this is not HTTP\r\n\r\n");
        counted.fetch_add(1, Ordering::AcqRel);
    });
    let gateway = start(&[garbage.address()], "");
    let problem = post(&gateway, "/").expect_problem(502, "upstream");
    assert_eq!(problem["request_sent"], true);
    wait_until("it to have answered", || answers.load(Ordering::Acquire) > 0);
    assert_eq!(garbage.received_text().matches("POST ").count(), 1);

    // A 101 that nobody asked for opens nothing.
    let pushy = RawOrigin::start(|mut exchange| {
        exchange.answer(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n");
    });
    let gateway = start(&[pushy.address()], "");
    gateway.client().get("/").expect_problem(502, "upstream");
}
