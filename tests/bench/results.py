"""RESULTS.md: what the benchmarks found, each in a part of its own that its next run replaces."""

# In the order of the page.
PARTS = ("proxies", "picks", "registry", "failover", "overload", "transactions", "events", "simulations")

HEAD = """# What Sluice costs

Written by the benchmarks: `make bench` measures all parts anew. What bounds the figures that miss their bar stands in
[PROFILE.md](PROFILE.md).
"""


def write(folder, part, text):
    """Keeps a part and puts the page together again."""
    parts = folder / "parts"
    parts.mkdir(parents=True, exist_ok=True)
    (parts / f"{part}.md").write_text(text)
    texts = [path.read_text() for path in (parts / f"{name}.md" for name in PARTS) if path.is_file()]
    (folder / "RESULTS.md").write_text("\n".join([HEAD, *texts]))
