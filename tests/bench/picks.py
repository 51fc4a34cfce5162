#!/usr/bin/env python3
"""The cost of a pick, as `cargo bench --bench pick` has left it in target/criterion, as a part of RESULTS.md."""

import json
from pathlib import Path

import results

HERE = Path(__file__).resolve().parent
MEASURED = HERE.parent.parent / "target/criterion/pick"

ENDPOINTS = (3, 100, 1000)

# DESIGN.md §8: times an empty component call of the same run.
BAR, LEARNING_BAR = 1.3, 2.5
LEARNING = ("least-request", "peak-ewma")


def main():
    policies = sorted(folder.name for folder in MEASURED.iterdir() if folder.is_dir() and folder.name != "empty")
    empty = [mean_ns("empty", endpoints) for endpoints in ENDPOINTS]
    lines = [
        "## A pick",
        "",
        "A call of `pick` through the component model, release build, by criterion (`cargo bench -p sluice --bench pick`): the mean, and "
        "how many times an empty component call of the same run that is.",
        "",
        "| | " + " | ".join(f"{endpoints:,} endpoints" for endpoints in ENDPOINTS) + " | bar |",
        "| --- |" + " ---: |" * (len(ENDPOINTS) + 1),
        "| empty call | " + " | ".join(f"{ns:.0f} ns" for ns in empty) + " | |",
    ]
    for policy in policies:
        cells = [(mean_ns(policy, endpoints), base) for endpoints, base in zip(ENDPOINTS, empty)]
        bar = LEARNING_BAR if policy in LEARNING else BAR
        met = "met" if all(ns <= bar * base for ns, base in cells) else "**not met**"
        figures = " | ".join(f"{ns:.0f} ns, {ns / base:.2f} ×" for ns, base in cells)
        lines.append(f"| {policy} | {figures} | {bar} ×: {met} |")
    results.write(HERE, "picks", "\n".join(lines) + "\n")
    print("\n".join(lines))


def mean_ns(policy, endpoints):
    estimates = json.loads((MEASURED / policy / str(endpoints) / "new/estimates.json").read_text())
    return estimates["mean"]["point_estimate"]


if __name__ == "__main__":
    main()
