//! DTM's client from another hand, unmodified: every kind of transaction, with success and with rollback, and participants
//! whose ledgers agree afterwards.

use sluice_harness::{
    process::{test_python, workspace_root},
    script::run_script,
    sluice, wait_until,
};

fn dtmcli(flow: &str) {
    let Some(python) = test_python() else { return };
    let gateway = sluice!().config("[transactions]\nallow_hosts = [\"127.0.0.1\"]").start();
    let address = gateway.control_address();
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    let script = workspace_root().join("tests/python/dtm_client.py");
    run_script(&python, &script, &[&host, &port, flow], &[]);
    assert_eq!(gateway.metric("sluice_transaction_hazards_total", &[]), 0.0);
    // The record of an end follows what is told of it.
    wait_until("all to have ended", || gateway.metric("sluice_transactions_live", &[]) == 0.0);
}

#[test]
fn dtmclis_sagas_succeed_and_roll_back() {
    dtmcli("saga");
}

#[test]
fn dtmclis_tccs_succeed_and_roll_back() {
    dtmcli("tcc");
}

#[test]
fn dtmclis_messages_follow_their_senders_transaction() {
    dtmcli("message");
}

#[test]
fn dtmclis_barrier_keeps_lost_late_and_duplicate_calls_from_changing_anything() {
    dtmcli("barrier");
}
