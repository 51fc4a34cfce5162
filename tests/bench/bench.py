#!/usr/bin/env python3
"""`make bench`: what a request costs here, and with nginx, HAProxy and Envoy, in one run on one machine.

Each proxy has one worker on one core; load and backends have another. The proxies take turns in every round, so
that what slows the machine for a while slows all of them. See RESULTS.md for what is measured.
"""

import argparse
import contextlib
import os
import re
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import generators
import instructions
import peers as peers_
import report
import results

HERE = Path(__file__).resolve().parent

# Connections are opened and caches filled before the first round counts.
WARM_UP_S = 1

# Completions are counted in batches: so long after the load, all of them are.
SETTLE_S = 5


def main():
    options = arguments()
    try:
        found = choose(options.peers)
        with tempfile.TemporaryDirectory(prefix="sluice-bench-") as folder:
            Path(folder).chmod(0o755)
            failed = measure(options, found, Path(folder))
    except KeyboardInterrupt:
        sys.exit("interrupted")
    sys.exit(1 if failed else 0)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [peer.name for peer in peers_.all_peers()]
    scenarios = [scenario.name for scenario in generators.SCENARIOS]
    parser.add_argument("--rounds", type=int, default=10, help="interleaved rounds (default 10)")
    parser.add_argument("--seconds", type=int, default=3, help="of load for each proxy in each round (default 3)")
    parser.add_argument("--quick", action="store_true", help="three rounds of one second: a look, not a measurement")
    parser.add_argument("--peers", nargs="+", choices=names, default=names, help="whom to compare")
    parser.add_argument("--scenarios", nargs="+", choices=scenarios, default=scenarios, help="what to ask")
    parser.add_argument("--output", type=Path, default=HERE, help="folder of RESULTS.md and results.svg")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 3, 1
    options.scenarios = [scenario for scenario in generators.SCENARIOS if scenario.name in options.scenarios]
    cores = sorted(os.sched_getaffinity(0))
    options.cores = len(cores)
    options.proxy_core, options.load_core = cores[0], cores[min(1, len(cores) - 1)]
    if len(cores) < 2:
        print("one core only: proxies, load and backends share it, so take throughput and latency for nothing")
    return options


def choose(names):
    """The peers asked for that are here; says which are not."""
    for tool in ("nginx", "wrk", "h2load"):
        if not peers_.find(tool):
            sys.exit(f"{tool} is missing: scripts/setup bench installs it")
    wanted = [peer for peer in peers_.all_peers() if peer.name in names]
    for peer in wanted:
        if not peer.program:
            print(f"{peer.name} is missing and left out (scripts/setup bench; cargo build --release for sluice)")
    found = [peer for peer in wanted if peer.program]
    return found or sys.exit("nobody to measure")


def measure(options, found, folder):
    """Runs everything and writes the report; the answer is whether anything failed that must not."""
    pin_proxy = lambda: os.sched_setaffinity(0, {options.proxy_core})
    pin_load = lambda: os.sched_setaffinity(0, {options.load_core})
    uncounted = instructions.why_not()
    measured = {scenario.name: {} for scenario in options.scenarios}
    with contextlib.ExitStack() as stack:
        processes, backends = peers_.start_backends(folder / "backends", pin_load)
        for process in processes:
            stack.callback(peers_.stop, process)
        for peer in found:
            stack.callback(peer.stop)
            peer.start(folder, backends, pin_proxy)
        for scenario in options.scenarios:
            able = [peer for peer in found if scenario.protocol in peer.protocols]
            for peer in able:
                generators.run(scenario, peer.ports[scenario.protocol], WARM_UP_S, folder, pin_load)
            for number in range(options.rounds):
                # Another one begins each round, so that nobody always follows the same neighbour.
                turn = number % len(able)
                for peer in able[turn:] + able[:turn]:
                    one = run_once(peer, scenario, options.seconds, folder, pin_load, uncounted is None)
                    measured[scenario.name].setdefault(peer.name, []).append(one)
                    progress(options, scenario, number, peer, one)
        facts, failed = sluice_facts(found)
        versions = {peer.name: peer.version_line() for peer in found if peer.name != "relay"}
    facts.append("instructions: " + (f"not counted: {uncounted}" if uncounted else "counted by perf, user and kernel"))
    failed |= any(run.served.errors for rounds in measured.values() for runs in rounds.values() for run in runs)
    names = [peer.name for peer in found]
    text = report.page(measured, names, versions, facts, options)
    results.write(options.output, "proxies", text)
    (options.output / "results.svg").write_text(report.plot(measured, names, options.scenarios))
    print("\n" + text)
    return failed


def run_once(peer, scenario, seconds, folder, pin, count_instructions):
    counter = instructions.Counter(peer.pids()) if count_instructions else contextlib.nullcontext()
    before = peer.cpu_s()
    with counter:
        served = generators.run(scenario, peer.ports[scenario.protocol], seconds, folder, pin)
    cpu_s = peer.cpu_s() - before
    return report.Round(served, cpu_s, peer.rss_bytes(), counter.count if count_instructions else 0)


def progress(options, scenario, number, peer, one):
    print(
        f"{scenario.name}  round {number + 1}/{options.rounds}  {peer.name:<8} {one.cpu_us:6.2f} µs a request  "
        f"{one.served.requests / one.served.seconds:8.0f}/s  p99 {report.duration(one.served.p99_us)}  "
        f"{one.served.errors} errors",
        flush=True,
    )


def sluice_facts(found):
    """Whether the component decided every time: (lines for the report, whether it did not)."""
    ours = next((peer for peer in found if peer.name == "sluice"), None)
    if ours is None:
        return [], False
    end = time.monotonic() + SETTLE_S
    while True:
        text = urllib.request.urlopen(f"http://127.0.0.1:{ours.ports['control']}/metrics", timeout=5).read().decode()
        picks, attempts, fallbacks = (
            total(text, name) for name in ("sluice_plugin_calls_total", "sluice_attempts_total", "sluice_plugin_fallbacks_total")
        )
        if picks == attempts or time.monotonic() > end:
            break
        time.sleep(0.1)
    right = picks == attempts and fallbacks == 0 and picks > 0
    line = f"sluice: {picks} pick calls for {attempts} attempts, {fallbacks} fallbacks"
    return [line + (": the component decided every time" if right else ": **the component did not decide every time**")], not right


def total(text, name):
    """The sum of a metric's samples over all labels."""
    samples = re.findall(rf"^{name}(?:{{[^}}]*}})? ([0-9.e+]+)", text, re.M)
    return int(sum(float(sample) for sample in samples))


if __name__ == "__main__":
    main()
