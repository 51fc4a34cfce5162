"""Who is compared: each a process of one worker on one core, its configuration beside this file."""

import os
import re
import shutil
import signal
import socket
import string
import subprocess
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent

SMALL_BODY = "x" * 128
LARGE_BODY_LEN = 64 * 1024

# To start and to end.
START_S = 20
END_S = 10

CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


def find(program):
    """A program's path, also where servers stand, or None."""
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


@dataclass
class Peer:
    """A proxy. `command` is formatted with the places of its configuration and its folder."""

    name: str
    template: str
    program: str | None
    command: list
    version: list
    protocols: tuple = ("h1", "h2")
    # Whether its HTTP/2 has a port of its own.
    separate_h2: bool = True
    ports: dict = field(default_factory=dict)
    process: subprocess.Popen | None = None
    # Of its configuration, beside addresses.
    places: dict = field(default_factory=dict)

    def start(self, folder, backends, pin):
        folder = folder / self.name
        folder.mkdir(parents=True)
        ports = dict(zip(("h1", "h2", "control"), free_ports(3)))
        if not self.separate_h2:
            ports["h2"] = ports["h1"]
        self.ports = ports
        config = folder / self.template
        config.write_text(fill(self.template, folder, ports, backends, self.places))
        command = [part.format(program=self.program, config=config, folder=folder) for part in self.command]
        with open(folder / "output.log", "w") as log:
            self.process = subprocess.Popen(command, preexec_fn=pin, stdout=log, stderr=log, cwd=folder)
        for protocol in self.protocols:
            await_port(self.ports[protocol], self.process, f"{self.name} ({folder}/output.log)")
        if Path(self.program).name == "sluice":
            await_ready(self.ports["control"])

    def stop(self):
        stop(self.process)

    def pids(self):
        """The process and its children (nginx has a master and a worker)."""
        return [self.process.pid, *children(self.process.pid)]

    def cpu_s(self):
        """CPU time of all threads so far, user and system."""
        return sum(cpu_s(pid) for pid in self.pids())

    def rss_bytes(self):
        return sum(rss_bytes(pid) for pid in self.pids())

    def version_line(self):
        command = [part.format(program=self.program) for part in self.version]
        output = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout
        found = re.search(r"\d+\.\d+\.\d+[\w.~+-]*", output)
        return found.group(0) if found else "unknown"


def all_peers():
    """Everybody, installed or not."""
    return [
        Peer(
            "sluice",
            "sluice.toml",
            _if_file(ROOT / "target/release/sluice"),
            ["{program}", "run", "--config", "{config}"],
            ["{program}", "--version"],
            separate_h2=False,
        ),
        Peer(
            "nginx",
            "nginx.conf",
            find("nginx"),
            ["{program}", "-c", "{config}", "-e", "{folder}/early.log"],
            ["{program}", "-v"],
        ),
        Peer(
            "haproxy",
            "haproxy.cfg",
            find("haproxy"),
            ["{program}", "-db", "-f", "{config}"],
            ["{program}", "-v"],
        ),
        Peer(
            "envoy",
            "envoy.yaml",
            _envoy(),
            ["{program}", "-c", "{config}", "--concurrency", "1", "--disable-hot-restart", "--log-level", "error"],
            ["{program}", "--version"],
        ),
        Peer(
            "relay",
            "relay.cfg",
            find("haproxy"),
            ["{program}", "-db", "-f", "{config}"],
            ["{program}", "-v"],
            protocols=("h1",),
        ),
    ]


def start_backends(folder, pin, template="backend.conf"):
    """Two nginx servers; the answer is their processes and ports."""
    www = folder / "www"
    www.mkdir(parents=True)
    # Debian's nginx drops to an unprivileged user, which must be able to read the file.
    folder.chmod(0o755)
    (www / "large").write_bytes(b"x" * LARGE_BODY_LEN)
    processes, ports = [], free_ports(2)
    for number, port in enumerate(ports):
        own = folder / f"backend-{number}"
        own.mkdir()
        text = (HERE / "config" / template).read_text()
        places = dict(dir=own, address=f"127.0.0.1:{port}", small_body=SMALL_BODY)
        config = own / "nginx.conf"
        config.write_text(string.Template(text).substitute(places).replace(f"{own}/www", str(www)))
        command = [find("nginx"), "-c", str(config), "-e", str(own / "early.log")]
        processes.append(subprocess.Popen(command, preexec_fn=pin, stderr=subprocess.DEVNULL))
        await_port(port, processes[-1], "a backend")
    return processes, ports


def fill(template, folder, ports, backends, more=()):
    places = {"dir": folder, **dict(more)}
    for name, port in [*ports.items(), *((f"backend{number}", port) for number, port in enumerate(backends, 1))]:
        places[name] = f"127.0.0.1:{port}"
        places[f"{name}_port"] = port
    return string.Template((HERE / "config" / template).read_text()).substitute(places)


def free_ports(count):
    """Ports that nobody had just now; held together, so that they differ."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def await_port(port, process, what):
    wait(lambda: process.poll() is None and accepts(port), START_S, f"{what} does not listen", process)


def await_ready(port):
    def ready():
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1).status == 200
        except OSError:
            return False

    wait(ready, START_S, "sluice is not ready")


def accepts(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    except OSError:
        return False


def wait(condition, seconds, what, process=None):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end or (process is not None and process.poll() is not None):
            raise RuntimeError(what)
        time.sleep(0.02)


def stop(process):
    if process is None or process.poll() is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def children(pid):
    tasks = Path(f"/proc/{pid}/task")
    return [int(child) for task in tasks.iterdir() for child in (task / "children").read_text().split()]


def cpu_s(pid):
    # proc(5): utime and stime are fields 14 and 15; the name, field 2, may hold spaces.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS


def rss_bytes(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"^VmRSS:\s+(\d+) kB", status, re.M).group(1)) * 1024


def _if_file(path):
    return str(path) if path.is_file() else None


def _envoy():
    # The wheel's `envoy` is a script around the binary, whose CPU time is what counts.
    found = sorted((ROOT / "target/bench-venv").glob("lib/python*/site-packages/envoy/_bin/envoy"))
    return str(found[0]) if found else find("envoy")
