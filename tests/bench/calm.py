"""What something costs a request that has no need of it: CPU a request of two gateways that differ in it alone."""

import os
from statistics import median

import generators
import peers as peers_
from ratios import ratio

SEED = 1
LOAD_S = 2


def sluice(name, template, places):
    base = next(peer for peer in peers_.all_peers() if peer.name == "sluice")
    if not base.program:
        raise SystemExit("target/release/sluice is missing: cargo build --release -p sluice")
    return peers_.Peer(name, template, base.program, base.command, base.version, separate_h2=False, places=places)


def compare(folder, peers, rounds, prepare=lambda backends: None):
    """CPU a request in microseconds for each of two peers, in interleaved rounds of small GETs. `prepare` is called
    when both run."""
    cores = sorted(os.sched_getaffinity(0))
    pin_proxy = lambda: os.sched_setaffinity(0, {cores[0]})
    pin_load = lambda: os.sched_setaffinity(0, {cores[min(1, len(cores) - 1)]})
    scenario = next(scenario for scenario in generators.SCENARIOS if scenario.name == "h1-small")
    processes, backends = peers_.start_backends(folder / "backends", pin_load)
    cost = {peer.name: [] for peer in peers}
    try:
        for peer in peers:
            peer.start(folder, backends, pin_proxy)
        prepare(backends)
        for peer in peers:
            generators.run(scenario, peer.ports["h1"], 1, folder, pin_load)
        for number in range(rounds):
            for peer in peers if number % 2 else reversed(peers):
                cpu_s = peer.cpu_s()
                served = generators.run(scenario, peer.ports["h1"], LOAD_S, folder, pin_load)
                if served.errors:
                    raise RuntimeError(f"{peer.name}: {served.errors} errors")
                cost[peer.name].append((peer.cpu_s() - cpu_s) / served.requests * 1e6)
    finally:
        for peer in peers:
            peer.stop()
        for process in processes:
            peers_.stop(process)
    return cost


def verdict(what, ours, theirs, rounds, bar):
    """One sentence: the median of the rounds' ratios beside its bar."""
    middle, lower, upper = ratio(ours, theirs, SEED)
    return (
        f"CPU a request on the calm data path (small GET), {what}: **{middle:.3f}** (95 % interval {lower:.3f} to "
        f"{upper:.3f}; {median(ours):.2f} and {median(theirs):.2f} µs, {rounds} interleaved rounds); bar: median at "
        f"most {bar}: {'met' if middle <= bar else '**not met**'}"
    )
