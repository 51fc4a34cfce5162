//! Bodies of any size pass in bounded memory, whoever is slow.

use sluice_harness::{Origin, Sluice, Version, any_route, sluice, transfer, wait_until};

const GIB: u64 = 1 << 30;

/// What a transfer may add to the gateway's resident memory: DESIGN.md has 64 MiB for the whole of it.
const GROWTH_MAX: u64 = 64 << 20;

#[test]
fn one_gib_down_takes_bounded_memory() {
    for version in [Version::H1, Version::H2] {
        let (origin, gateway) = start("");
        let growth = growth_of(&gateway, || {
            let mut exchange = transfer::begin(version, gateway.address(), &format!("/bytes/{GIB}"), 0).unwrap();
            assert_eq!(exchange.status(), 200);
            assert_eq!(exchange.read_to_end().unwrap(), GIB, "{version:?}");
        });
        assert!(growth < GROWTH_MAX, "{version:?}: {growth} bytes more");
        assert_eq!(origin.requests(), 2);
    }
}

#[test]
fn one_gib_up_takes_bounded_memory() {
    for version in [Version::H1, Version::H2] {
        // The service's timeout runs to the response's head, which here comes after all of the upload.
        let (origin, gateway) = start("timeout = \"10 min\"");
        let growth = growth_of(&gateway, || {
            let exchange = transfer::begin(version, gateway.address(), "/count", GIB).unwrap();
            assert_eq!(exchange.text().unwrap(), format!("{GIB}\n"), "{version:?}");
        });
        assert!(growth < GROWTH_MAX, "{version:?}: {growth} bytes more");
        assert_eq!(origin.requests(), 2);
    }
}

#[test]
fn one_gib_both_ways_at_once_over_http_2_upstream() {
    let (_origin, gateway) = start("protocol = \"h2\"");
    let growth = growth_of(&gateway, || {
        let mut exchange = transfer::begin(Version::H2, gateway.address(), "/echo", GIB).unwrap();
        assert_eq!(exchange.read_to_end().unwrap(), GIB);
    });
    assert!(growth < GROWTH_MAX, "{growth} bytes more");
}

#[test]
fn clients_that_do_not_read_hold_the_origin_back_and_take_bounded_memory() {
    let (origin, gateway) = start("");
    let growth = growth_of(&gateway, || {
        let mut stalled: Vec<_> = [Version::H1, Version::H2]
            .into_iter()
            .cycle()
            .take(16)
            .map(|version| transfer::begin(version, gateway.address(), &format!("/bytes/{GIB}"), 0).unwrap())
            .collect();
        wait_until("all to have begun", || origin.requests() == 17);
        // Somebody who reads is served past those who do not, far more than all buffers on the way hold.
        let mut reader = transfer::begin(Version::H1, gateway.address(), "/bytes/200000000", 0).unwrap();
        assert_eq!(reader.read_to_end().unwrap(), 200_000_000);
        // And those who do not can begin at any time.
        let more = stalled.iter_mut().map(|exchange| exchange.read(1_000_000).unwrap());
        assert!(more.into_iter().all(|read| read >= 1_000_000));
    });
    assert!(growth < GROWTH_MAX, "{growth} bytes more");
}

fn start(more: &str) -> (Origin, Sluice) {
    let origin = Origin::start("a");
    let gateway = sluice!().config(any_route("files", &[origin.address()], more)).start();
    (origin, gateway)
}

/// By how much resident memory rose at most during `transfer`.
fn growth_of(gateway: &Sluice, transfer: impl FnOnce()) -> u64 {
    gateway.client().get("/bytes/100000").expect(200);
    gateway.reset_peak_rss();
    let before = gateway.rss_bytes();
    transfer();
    gateway.peak_rss_bytes().saturating_sub(before)
}
