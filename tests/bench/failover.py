#!/usr/bin/env python3
"""What failover costs where nothing fails, as a part of RESULTS.md: one worker with the policy `standard`, beside one
with `none`, in one run."""

import argparse
import tempfile
from pathlib import Path

import calm
import results

HERE = Path(__file__).resolve().parent

COST_BAR = 1.03


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20, help="interleaved rounds (default 20)")
    parser.add_argument("--output", type=Path, default=HERE, help="folder of RESULTS.md")
    options = parser.parse_args()
    peers = [calm.sluice(name, "sluice-failover.toml", {"failover": name}) for name in ("none", "standard")]
    with tempfile.TemporaryDirectory(prefix="sluice-failover-") as folder:
        Path(folder).chmod(0o755)
        cost = calm.compare(Path(folder), peers, options.rounds)
    line = calm.verdict("failover `standard` / `none`", cost["standard"], cost["none"], options.rounds, COST_BAR)
    text = f"## Failover\n\n{line} (`python3 tests/bench/failover.py`).\n"
    results.write(options.output, "failover", text)
    print(text)


if __name__ == "__main__":
    main()
