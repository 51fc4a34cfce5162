//! Upgrades are tunnelled: WebSocket from another hand (websockets, both ends), and any other protocol.

use sluice_harness::{Origin, PythonPeer, RawConnection, any_route, sluice, wait_until};

#[test]
fn messages_of_all_sizes_are_echoed() {
    check("echo");
}

#[test]
fn a_ping_is_answered_by_the_other_end() {
    check("ping");
}

#[test]
fn the_closing_code_arrives() {
    check("close_code");
}

#[test]
fn the_subprotocol_is_the_servers_choice() {
    check("subprotocol");
}

#[test]
fn any_protocol_is_tunnelled_and_counted_until_it_ends() {
    let origin = Origin::start("a");
    let gateway = sluice!().config(any_route("tunnel", &[origin.address()], "")).start();
    let mut raw = RawConnection::to(gateway.address());
    raw.send("GET /upgrade HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n");
    let answer = raw.read_answer();
    assert_eq!(answer.status, 101);
    assert_eq!(answer.header("upgrade"), Some("echo"));
    for size in [1, 100, 70_000] {
        let sent: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
        raw.send(&sent);
        assert_eq!(raw.read_exactly(size), sent);
    }
    assert_eq!(gateway.in_flight("tunnel"), 1);
    // The client has nothing more to say: the origin hears of it, ends too, and that comes back.
    raw.finish();
    raw.expect_close();
    wait_until("the tunnel to be counted as ended", || gateway.in_flight("tunnel") == 0);
}

#[test]
fn an_upgrade_that_the_origin_declines_is_an_ordinary_answer() {
    let origin = Origin::start("a");
    let gateway = sluice!().config(any_route("plain", &[origin.address()], "")).start();
    let mut raw = RawConnection::to(gateway.address());
    raw.send("GET /bytes/5 HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n");
    let answer = raw.read_answer();
    assert_eq!((answer.status, answer.text().as_str()), (200, "xxxxx"));
    raw.send("GET /bytes/2 HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(raw.read_answer().text(), "xx", "the connection goes on");
}

fn check(name: &str) {
    let Some(peer) = PythonPeer::start("websocket_peer.py", name) else { return };
    let gateway = sluice!().config(any_route("chat", &[peer.address()], "")).start();
    peer.check_through(gateway.address());
}
