#!/usr/bin/env python3
"""What events cost, as a part of RESULTS.md: durable appends beside PostgreSQL, Redis and NATS (all of them sync before
they acknowledge), the engine alone beside bare fjall, reading, delivery, growth, and opening after kill -9.

Clients and servers share the cores; the systems take turns in every round.
"""

import argparse
import os
import tempfile
from pathlib import Path
from statistics import median

import event_peers
import report
import results

HERE = Path(__file__).resolve().parent
TARGET = HERE.parent.parent / "target"

CLIENTS = (1, 16, 256)
ENGINE_S = 3
DELIVER_S, DELIVER_RATE = 5, 500
# The aims.
RATE_BARS = {1: 1.0, 16: 1.3, 256: 2.0}
P99_BARS_US = {1: 1_000, 16: 3_000, 256: 25_000}
BATCH_BAR = 40_000
ENGINE_BAR = 0.8
PROJECTION_BAR = 0.2
GROWTH_BAR = 0.1
OPEN_BAR_MS = 3_000


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds (default 3)")
    parser.add_argument("--seconds", type=int, default=3, help="of each load in each round (default 3)")
    parser.add_argument("--grown", type=int, default=2_000_000, help="events to grow to (default 2,000,000; the aim says 10,000,000)")
    parser.add_argument("--opened", type=int, default=1_000_000, help="events before kill -9 (default 1,000,000)")
    parser.add_argument("--output", type=Path, default=HERE, help="folder of RESULTS.md")
    options = parser.parse_args()
    load_before = os.getloadavg()[0]
    TARGET.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="bench-events-", dir=TARGET))
    folder.chmod(0o755)
    try:
        load = event_peers.Load()
        engine = engine_rounds(load, folder, options)
        grown = load.run("grow", folder / "grown", options.grown)
        print(grown, flush=True)
        event_peers.remove(folder / "grown")
        opened = load.run("reopen", folder / "opened", options.opened)
        print(opened, flush=True)
        event_peers.remove(folder / "opened")
        peers, runs, followed = over_tcp(load, folder, options)
    finally:
        event_peers.remove(folder)
    text = page(options, load_before, engine, grown, opened, peers, runs, followed)
    results.write(options.output, "events", text)
    print("\n" + text)


def engine_rounds(load, folder, options):
    rounds = []
    for number in range(options.rounds):
        within = folder / f"engine-{number}"
        within.mkdir()
        rounds.append(load.run("engine", within, ENGINE_S))
        print({name: round(figures["rate"]) for name, figures in rounds[-1].items() if "rate" in figures}, flush=True)
        event_peers.remove(within)
    return rounds


def over_tcp(load, folder, options):
    peers = event_peers.all_there(folder, load)
    runs, followed = {}, {}
    try:
        for peer in peers:
            peer.start()
        for number in range(options.rounds):
            for clients, batch in [(clients, 1) for clients in CLIENTS] + [(16, event_peers.BATCH)]:
                for peer in peers if number % 2 == 0 else reversed(peers):
                    if batch > 1 and not peer.batches:
                        continue
                    run = peer.run(clients, options.seconds, batch)
                    runs.setdefault((peer.name, clients, batch), []).append(run)
                    print(
                        f"round {number + 1}/{options.rounds}  {peer.name:<38} {clients:>3} × {batch:<2} {run['rate']:8.0f}/s  "
                        f"p50 {report.duration(run['p50_us'])}  p99 {report.duration(run['p99_us'])}",
                        flush=True,
                    )
        sluice = peers[0]
        followed["deliver"] = load.run("deliver", sluice.address, DELIVER_S, DELIVER_RATE)
        appended = sum(run["count"] for (name, *_), of in runs.items() if name == sluice.name for run in of)
        followed["catch-up"] = load.run("catch-up", sluice.address, min(appended, 300_000))
        print(followed, flush=True)
    finally:
        for peer in peers:
            if getattr(peer, "process", None) or getattr(peer, "peer", None):
                peer.stop()
    return peers, runs, followed


def page(options, load_before, engine, grown, opened, peers, runs, followed):
    def middle(name, clients, field, batch=1):
        return median(run[field] for run in runs[name, clients, batch])

    alone = lambda name, field="rate": median(of[name][field] for of in engine)
    lines = [
        "## Events",
        "",
        f"Events of 1 KiB over 1,000 streams, each acknowledged when it is synced; one event a request but where it says "
        f"otherwise; clients and servers share {len(os.sched_getaffinity(0))} cores. {options.rounds} interleaved rounds of "
        f"{options.seconds} s, medians (`python3 tests/bench/events.py`); the machine's load before was {load_before:.1f}. "
        f"Sluice is asked over HTTP/1.1 with CloudEvents in binary mode (batches: in batch mode); Redis and NATS are loaded by the same client in their own "
        f"protocols, PostgreSQL by pgbench. Their versions: {'; '.join(peer.version for peer in peers if peer.version)}.",
        "",
        "| durable appends a second (p50, p99) | 1 client | 16 | 256 | 16, of 16 events each |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for peer in peers:
        cells = []
        for clients, batch in [(clients, 1) for clients in CLIENTS] + [(16, event_peers.BATCH)]:
            if (peer.name, clients, batch) in runs:
                rate, p50, p99 = (middle(peer.name, clients, field, batch) for field in ("rate", "p50_us", "p99_us"))
                cells.append(f"{rate:,.0f} ({report.duration(p50)}, {report.duration(p99)})")
            else:
                cells.append("")
        lines.append(f"| {peer.name} | {' | '.join(cells)} |")
    lines += [
        "",
        "| the engine alone, in process | 1 writer | 16 | 256 |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name, title in (("fjall", "bare fjall: one writer, group commit, three keys an event"), ("store", "the store of events"),
                        ("projection", "the same with a key of 128 bytes of a projection in each event's commit")):
        cells = " | ".join(f"{alone(f'{name} {writers}'):,.0f}" for writers in CLIENTS)
        lines.append(f"| {title} | {cells} |")
    lines += [
        f"| the disk: 1 KiB appended, `fdatasync` | {alone('fdatasync'):,.0f} | | |",
        "",
        f"- Reading everything in order, in process: {median(of['read']['cold'] for of in engine):,.0f} events a second after opening, "
        f"{median(of['read']['warm'] for of in engine):,.0f} the second time. Catching up over HTTP: "
        f"{followed['catch-up']['subscribed']:,.0f} a second by server-sent events, {followed['catch-up']['pages']:,.0f} by pages of 1,000.",
        f"- Delivery to a subscriber, from sending the append on, at {DELIVER_RATE} a second: p50 "
        f"{report.duration(followed['deliver']['p50_us'])}, p99 {report.duration(followed['deliver']['p99_us'])}.",
    ]
    sluice = peers[0].name
    postgres = next((peer.name for peer in peers if peer.name.startswith("PostgreSQL")), None)
    for clients in CLIENTS:
        p99 = middle(sluice, clients, "p99_us")
        lines.append(f"- p99 with {clients} clients: **{report.duration(p99)}**; bar: {report.duration(P99_BARS_US[clients])}: {met(p99 <= P99_BARS_US[clients])}")
        if postgres:
            share = middle(sluice, clients, "rate") / middle(postgres, clients, "rate")
            lines.append(f"- {clients} clients: **{share:.2f}** × PostgreSQL's rate; bar: {RATE_BARS[clients]}: {met(share >= RATE_BARS[clients])}")
    rate = middle(sluice, 16, "rate", event_peers.BATCH)
    lines.append(f"- 16 events a request, 16 clients: **{rate:,.0f}** a second; bar: {BATCH_BAR:,}: {met(rate >= BATCH_BAR)}")
    for writers in CLIENTS:
        share = alone(f"store {writers}") / alone(f"fjall {writers}")
        lines.append(f"- The engine with {writers} writers: **{share:.2f}** × bare fjall in the same run; bar: {ENGINE_BAR}: {met(share >= ENGINE_BAR)}")
    cost = max(1 - alone(f"projection {writers}") / alone(f"store {writers}") for writers in CLIENTS)
    lines.append(f"- A projection's key in the same commit costs at most **{cost:.0%}** of the rate; bar: {PROJECTION_BAR:.0%}: {met(cost <= PROJECTION_BAR)}")
    first, last = grown["rates"][0], grown["rates"][-1]
    growth = first / last - 1
    shown = ", ".join(f"{rate:,.0f}" for rate in grown["rates"])
    lines += [
        f"- Growing to {grown['events']:,} events with 256 writers, a second in each tenth: {shown}; the last tenth costs "
        f"**{growth:+.0%}** beside the first; bar: {GROWTH_BAR:+.0%} (up to ten million): {met(growth <= GROWTH_BAR)}",
        f"- Open after kill -9 with {opened['events']:,} events: **{opened['open_ms']:,.0f} ms**; bar: {OPEN_BAR_MS:,} ms: {met(opened['open_ms'] <= OPEN_BAR_MS)}",
    ]
    return "\n".join(lines) + "\n"


def met(is_met):
    return "met" if is_met else "**not met**"


if __name__ == "__main__":
    main()
