//! Few long-lived connections are spread over the workers, which `SO_REUSEPORT` alone does not do.

use sluice_harness::{H2Connection, Origin, RawConnection, Sluice, any_route, sluice, wait_until};

fn by_worker(gateway: &Sluice, workers: usize) -> Vec<f64> {
    (0..workers).map(|worker| gateway.metric("sluice_connections", &[&format!("worker=\"{worker}\"")])).collect()
}

#[test]
fn few_long_lived_connections_are_spread_over_the_workers() {
    let origin = Origin::start("a");
    let gateway = sluice!().config(any_route("orders", &[origin.address()], "")).start();
    let mut connections = Vec::new();
    for count in 1..=8 {
        let connection = H2Connection::to(gateway.address());
        connection.get("/").expect(200);
        connections.push(connection);
        let spread = by_worker(&gateway, 2);
        assert_eq!(spread.iter().sum::<f64>(), f64::from(count));
        assert!((spread[0] - spread[1]).abs() <= 1.0, "{spread:?} of {count}");
    }
    drop(connections);
    wait_until("their places to be free", || by_worker(&gateway, 2) == [0.0, 0.0]);
}

#[test]
fn a_worker_that_has_become_free_gets_the_next_connections() {
    let origin = Origin::start("a");
    let config = format!("[gateway]\nworkers = 3\n{}", any_route("orders", &[origin.address()], ""));
    let gateway = sluice!().config(config).start();
    let mut held: Vec<_> = (0..12)
        .map(|_| {
            let before = by_worker(&gateway, 3);
            let mut raw = RawConnection::to(gateway.address());
            raw.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
            assert_eq!(raw.read_answer().status, 200);
            let after = by_worker(&gateway, 3);
            let worker = (0..3).find(|&worker| after[worker] > before[worker]).expect("one has one more");
            (worker, raw)
        })
        .collect();
    assert_eq!(by_worker(&gateway, 3), [4.0; 3]);
    held.retain(|&(worker, _)| worker != 1);
    wait_until("one worker to be free", || by_worker(&gateway, 3) == [4.0, 0.0, 4.0]);
    for count in 1..=4 {
        let mut raw = RawConnection::to(gateway.address());
        raw.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        assert_eq!(raw.read_answer().status, 200);
        assert_eq!(by_worker(&gateway, 3), [4.0, f64::from(count), 4.0]);
        held.push((1, raw));
    }
}
