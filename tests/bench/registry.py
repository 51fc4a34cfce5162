#!/usr/bin/env python3
"""What the registry costs, as a part of RESULTS.md: heartbeats of many instances, how soon a change is in force, and
whether requests pay for it.

One gateway of two workers; 100 services of 100 instances and one of 1,000, each kept alive by a TTL check, and one
change a second among them. Everything on loopback, all sizes and times bounded.
"""

import argparse
import asyncio
import json
import multiprocessing
import tempfile
import time
from pathlib import Path
from statistics import median

import calm
import results

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


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--changes", type=int, default=100, help="one a second (default 100)")
    parser.add_argument("--rounds", type=int, default=10, help="of the calm comparison (default 10)")
    parser.add_argument("--output", type=Path, default=HERE, help="folder of RESULTS.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sluice-registry-") as folder:
        Path(folder).chmod(0o755)
        lines = asyncio.run(many(Path(folder) / "many", options.changes))
        lines += calm_cost(Path(folder) / "calm", options.rounds)
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


def beat_all(port, names, ended, sent):
    """Keeps all alive, in a process of its own, so that those who watch are not kept waiting."""
    asyncio.run(heartbeats(port, names, ended, sent))


async def heartbeats(port, names, ended, sent):
    beat = lambda connection, name: connection.ask("PUT", f"/v1/agent/check/pass/service:{name}")
    while not ended.is_set():
        begun = time.monotonic()
        # In tenths of the interval, so that they do not come all at once.
        for part in range(10):
            some = names[part::10]
            await each(port, some, beat)
            sent.value += len(some)
            until = begun + HEARTBEAT_S * (part + 1) / 10
            await asyncio.sleep(max(0, until - time.monotonic()))
            if ended.is_set():
                break


async def origin(name):
    """A server that says its name; its port."""

    async def serve(reader, writer):
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(f"HTTP/1.1 200 OK\r\ncontent-length: {len(name)}\r\n\r\n{name}".encode())
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    return server.sockets[0].getsockname()[1]


async def many(folder, changes):
    names = [f"s{number:03}" for number in range(SERVICES)] + ["large"]
    instances = [(name, number) for name in names for number in range(LARGE if name == "large" else INSTANCES)]
    services = "\n".join(
        f'[services.{name}]\n[[route]]\npath = "/{name}/"\nservice = "{name}"' for name in names
    )
    gateway = calm.sluice("many", "registry.toml", dict(count=len(names), services=services))
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
        ended, sent = multiprocessing.Event(), multiprocessing.Value("q", 0)
        ids = [f"{name}-{number}" for name, number in instances]
        beating = multiprocessing.Process(target=beat_all, args=(control, ids, ended, sent), daemon=True)
        beating.start()
        await asyncio.sleep(HEARTBEAT_S)
        cpu_s, begun, sent_before = gateway.cpu_s(), time.monotonic(), sent.value
        taken_ms = await watch_changes(gateway.ports["h1"], connection, other, changes)
        cpu_s, lasted_s = gateway.cpu_s() - cpu_s, time.monotonic() - begun
        rate = (sent.value - sent_before) / lasted_s
        ended.set()
        beating.join(HEARTBEAT_S)
        metrics = (await connection.ask("GET", "/v1/health/state/critical"))[1]
        rss = gateway.rss_bytes()
    finally:
        gateway.stop()
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
    # Nearly every pick is of it as soon as a worker knows it.
    weighty = registration("probe", "other", other, 3600) | {"Weights": {"Passing": 65535, "Warning": 1}}
    taken_ms = []
    for _ in range((changes + 1) // 2):
        begun = time.monotonic()
        seen.clear()
        await control.ask("PUT", "/v1/agent/service/register", weighty)
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


def calm_cost(folder, rounds):
    """CPU a request with endpoints from the registry, beside the same from the configuration."""
    peers = [calm.sluice("static", "sluice.toml", {}), calm.sluice("registered", "sluice-registry.toml", {})]
    register = lambda backends: asyncio.run(register_all(peers[1].ports["control"], backends))
    cost = calm.compare(folder, peers, rounds, register)
    what = "endpoints from the registry / from the configuration"
    return [calm.verdict(what, cost["registered"], cost["static"], rounds, COST_BAR)]


async def register_all(control, backends):
    connection = Connection(control)
    for number, port in enumerate(backends):
        await connection.ask("PUT", "/v1/agent/service/register", registration("backends", number, port, 3600))


if __name__ == "__main__":
    main()
