"""Stores that take events durably, each started in a folder of its own and loaded in its own protocol."""

import json
import os
import pwd
import shutil
import socket
import subprocess
from glob import glob
from pathlib import Path
from statistics import quantiles

import peers as peers_

ROOT = Path(__file__).resolve().parent.parent.parent
KIB = "x7Qk" * 256
BATCH = 16


class Load:
    """The benchmark's own client: one connection a client, an answer before the next request."""

    def __init__(self):
        built = subprocess.run(
            ["cargo", "bench", "--package", "sluice", "--bench", "events", "--no-run", "--message-format=json"],
            cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True,
        ).stdout.splitlines()
        messages = [json.loads(line) for line in built]
        self.program = next(m["executable"] for m in messages if m.get("executable") and m["target"]["name"] == "events")

    def run(self, *arguments):
        output = subprocess.run(
            [self.program, *map(str, arguments)], check=True, stdout=subprocess.PIPE, text=True
        ).stdout
        return json.loads(output.splitlines()[-1])


class Sluice:
    name, batches = "Sluice", True

    def __init__(self, folder, load):
        import calm

        self.load, self.folder = load, folder
        self.peer = calm.sluice("sluice", "events.toml", {})
        self.version = self.peer.version_line()

    def start(self):
        self.peer.protocols = ("control",)
        self.peer.start(self.folder, [], lambda: None)
        self.address = f"127.0.0.1:{self.peer.ports['control']}"

    def run(self, clients, seconds, batch=1):
        return self.load.run("load", "http", self.address, clients, seconds, batch)

    def stop(self):
        self.peer.stop()


class Redis:
    name, batches = "Redis streams, appendfsync always", False

    def __init__(self, folder, load):
        self.load, self.folder, self.program = load, folder, peers_.find("redis-server")
        self.version = version(self.program, "--version")

    def start(self):
        self.folder.mkdir()
        (port,) = peers_.free_ports(1)
        self.address = f"127.0.0.1:{port}"
        options = ["--port", port, "--bind", "127.0.0.1", "--dir", self.folder, "--appendonly", "yes"]
        options += ["--appendfsync", "always", "--save", "", "--auto-aof-rewrite-percentage", "0"]
        self.process = started([self.program, *options], self.folder)
        peers_.await_port(port, self.process, "Redis")

    def run(self, clients, seconds, batch=1):
        return self.load.run("load", "redis", self.address, clients, seconds, batch)

    def stop(self):
        peers_.stop(self.process)


class Nats:
    name, batches = "NATS JetStream, sync_interval always", False

    def __init__(self, folder, load):
        self.load, self.folder = load, folder
        found = glob(str(ROOT / "target/bench-venv/bin/nats-server"))
        self.program = found[0] if found else peers_.find("nats-server")
        self.version = version(self.program, "--version")

    def start(self):
        self.folder.mkdir()
        (port,) = peers_.free_ports(1)
        self.address = f"127.0.0.1:{port}"
        config = self.folder / "nats.conf"
        config.write_text(
            f'listen: "{self.address}"\njetstream {{ store_dir: "{self.folder}/data", sync_interval: always }}\n'
        )
        self.process = started([self.program, "-c", config], self.folder)
        peers_.await_port(port, self.process, "NATS")
        make_stream(port)

    def run(self, clients, seconds, batch=1):
        return self.load.run("load", "nats", self.address, clients, seconds, batch)

    def stop(self):
        peers_.stop(self.process)


class PostgreSQL:
    name, batches = "PostgreSQL, an events table", True

    def __init__(self, folder, load):
        self.folder = folder
        found = sorted(glob("/usr/lib/postgresql/*/bin"))
        self.programs = Path(found[-1]) if found else None
        self.program = str(self.programs / "postgres") if found else peers_.find("postgres")
        self.version = version(self.program, "--version")

    def start(self):
        self.folder.mkdir()
        # It does not run as root.
        self.user = "postgres" if os.getuid() == 0 else None
        if self.user:
            account = pwd.getpwnam(self.user)
            os.chown(self.folder, account.pw_uid, account.pw_gid)
        data = self.folder / "data"
        (self.port,) = peers_.free_ports(1)
        self.call("initdb", "-D", data, "-U", "bench", "-A", "trust", "--no-sync")
        options = ["-D", data, "-p", self.port, "-c", "listen_addresses=127.0.0.1", "-c", "max_connections=300"]
        # Its defaults sync each commit before it is acknowledged; the buffers are its usual quarter of some memory.
        options += ["-c", "shared_buffers=1GB", "-c", "max_wal_size=8GB", "-k", self.folder]
        self.process = started([self.programs / "postgres", *options], self.folder, self.user)
        peers_.await_port(self.port, self.process, "PostgreSQL")
        peers_.wait(lambda: self.psql("select 1", check=False).returncode == 0, 20, "PostgreSQL is not ready")
        self.psql(
            "create table events (position bigserial primary key, stream text not null, id text not null, "
            "data text not null, unique (stream, id))"
        )

    def run(self, clients, seconds, batch=1):
        values = ", ".join(f"('stream-' || :stream, md5(random()::text), '{KIB}')" for _ in range(batch))
        script = self.folder / f"append-{batch}.sql"
        script.write_text(f"\\set stream random(1, 1000)\ninsert into events (stream, id, data) values {values};\n")
        prefix = self.folder / f"log-{clients}-{batch}"
        for old in glob(f"{prefix}*"):
            os.remove(old)
        self.call(
            "pgbench", "-h", "127.0.0.1", "-p", self.port, "-U", "bench", "-n", "-M", "prepared", "-c", clients, "-j", 1,
            "-T", seconds, "-f", script, "-l", f"--log-prefix={prefix}", "postgres",
        )
        took_us = [int(line.split()[2]) for path in glob(f"{prefix}*") for line in open(path)]
        cuts = quantiles(took_us, n=100)
        return {"rate": len(took_us) * batch / seconds, "p50_us": cuts[49], "p99_us": cuts[98], "count": len(took_us)}

    def call(self, program, *arguments, check=True):
        path = self.programs / program
        command = [str(path if path.is_file() else program), *map(str, arguments)]
        return subprocess.run(
            command, check=check, user=self.user, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    def psql(self, statement, check=True):
        return self.call("psql", "-h", "127.0.0.1", "-p", self.port, "-U", "bench", "postgres", "-c", statement, check=check)

    def stop(self):
        peers_.stop(self.process)


def all_there(folder, load):
    """Those whose programs are here; a line for each that is left out."""
    there = []
    for kind in (Sluice, PostgreSQL, Redis, Nats):
        peer = kind(folder / kind.__name__.lower(), load)
        if kind is Sluice or peer.program:
            there.append(peer)
        else:
            print(f"{peer.name} is left out: it is not installed")
    return there


def started(command, folder, user=None):
    with open(folder / "output.log", "w") as log:
        return subprocess.Popen([str(part) for part in command], stdout=log, stderr=log, cwd=folder, user=user)


def version(program, option):
    if not program:
        return None
    output = subprocess.run([program, option], stdout=subprocess.PIPE, text=True).stdout
    return output.strip().splitlines()[0]


def make_stream(port):
    """Over NATS's own text protocol: one request, and its answer."""
    wanted = json.dumps({"name": "EVENTS", "subjects": ["events.>"], "storage": "file"}).encode()
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        stream = connection.makefile("rwb")
        stream.readline()
        stream.write(b"CONNECT {}\r\nSUB made 1\r\nPUB $JS.API.STREAM.CREATE.EVENTS made %d\r\n" % len(wanted))
        stream.write(wanted + b"\r\n")
        stream.flush()
        while not (line := stream.readline()).startswith(b"MSG"):
            if not line:
                raise RuntimeError("NATS does not answer")
        answer = json.loads(stream.readline())
        if "error" in answer:
            raise RuntimeError(f"NATS makes no stream: {answer['error']}")


def remove(folder):
    shutil.rmtree(folder, ignore_errors=True)
