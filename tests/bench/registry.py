#!/usr/bin/env python3
"""What the registry costs, as a part of RESULTS.md: heartbeats of many instances, how soon a change is in force, and
whether requests pay for it.

One gateway of two workers; 100 services of 100 instances and one of 1,000, each kept alive by a TTL check, and one
change a second among them. Everything on loopback, all sizes and times bounded.
"""

import argparse
import asyncio
import json
import os
import tempfile
import time
from pathlib import Path
from statistics import median

import generators
import peers as peers_
import results
from ratios import ratio

HERE = Path(__file__).resolve().parent

SERVICES, INSTANCES, LARGE = 100, 100, 1000
TTL_S, HEARTBEAT_S = 15, 5
# Clients of the control listener at once, each with a connection that is kept alive.
CLIENTS = 16
# Connections that watch who is picked: more than workers, so that every worker has some.
WATCHERS = 8
# DESIGN.md: from a change to every worker's picks.
CHANGE_BAR_MS = 50
COST_BAR = 1.03
SEED = 1


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--changes", type=int, default=100, help="one a second (default 100)")
    parser.add_argument("--rounds", type=int, default=10, help="of the calm comparison (default 10)")
    parser.add_argument("--output", type=Path, default=HERE, help="folder of RESULTS.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sluice-registry-") as folder:
        Path(folder).chmod(0o755)
        lines = asyncio.run(many(Path(folder) / "many", options.changes))
        lines += calm(Path(folder) / "calm", options.rounds)
    text = "## The registry\n\n" + "\n".join(lines) + "\n"
    results.write(options.output, "registry", text)
    print(text)


class Connection:
    """One kept-alive HTTP/1.1 connection, asked one request after the other."""

    def __init__(self, port):
        self.port, self.reader, self.writer = port, None, None

    async def ask(self, method, path, body=None):
        """Status and body."""
        if self.writer is None:
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        data = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1:{self.port}\r\ncontent-type: application/json\r\n"
        self.writer.write(f"{head}content-length: {len(data)}\r\n\r\n".encode() + data)
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = next(int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
        return int(head.split(b" ", 2)[1]), await self.reader.readexactly(length)

    def close(self):
        if self.writer is not None:
            self.writer.close()


def registration(service, number, port, ttl_s=TTL_S):
    check = {"TTL": f"{ttl_s}s", "Status": "passing"}
    name = f"{service}-{number}"
    return {"Name": service, "ID": name, "Address": "127.0.0.1", "Port": port, "Check": check}


async def each(port, items, ask):
    """Does `ask(connection, item)` for all items, by so many clients at once."""
    left = iter(items)

    async def client():
        connection = Connection(port)
        for item in left:
            status, body = await ask(connection, item)
            if status != 200:
                raise RuntimeError(f"{item}: {status} {body[:200]}")
        connection.close()

    await asyncio.gather(*(client() for _ in range(CLIENTS)))


async def heartbeats(port, names, ended):
    """Keeps all alive; the answer is how many were sent."""
    sent = 0
    beat = lambda connection, name: connection.ask("PUT", f"/v1/agent/check/pass/service:{name}")
    while not ended.is_set():
        begun = time.monotonic()
        # In tenths of the interval, so that they do not come all at once.
        for part in range(10):
            some = names[part::10]
            await each(port, some, beat)
            sent += len(some)
            until = begun + HEARTBEAT_S * (part + 1) / 10
            await asyncio.sleep(max(0, until - time.monotonic()))
            if ended.is_set():
                break
    return sent


async def origin(name):
    """A server that says its name; its port."""

    async def serve(reader, writer):
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(f"HTTP/1.1 200 OK\r\ncontent-length: {len(name)}\r\n\r\n{name}".encode())
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    return server.sockets[0].getsockname()[1]


async def many(folder, changes):
    names = [f"s{number:03}" for number in range(SERVICES)] + ["large"]
    instances = [(name, number) for name in names for number in range(LARGE if name == "large" else INSTANCES)]
    services = "\n".join(
        f'[services.{name}]\n[[route]]\npath = "/{name}/"\nservice = "{name}"' for name in names
    )
    gateway = sluice("many", "registry.toml", dict(count=len(names), services=services))
    gateway.start(folder, [], lambda: None)
    control = gateway.ports["control"]
    try:
        one, other = await origin("one"), await origin("other")
        connection = Connection(control)
        await connection.ask("PUT", "/v1/agent/service/register", registration("probe", "one", one, 3600))
        begun = time.monotonic()
        # Nobody listens at these ports: they are registered, not asked.
        register = lambda connection, item: connection.ask(
            "PUT", "/v1/agent/service/register", registration(*item, 20000 + item[1])
        )
        await each(control, instances, register)
        registering_s = time.monotonic() - begun
        ended = asyncio.Event()
        beating = asyncio.create_task(heartbeats(control, [f"{name}-{number}" for name, number in instances], ended))
        await asyncio.sleep(HEARTBEAT_S)
        cpu_s, begun = gateway.cpu_s(), time.monotonic()
        taken_ms = await watch_changes(gateway.ports["h1"], connection, other, changes)
        cpu_s, lasted_s = gateway.cpu_s() - cpu_s, time.monotonic() - begun
        ended.set()
        sent = await beating
        metrics = (await connection.ask("GET", "/v1/health/state/critical"))[1]
        rss = gateway.rss_bytes()
    finally:
        gateway.stop()
    rate = sent / (lasted_s + HEARTBEAT_S)
    taken_ms.sort()
    p99 = taken_ms[min(len(taken_ms) - 1, int(0.99 * len(taken_ms)))]
    return [
        f"{SERVICES} services of {INSTANCES} instances and one of {LARGE:,}, each with a TTL of {TTL_S} s; measured over "
        f"{lasted_s:.0f} s with one change a second (`python3 tests/bench/registry.py`).",
        "",
        "| | |",
        "| --- | ---: |",
        f"| registrations, each durable before its answer, {CLIENTS} clients | {len(instances) / registering_s:,.0f} a second |",
        f"| heartbeats, each answered | {rate:,.0f} a second |",
        f"| CPU of the gateway meanwhile, heartbeats, changes and the watching requests together | {cpu_s / lasted_s * 100:.0f} % of one core |",
        f"| resident memory | {rss / 2**20:.0f} MiB |",
        f"| instances that were critical at the end | {len(json.loads(metrics))} |",
        f"| from sending a registration to the pick of every worker's connections: median, p99, most of {len(taken_ms)} "
        f"| {median(taken_ms):.1f} ms, {p99:.1f} ms, {taken_ms[-1]:.1f} ms |",
        f"| bar: p99 at most {CHANGE_BAR_MS} ms | {'met' if p99 <= CHANGE_BAR_MS else '**not met**'} |",
        "",
    ]


async def watch_changes(listener, control, other, changes):
    """Registers and deregisters an instance, once a second; for each registration the time, in milliseconds, after
    which every watching connection has been answered by it."""
    seen = {}
    ended = asyncio.Event()

    async def watcher(number):
        connection = Connection(listener)
        while not ended.is_set():
            _, body = await connection.ask("GET", "/")
            if body == b"other":
                seen.setdefault(number, time.monotonic())
            await asyncio.sleep(0.001)
        connection.close()

    watchers = [asyncio.create_task(watcher(number)) for number in range(WATCHERS)]
    taken_ms = []
    for _ in range((changes + 1) // 2):
        begun = time.monotonic()
        seen.clear()
        await control.ask("PUT", "/v1/agent/service/register", registration("probe", "other", other, 3600))
        while len(seen) < WATCHERS and time.monotonic() < begun + 5:
            await asyncio.sleep(0.001)
        if len(seen) < WATCHERS:
            raise RuntimeError("a registration was not in force after 5 s")
        taken_ms.append((max(seen.values()) - begun) * 1e3)
        await asyncio.sleep(max(0, begun + 1 - time.monotonic()))
        await control.ask("PUT", "/v1/agent/service/deregister/probe-other")
        await asyncio.sleep(max(0, begun + 2 - time.monotonic()))
    ended.set()
    await asyncio.gather(*watchers)
    return taken_ms


def calm(folder, rounds):
    """CPU a request with endpoints from the registry, beside the same from the configuration."""
    cores = sorted(os.sched_getaffinity(0))
    pin_proxy = lambda: os.sched_setaffinity(0, {cores[0]})
    pin_load = lambda: os.sched_setaffinity(0, {cores[min(1, len(cores) - 1)]})
    scenario = next(scenario for scenario in generators.SCENARIOS if scenario.name == "h1-small")
    processes, backends = peers_.start_backends(folder / "backends", pin_load)
    peers = [sluice("static", "sluice.toml", {}), sluice("registered", "sluice-registry.toml", {})]
    cost = {peer.name: [] for peer in peers}
    try:
        for peer in peers:
            peer.start(folder, backends, pin_proxy)
        asyncio.run(register_all(peers[1].ports["control"], backends))
        for peer in peers:
            generators.run(scenario, peer.ports["h1"], 1, folder, pin_load)
        for number in range(rounds):
            for peer in peers if number % 2 else reversed(peers):
                cpu_s = peer.cpu_s()
                served = generators.run(scenario, peer.ports["h1"], 2, folder, pin_load)
                if served.errors:
                    raise RuntimeError(f"{peer.name}: {served.errors} errors")
                cost[peer.name].append((peer.cpu_s() - cpu_s) / served.requests * 1e6)
    finally:
        for peer in peers:
            peer.stop()
        for process in processes:
            peers_.stop(process)
    middle, lower, upper = ratio(cost["registered"], cost["static"], SEED)
    return [
        f"CPU a request on the calm data path (small GET), endpoints from the registry / from the configuration: "
        f"**{middle:.3f}** (95 % interval {lower:.3f} to {upper:.3f}; {median(cost["registered"]):.2f} and "
        f"{median(cost["static"]):.2f} µs, {rounds} interleaved rounds); bar: median at most {COST_BAR}: "
        f"{'met' if middle <= COST_BAR else '**not met**'}",
    ]


async def register_all(control, backends):
    connection = Connection(control)
    for number, port in enumerate(backends):
        await connection.ask("PUT", "/v1/agent/service/register", registration("backends", number, port, 3600))


def sluice(name, template, places):
    base = next(peer for peer in peers_.all_peers() if peer.name == "sluice")
    if not base.program:
        raise SystemExit("target/release/sluice is missing: cargo build --release -p sluice")
    return peers_.Peer(name, template, base.program, base.command, base.version, separate_h2=False, places=places)


if __name__ == "__main__":
    main()
