"""What `make bench` leaves behind: RESULTS.md and results.svg."""

import html
import platform
from dataclasses import dataclass
from statistics import median

import generators
from ratios import ratio

# DESIGN.md §8: CPU per request, as a share of the peer's.
BARS = {"nginx": ("median at most 1.00, upper bound at most 1.05", 1.00, 1.05), "envoy": ("median at most 0.30", 0.30, None)}

SEED = 1

COLORS = {"sluice": "#0b6e6e", "nginx": "#5b6b7b", "haproxy": "#8595a5", "envoy": "#a9b6c2", "relay": "#d3dae0"}


@dataclass(frozen=True)
class Round:
    """One peer's run in one round."""

    served: object
    cpu_s: float
    rss_bytes: int
    instructions: int

    @property
    def cpu_us(self):
        """CPU time of the proxy for each request, in microseconds."""
        return self.cpu_s / self.served.requests * 1e6


def table(rounds, peers):
    """One scenario's rows; `rounds[peer]` are its rounds in order."""
    lines = [
        "| | CPU a request | rounds, least to most | instructions a request | requests/s | p50 | p99 | p99.9 | resident | errors |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for peer in peers:
        runs = rounds[peer]
        cpu = [run.cpu_us for run in runs]
        middle = lambda value: median(value(run) for run in runs)
        instructions = middle(lambda run: run.instructions / run.served.requests)
        lines.append(
            f"| {peer} | **{median(cpu):.2f} µs** | {min(cpu):.2f} to {max(cpu):.2f} "
            f"| {f'{instructions:.0f}' if instructions else 'not counted'} "
            f"| {middle(lambda run: run.served.requests / run.served.seconds):.0f} "
            f"| {duration(middle(lambda run: run.served.p50_us))} | {duration(middle(lambda run: run.served.p99_us))} "
            f"| {duration(middle(lambda run: run.served.p999_us))} | {middle(lambda run: run.rss_bytes) / 2**20:.0f} MiB "
            f"| {sum(run.served.errors for run in runs)} |"
        )
    return "\n".join(lines)


def comparisons(rounds, peers):
    """Lines that say how ours compares with each peer, and whether the bars are met."""
    if "sluice" not in peers:
        return []
    ours = [run.cpu_us for run in rounds["sluice"]]
    lines = []
    for peer in peers:
        if peer in ("sluice", "relay"):
            continue
        middle, lower, upper = ratio(ours, [run.cpu_us for run in rounds[peer]], SEED)
        line = f"CPU a request, sluice / {peer}: **{middle:.3f}** (95 % interval {lower:.3f} to {upper:.3f})"
        if peer in BARS:
            words, bar, upper_bar = BARS[peer]
            met = middle <= bar and (upper_bar is None or upper <= upper_bar)
            line += f"; bar: {words}: {'met' if met else '**not met**'}"
        lines.append(line)
    return lines


def page(results, peers, versions, facts, options):
    """The proxies' part of RESULTS.md."""
    parts = [
        "## A request\n",
        f"One worker of each proxy on core {options.proxy_core}, load generator and two nginx backends on core "
        f"{options.load_core}; {options.rounds} rounds of {options.seconds} s, the proxies taking turns in each. *CPU a request* "
        "is the proxy's own CPU time (user and system, all its threads, from /proc) divided by the requests it served: it "
        "holds where throughput and latency, taken on a shared machine and at whatever load the other core could "
        "make, do not. Medians over the rounds; a ratio is the median of the rounds' ratios.\n",
        "Everybody picks the less loaded of two backends over kept-alive connections, adds `X-Forwarded-*`, `Via` and a "
        "request id, and writes no access log; the configurations stand in `config/`. Sluice's balancer is the stock "
        "component `least-request`, and it counts its metrics. *relay* is HAProxy passing bytes without looking at them: "
        "the floor.\n",
        "![CPU a request](results.svg)\n",
        f"- machine: {platform.machine()}, {cpu_model()}, {options.cores} cores, Linux {platform.release()}",
        "- versions: " + ", ".join(f"{peer} {version}" for peer, version in versions.items()),
        *[f"- {fact}" for fact in facts],
    ]
    for scenario in options.scenarios:
        rounds = results[scenario.name]
        parts.append(f"\n### {scenario.title}\n\n{table(rounds, [peer for peer in peers if peer in rounds])}\n")
        parts.extend(f"- {line}" for line in comparisons(rounds, [peer for peer in peers if peer in rounds]))
    return "\n".join(parts) + "\n"


def plot(results, peers, scenarios):
    """results.svg: for each scenario a bar for each peer (the median) and a dot for each round."""
    width, left, row, gap = 760, 90, 22, 44
    height = sum(gap + row * len(results[scenario.name]) for scenario in scenarios) + 16
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    y = 0
    for scenario in scenarios:
        rounds = results[scenario.name]
        scale = (width - left - 90) / max(run.cpu_us for runs in rounds.values() for run in runs)
        title = html.escape(f"{scenario.title}: CPU µs a request")
        out.append(f'<text x="{left}" y="{y + 28}" font-weight="bold" fill="#1c2730">{title}</text>')
        y += gap - 8
        for peer in (peer for peer in peers if peer in rounds):
            cpu = [run.cpu_us for run in rounds[peer]]
            end = left + median(cpu) * scale
            out.append(f'<text x="{left - 8}" y="{y + 13}" text-anchor="end" fill="#1c2730">{html.escape(peer)}</text>')
            out.append(f'<rect x="{left}" y="{y + 2}" width="{end - left:.1f}" height="{row - 7}" fill="{COLORS[peer]}"/>')
            out.extend(
                f'<circle cx="{left + each * scale:.1f}" cy="{y + 9.5}" r="2.2" fill="none" stroke="#1c2730" stroke-width="0.8"/>'
                for each in cpu
            )
            label = left + max(cpu) * scale + 8
            out.append(f'<text x="{label:.1f}" y="{y + 13}" fill="#1c2730">{median(cpu):.1f}</text>')
            y += row
        y += 8
    return "\n".join([*out, "</svg>", ""])


def duration(us):
    return f"{us / 1000:.2f} ms" if us >= 1000 else f"{us:.0f} µs"


def cpu_model():
    with open("/proc/cpuinfo") as info:
        models = [line.partition(":")[2].strip() for line in info if line.startswith("model name")]
    return models[0] if models else "unknown processor"
