//! gRPC from another hand (grpcio, both ends) works through the gateway.

use sluice_harness::{PythonPeer, any_route, sluice};

#[test]
fn a_unary_call_carries_messages_metadata_and_trailers() {
    check("unary");
}

#[test]
fn a_server_streams_through_the_gateway() {
    check("server_stream");
}

#[test]
fn a_client_streams_through_the_gateway() {
    check("client_stream");
}

#[test]
fn both_stream_at_once_and_nothing_is_held_back() {
    check("both_streams");
}

#[test]
fn a_client_whose_deadline_passes_is_told_and_so_is_the_server() {
    check("deadline");
}

#[test]
fn an_error_in_trailers_only_arrives_whole() {
    check("trailers_only_error");
}

fn check(name: &str) {
    let Some(peer) = PythonPeer::start("grpc_peer.py", name) else { return };
    let gateway = sluice!().config(any_route("grpc", &[peer.address()], "protocol = \"h2\"")).start();
    peer.check_through(gateway.address());
}
