"""The load: wrk for HTTP/1.1, h2load for HTTP/2, both pinned beside the backends."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent

# Enough connections that one worker is never idle for want of requests; the same number of streams for HTTP/2.
CONNECTIONS = 64
H2_CONNECTIONS = 8

# A run takes its seconds and some for setting up; one that takes this much longer hangs.
HANG_S = 30


@dataclass(frozen=True)
class Scenario:
    """What is asked of every peer."""

    name: str
    title: str
    protocol: str  # "h1" or "h2"
    path: str


SCENARIOS = [
    Scenario("h1-small", "HTTP/1.1, 64 connections, small GET", "h1", "/small"),
    Scenario("h1-64k", "HTTP/1.1, 64 connections, 64 KiB bodies", "h1", "/large"),
    Scenario("h2-small", "HTTP/2, 8 connections of 8 streams, small GET", "h2", "/small"),
]


@dataclass(frozen=True)
class Served:
    """What one run of load saw."""

    requests: int
    errors: int
    seconds: float
    p50_us: float
    p99_us: float
    p999_us: float


def run(scenario, port, seconds, folder, pin):
    """Asks for `seconds`; `pin` is called in the generator's process before it begins."""
    url = f"http://127.0.0.1:{port}{scenario.path}"
    if scenario.protocol == "h1":
        return wrk(url, seconds, CONNECTIONS, pin)
    return _h2load(url, seconds, folder, pin)


def wrk(url, seconds, connections, pin, script="latency.lua", arguments=()):
    """One thread of wrk with a script of this folder."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(HERE / script), url, "--", *arguments]
    output = _output(command, seconds, pin)
    figures = re.search(r"^FIGURES (.*)$", output, re.M)
    if not figures:
        raise RuntimeError(f"wrk said nothing to be read:\n{output}")
    requests, duration_us, errors, p50, p99, p999 = (int(field) for field in figures.group(1).split())
    return Served(requests, errors, duration_us / 1e6, p50, p99, p999)


def _h2load(url, seconds, folder, pin):
    log = folder / "h2load.log"
    log.unlink(missing_ok=True)
    streams = CONNECTIONS // H2_CONNECTIONS
    command = ["h2load", "-t1", f"-c{H2_CONNECTIONS}", f"-m{streams}", f"-D{seconds}", f"--log-file={log}", url]
    output = _output(command, seconds, pin)
    counts = re.search(r"(\d+) done, \d+ succeeded, (\d+) failed, \d+ errored", output)
    codes = re.search(r"status codes: \d+ 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", output)
    if not counts or not codes:
        raise RuntimeError(f"h2load said nothing to be read:\n{output}")
    done, failed = (int(count) for count in counts.groups())
    errors = failed + sum(int(count) for count in codes.groups())
    # Start time, status and duration in microseconds of each request.
    durations = sorted(int(line.split("\t")[2]) for line in log.read_text().splitlines())
    percentile = lambda share: durations[min(len(durations) - 1, int(share * len(durations)))] if durations else 0
    return Served(done, errors, seconds, percentile(0.5), percentile(0.99), percentile(0.999))


def _output(command, seconds, pin):
    result = subprocess.run(
        command, preexec_fn=pin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=seconds + HANG_S
    )
    if result.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n{result.stdout}")
    return result.stdout
