//! An endpoint that leaves keeps its requests to their end and gets no new one, however it is taken out.

use http::Method;
use serde_json::json;
use sluice_harness::{Load, Origin, RawConnection, Sluice, any_route, sluice, wait_until};

fn origins() -> [Origin; 3] {
    ["a", "b", "c"].map(Origin::start)
}

/// A request that `instance` answers piece by piece, for as long as its client goes on: what is sent comes back.
fn long_request(gateway: &Sluice, instance: &str) -> RawConnection {
    begin(gateway, instance, "POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n")
}

/// A WebSocket as the gateway sees it: a connection that after the 101 is the two ends' own.
fn web_socket(gateway: &Sluice, instance: &str) -> RawConnection {
    begin(gateway, instance, "GET /upgrade HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
}

/// Tries until it comes to `instance`.
fn begin(gateway: &Sluice, instance: &str, request: &str) -> RawConnection {
    for _ in 0..1_000 {
        let mut raw = RawConnection::to(gateway.address());
        raw.send(request);
        let head = raw.try_read_head().expect("an answer");
        assert!(matches!(head.status, 101 | 200), "{head:?}");
        if head.header("x-instance") == Some(instance) {
            return raw;
        }
    }
    panic!("{instance} was never asked");
}

/// Begins what lasts at `a`, takes `a` out, and sees what lasts to its end.
fn leaves_well(gateway: &Sluice, origins: &[Origin; 3], leave: impl FnOnce()) {
    let leaving = &origins[0];
    let address = leaving.address().to_string();
    let (mut long, mut socket) = (long_request(gateway, "a"), web_socket(gateway, "a"));
    assert_eq!(long.read_exactly(8), b"3\r\none\r\n");
    socket.send("before");
    assert_eq!(socket.read_exactly(6), b"before");
    // Others that were begun to find `a` end with their clients.
    wait_until("only these two to be in flight", || gateway.in_flight("orders") == 2);
    leave();
    // What is shown is in force on every worker. It may get none of a few requests only for what it has under way.
    wait_until("it to be out", || {
        let service = gateway.service("orders");
        service["endpoints"].as_array().is_some_and(|all| all.iter().all(|one| one["address"] != address))
    });
    let before = leaving.requests();
    let report = Load::to(gateway.address()).connections(8).run_count(500);
    println!("after it left: {report}");
    report.expect_no_failures();
    assert_eq!(report.share("a"), 0.0);
    assert_eq!(leaving.requests(), before);
    long.send("3\r\ntwo\r\n");
    assert_eq!(long.read_exactly(8), b"3\r\ntwo\r\n");
    socket.send("after");
    assert_eq!(socket.read_exactly(5), b"after");
    long.send("0\r\n\r\n");
    assert_eq!(long.read_exactly(5), b"0\r\n\r\n");
    socket.finish();
    socket.expect_close();
    assert_eq!(leaving.requests(), before);
    wait_until("nothing to be in flight", || gateway.in_flight("orders") == 0);
}

#[test]
fn an_endpoint_that_a_reload_takes_out_keeps_what_it_has_and_gets_nothing_new() {
    let origins = origins();
    let addresses = origins.each_ref().map(Origin::address);
    let gateway = sluice!().config(any_route("orders", &addresses, "")).start();
    leaves_well(&gateway, &origins, || {
        gateway.rewrite_config(&any_route("orders", &addresses[1..], ""));
        gateway.control().post("/reload", &json!({})).expect(200);
    });
}

#[test]
fn an_endpoint_that_another_source_does_not_have_keeps_what_it_has_and_gets_nothing_new() {
    let origins = origins();
    let addresses = origins.each_ref().map(Origin::address);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let lists = [("all.json", &addresses[..]), ("fewer.json", &addresses[1..])];
    for (name, addresses) in lists {
        std::fs::write(folder.path().join(name), json!(addresses).to_string()).expect("a writable folder");
    }
    let config = "[plugins.file]\nallow_files = [\"all.json\", \"fewer.json\"]\n\
                  [services.orders]\ndiscovery = { plugin = \"file\", settings = { path = \"all.json\" } }\n\
                  [[route]]\npath = \"/\"\nservice = \"orders\"\n";
    let gateway = sluice!().directory(folder.path()).config(config).start();
    await_endpoints(&gateway, 3);
    leaves_well(&gateway, &origins, || {
        let fewer = json!({"discovery": {"plugin": "file", "settings": {"path": "fewer.json"}}});
        gateway.control().patch("/services/orders", &fewer).expect(200);
    });
}

#[test]
fn an_instance_that_deregisters_keeps_what_it_has_and_gets_nothing_new() {
    let origins = origins();
    let gateway = sluice!().config("[services.orders]\n[[route]]\npath = \"/\"\nservice = \"orders\"\n").start();
    let agent = |action: &str, body: &serde_json::Value| {
        let path = format!("/v1/agent/service/{action}");
        gateway.control_json(Method::PUT, &path, &body.to_string()).expect(200);
    };
    for origin in &origins {
        let (name, at) = (origin.name(), origin.address());
        agent("register", &json!({"ID": name, "Name": "orders", "Address": "127.0.0.1", "Port": at.port()}));
    }
    await_endpoints(&gateway, 3);
    leaves_well(&gateway, &origins, || agent("deregister/a", &json!({})));
}

fn await_endpoints(gateway: &Sluice, count: usize) {
    wait_until("all endpoints", || gateway.service("orders")["endpoints"].as_array().map_or(0, Vec::len) == count);
}
