"""Instructions that a process retires, where this machine's `perf` can count them."""

import re
import signal
import subprocess


def why_not():
    """None where they can be counted, else the reason."""
    try:
        result = subprocess.run(
            ["perf", "stat", "-x,", "-e", "instructions", "true"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
    except FileNotFoundError:
        return "perf is not installed"
    if "<not supported>" in result.stdout:
        return "this machine has no hardware counters (perf: not supported)"
    if result.returncode != 0 or not _count(result.stdout):
        return f"perf says: {result.stdout.strip().splitlines()[-1] if result.stdout.strip() else 'nothing'}"
    return None


class Counter:
    """Counts for some processes between entering and leaving a `with`; `.count` thereafter."""

    def __init__(self, pids):
        self.command = ["perf", "stat", "-x,", "-e", "instructions", "-p", ",".join(map(str, pids))]
        self.count = 0

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGINT)
        self.count = _count(self.process.communicate()[0])


def _count(text):
    found = re.search(r"^(\d+),,instructions", text, re.M)
    return int(found.group(1)) if found else 0
