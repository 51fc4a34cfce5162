#!/usr/bin/env python3
"""What a distributed transaction costs, as a part of RESULTS.md: throughput and latency of two branches with the record
on disk, beside the same calls made without a coordinator, and beside what the disk's sync alone allows.

One gateway, two participants (nginx that answers `200`) and the clients (wrk), all on the same cores; the kinds of load
take turns in every round. Every transaction that was begun must have succeeded, or nothing is reported.
"""

import argparse
import json
import os
import re
import shutil
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import calm
import generators
import peers as peers_
import report
import results

HERE = Path(__file__).resolve().parent
TARGET = HERE.parent.parent / "target"

CLIENTS = (1, 16, 256)
# What a durable commit of a small transaction writes, about; and for how long in each round.
SYNC_BYTES, SYNC_S = 1024, 1
# After a load, until everything that was begun has ended.
SETTLE_S = 120
PAGE = 1000

# The aim, with the most clients.
RATE_BAR = 3000
# Coordinated: durable commits that a client waits for, and calls.
COMMITS, CALLS = 2, 4


@dataclass(frozen=True)
class Kind:
    name: str
    title: str
    # Units of work in one request.
    share: float = 1.0


CALLS_ALONE = Kind("calls", "the four calls of one, without a coordinator (latency: of one call)", 1 / CALLS)
KINDS = (
    Kind("two-phase-commit+true", "two-phase commit, answered when it has ended"),
    Kind("saga+true", "saga, answered when it has ended"),
    Kind("two-phase-commit+false", "two-phase commit, answered when it is durable"),
    CALLS_ALONE,
)


@dataclass(frozen=True)
class Run:
    rate: float
    p50_us: float
    p99_us: float
    # Of the gateway, for each transaction.
    cpu_us: float


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default 5)")
    parser.add_argument("--seconds", type=int, default=3, help="of each load in each round (default 3)")
    parser.add_argument("--clients", type=int, nargs="+", default=CLIENTS, help="at once")
    parser.add_argument("--kinds", nargs="+", choices=[kind.name for kind in KINDS], help="of load (default all)")
    parser.add_argument("--output", type=Path, default=HERE, help="folder of RESULTS.md")
    options = parser.parse_args()
    kinds = [kind for kind in KINDS if options.kinds is None or kind.name in options.kinds]
    load = os.getloadavg()[0]
    # Beside what cargo builds: the folder for temporary files may be in memory.
    TARGET.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="bench-transactions-", dir=TARGET))
    try:
        folder.chmod(0o755)
        runs, syncs_us, counted = measure(options, kinds, folder)
    finally:
        shutil.rmtree(folder)
    text = page(options, kinds, runs, syncs_us, counted, load)
    if options.kinds is None:
        results.write(options.output, "transactions", text)
    print("\n" + text)


def measure(options, kinds, folder):
    """Runs by kind and clients, the durations of bare syncs by round, and what the gateway has counted."""
    anywhere = lambda: None
    gateway = calm.sluice("transactions", "transactions.toml", {})
    processes, participants = peers_.start_backends(folder / "participants", anywhere, "participant.conf")
    runs = {(kind, clients): [] for kind in kinds for clients in options.clients}
    syncs_us, begun_before = [], 0
    try:
        gateway.start(folder, participants, anywhere)
        for number in range(options.rounds):
            syncs_us.append(sync_alone(folder))
            order = kinds if number % 2 == 0 else list(reversed(kinds))
            for clients in options.clients:
                for kind in order:
                    run, begun_before = run_once(gateway, kind, clients, number, options.seconds, begun_before)
                    runs[kind, clients].append(run)
                    print(
                        f"round {number + 1}/{options.rounds}  {kind.name:<24} {clients:>3} clients  {run.rate:7.0f}/s  "
                        f"p50 {report.duration(run.p50_us)}  p99 {report.duration(run.p99_us)}  "
                        f"{run.cpu_us:4.0f} µs CPU",
                        flush=True,
                    )
        counted = check(gateway)
    finally:
        gateway.stop()
        for process in processes:
            peers_.stop(process)
    return runs, syncs_us, counted


def run_once(gateway, kind, clients, number, seconds, begun_before):
    port = gateway.ports["h1" if kind is CALLS_ALONE else "control"]
    arguments = [kind.name, f"{kind.name.replace('+', '-')}-{number}-{clients}-"]
    cpu_s, began = gateway.cpu_s(), time.monotonic()
    served = generators.wrk(
        f"http://127.0.0.1:{port}/", seconds, clients, lambda: None, "transactions.lua", arguments
    )
    if served.errors:
        raise RuntimeError(f"{kind.name}, {clients} clients: {served.errors} answers that were no success")
    begun = settled(gateway)
    cpu_s, lasted_s = gateway.cpu_s() - cpu_s, time.monotonic() - began
    done = served.requests * kind.share
    if kind is not CALLS_ALONE:
        done = begun - begun_before
        # What was under way when the load ended has no answer.
        if not served.requests <= done <= served.requests + clients:
            raise RuntimeError(f"{kind.name}: {done} transactions for {served.requests} answers")
    # What was only acknowledged counts when it has ended too.
    if kind.name.endswith("+false"):
        rate = done / lasted_s
    else:
        rate = served.requests * kind.share / served.seconds
    return Run(rate, served.p50_us, served.p99_us, cpu_s / done * 1e6), begun


def settled(gateway):
    """How many were begun, as soon as all have ended."""
    end = time.monotonic() + SETTLE_S
    while True:
        metrics = ask(gateway, "/metrics").decode()
        if sample(metrics, "sluice_transactions_live") == 0:
            return sample(metrics, "sluice_transactions_begun_total")
        if time.monotonic() > end:
            raise RuntimeError(f"{sample(metrics, 'sluice_transactions_live')} transactions have not ended")
        time.sleep(0.02)


def check(gateway):
    """One line on what became of them all; an error if any is not what it should be."""
    metrics = ask(gateway, "/metrics").decode()
    begun = sample(metrics, "sluice_transactions_begun_total")
    succeeded = sample(metrics, 'sluice_transactions_total{outcome="succeeded"}')
    hazards = sample(metrics, "sluice_transaction_hazards_total")
    listed, path = {}, f"/transactions?limit={PAGE}"
    while path:
        answered = json.loads(ask(gateway, path))
        for transaction in answered["transactions"]:
            listed[transaction["status"]] = listed.get(transaction["status"], 0) + 1
        path = answered["next"]
    if hazards or succeeded != begun or listed != {"succeeded": begun}:
        raise RuntimeError(f"{begun} begun, {succeeded} succeeded, {hazards} hazards; listed: {listed}")
    commits = sample(metrics, "sluice_transaction_commits_total")
    return f"{begun:,} transactions were begun and listed, and every one has succeeded; {commits / begun:.2f} commits each"


def ask(gateway, path):
    return urllib.request.urlopen(f"http://127.0.0.1:{gateway.ports['control']}{path}", timeout=60).read()


def sample(metrics, name):
    found = re.search(rf"^{re.escape(name)}(?:{{}})? ([0-9.e+]+)$", metrics, re.M)
    return int(float(found.group(1))) if found else 0


def sync_alone(folder):
    """Durations in microseconds of appends that are each synced, into a file whose blocks are all there and written."""
    path, durations_us, at = folder / "syncs", [], 0
    size = 16 * 2**20
    file = os.open(path, os.O_CREAT | os.O_RDWR)
    try:
        for offset in range(0, size, 2**20):
            os.pwrite(file, bytes(2**20), offset)
        os.fsync(file)
        end = time.monotonic() + SYNC_S
        while time.monotonic() < end and at < size:
            began = time.perf_counter()
            os.pwrite(file, b"x" * SYNC_BYTES, at)
            os.fdatasync(file)
            durations_us.append((time.perf_counter() - began) * 1e6)
            at += SYNC_BYTES
    finally:
        os.close(file)
        path.unlink()
    return durations_us


def page(options, kinds, runs, syncs_us, counted, load):
    syncs = sorted(duration for of in syncs_us for duration in of)
    sync_p50_us, sync_p99_us = syncs[len(syncs) // 2], syncs[int(len(syncs) * 0.99)]
    sync_rate = median(1e6 * len(of) / sum(of) for of in syncs_us)
    lines = [
        "## Transactions",
        "",
        f"Two branches each, `service://` participants (nginx that answers 200), the record in the embedded store on disk; gateway, "
        f"participants and clients share {len(os.sched_getaffinity(0))} cores. {options.rounds} interleaved rounds of "
        f"{options.seconds} s, medians (`python3 tests/bench/transactions.py`); the machine's load before was {load:.1f}, which "
        f"is what others took of it. {counted}. What was only "
        f"acknowledged counts when it has ended too; its latency is that of the acknowledgement. Ended ones are kept, as they "
        f"are for 7 days, so their removal is not in here.",
        "",
        "| | clients | a second | p50 | p99 | CPU of the gateway for each |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    middle = lambda kind, clients, field: median(getattr(run, field) for run in runs[kind, clients])
    for kind in kinds:
        for clients in options.clients:
            rate, p50, p99, cpu = (middle(kind, clients, field) for field in ("rate", "p50_us", "p99_us", "cpu_us"))
            lines.append(
                f"| {kind.title} | {clients} | {rate:,.0f} | {report.duration(p50)} | {report.duration(p99)} | {cpu:.0f} µs |"
            )
    lines.append(
        f"| the disk: {SYNC_BYTES // 1024} KiB into space that is there, `fdatasync`, one after the other | 1 | {sync_rate:,.0f} "
        f"| {report.duration(sync_p50_us)} | {report.duration(sync_p99_us)} | |"
    )
    first, most, fewest = kinds[0], options.clients[-1], options.clients[0]
    rate = middle(first, most, "rate")
    lines += ["", f"- {first.title}, {most} clients: **{rate:,.0f}** a second; bar: {RATE_BAR:,}: {met(rate >= RATE_BAR)}"]
    if CALLS_ALONE in kinds:
        parts_us = COMMITS * sync_p50_us + CALLS * middle(CALLS_ALONE, fewest, "p50_us")
        p50 = middle(first, fewest, "p50_us")
        lines.append(
            f"- p50 with one client: **{report.duration(p50)}**; bar: two bare syncs and four calls, {report.duration(parts_us)}: "
            f"{met(p50 <= parts_us)}"
        )
    return "\n".join(lines) + "\n"


def met(is_met):
    return "met" if is_met else "**not met**"


if __name__ == "__main__":
    main()
