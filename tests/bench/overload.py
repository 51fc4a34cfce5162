#!/usr/bin/env python3
"""Three times as much as the instances can do, as a part of RESULTS.md: how much of the capacity is served, and how fast
the rest is refused. Runs the tests of tests/overload.rs in release, which hold their bars themselves."""

import argparse
import os
import re
import subprocess
from pathlib import Path

import results

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent

# What the tests are called, in the order of the table.
TESTS = {
    "an_endpoints_limit_sheds_what_exceeds_it": "a limit per endpoint",
    "requests_that_may_wait_for_a_place_do_and_the_others_are_refused": "the same, and as many may wait for 10 ms",
    "a_limit_that_finds_itself_sheds_what_exceeds_the_capacity": "a limit that finds itself",
}

GOODPUT_BAR = 0.9
REFUSAL_BAR_MS = 20

LINE = re.compile(
    r"overload: circuit \{ (?P<circuit>.*?) \}, offered (?P<offered>\d+)/s, capacity (?P<capacity>\d+)/s, "
    r"goodput (?P<goodput>\d+)/s, refused (?P<refused>\d+)/s, p50 (?P<p50_us>\d+) us, p99 (?P<p99_us>\d+) us, "
    r"at once (?P<most>\d+), memory (?P<memory_kib>\d+) KiB"
)


def build():
    """The gateway and the test, as `cargo test` finds them; long enough not to be part of the measurement."""
    subprocess.run(["cargo", "test", "--release", "--package", "sluice", "--test", "overload", "--no-run"], cwd=ROOT, check=True)


def measure(test):
    """What one test prints, and whether its bars held. The others of the file are left out."""
    command = ["cargo", "test", "--release", "--package", "sluice", "--test", "overload", "--"]
    command += [test, "--exact", "--nocapture"]
    ran = subprocess.run(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    found = LINE.search(ran.stdout)
    if found is None:
        raise SystemExit(f"{test} does not say what it has measured:\n{ran.stdout}")
    if ran.returncode != 0:
        print(ran.stdout)
    numbers = {name: int(value) for name, value in found.groupdict().items() if name != "circuit"}
    return {**numbers, "circuit": found["circuit"]}


def row(name, runs):
    """The run whose goodput is in the middle; all of its figures are of that one run."""
    run = sorted(runs, key=lambda run: run["goodput"] / run["capacity"])[len(runs) // 2]
    goodput, p99_ms = run["goodput"] / run["capacity"], run["p99_us"] / 1000
    verdict = "met" if goodput >= GOODPUT_BAR and p99_ms < REFUSAL_BAR_MS else "**missed**"
    return (
        f"| {name}: `{run['circuit']}` | {run['offered']:,} | {run['capacity']:,} | {goodput:.1%} | "
        f"{run['p50_us'] / 1000:.1f} ms | {p99_ms:.1f} ms | {run['memory_kib'] / 1024:.1f} MiB | {verdict} |"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3, help="of each, of which the middle one counts (default 3)")
    parser.add_argument("--output", type=Path, default=HERE, help="folder of RESULTS.md")
    options = parser.parse_args()
    build()
    rows = [row(name, [measure(test) for _ in range(options.runs)]) for test, name in TESTS.items()]
    text = "\n".join(
        [
            "## Overload",
            "",
            "Two instances of eight slots, each of 10 ms a request: what they do without a gateway is the capacity, and "
            "three times what their slots could do is offered, for five seconds. Of a refusal the time from its being "
            "sent; memory beyond what the gateway had when the load began, at its peak. The median of "
            f"{options.runs} runs, {os.cpu_count()} CPUs for the gateway, the instances and the clients together "
            "(`python3 tests/bench/overload.py`).",
            "",
            f"Bars: goodput at least {GOODPUT_BAR:.0%} of the capacity, p99 of a refusal below {REFUSAL_BAR_MS} ms.",
            "",
            "| circuit | offered/s | capacity/s | goodput | refusal p50 | p99 | memory | bars |",
            "| --- | --: | --: | --: | --: | --: | --: | --- |",
            *rows,
            "",
        ]
    )
    results.write(options.output, "overload", text)
    print(text)


if __name__ == "__main__":
    main()
