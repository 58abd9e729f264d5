"""Medians, ratios and tables of what proxy.py measured."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple


class Row(NamedTuple):
    """One load on one target in one round; `figures` as proxy_load.Client.figures has them."""

    load: str
    target: str
    round: int
    figures: dict[str, Any]


Ratio = Callable[[float, float], float]


def of(rows: list[Row], load: str, target: str, key: str) -> dict[int, float]:
    """A figure by round, of the loads without errors."""
    mine = (row for row in rows if (row.load, row.target) == (load, target) and not row.figures["errors"])
    return {row.round: row.figures[key] for row in mine if key in row.figures}


def middle(rows: list[Row], load: str, target: str, key: str) -> float | None:
    """Median over the rounds; None if it was not measured."""
    values = of(rows, load, target, key).values()
    return median(values) if values else None


def paired(rows: list[Row], load: str, targets: tuple[str, str], key: str, how: Ratio) -> float | None:
    """Median over the rounds of what `how` makes of the figures of two targets in the same round."""
    first, second = (of(rows, load, target, key) for target in targets)
    both = [how(first[turn], second[turn]) for turn in first if turn in second]
    return median(both) if both else None


def less(value: float, base: float) -> float:
    return value - base


def by(value: float, base: float) -> float:
    return value / base


def rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def closing_line(rows: list[Row]) -> dict[str, Any]:
    """
    The one JSON object.

    Returns:
        cpu_per_chunk_ratio: guard over each peer, CPU per chunk at 100 streams, median of the rounds.
        added_ttft_ms_p50, added_latency_ms_p50: guard less direct, one stream and 100 streams. Unit: ms.
        max_chunks_per_s: Through one core of the guard, never two chunks of a stream in one read.
        rss_mib: Resident memory of the guard by concurrent streams. Unit: MiB.
        integrity_errors: Streams through the guard that were not what the backend said.
    """
    peers = dict.fromkeys(row.target for row in rows if row.target not in ("direct", "guard"))
    ratios = {
        peer: rounded(paired(rows, "c100", ("guard", peer), "cpu_us_per_chunk", by), 3)
        for peer in ("sglang-router", "aiohttp", "nginx", "litellm", "vllm-router")
        if peer in peers
    }
    sizes = {1: "m1", 100: "m100", 1000: "m1000", 5000: "m5000"}
    memory = {str(size): rounded(middle(rows, load, "guard", "rss_mib"), 1) for size, load in sizes.items()}
    return {
        "cpu_per_chunk_ratio": ratios,
        "added_ttft_ms_p50": rounded(paired(rows, "ttft", ("guard", "direct"), "ttft_ms_p50", less), 3),
        "added_latency_ms_p50": rounded(paired(rows, "c100", ("guard", "direct"), "latency_ms_p50", less), 3),
        "max_chunks_per_s": rounded(middle(rows, "saturated", "guard", "chunks_per_s"), 0),
        "rss_mib": {size: mib for size, mib in memory.items() if mib is not None},
        "integrity_errors": sum(row.figures["errors"] for row in rows if row.target == "guard"),
    }


def summary(rows: list[Row], absent: dict[str, str]) -> str:
    """Tables for a terminal and for Markdown."""
    targets = list(dict.fromkeys(row.target for row in rows))
    targets.sort(key=lambda name: (name != "direct", not name.startswith("guard"), name == "guard-python"))
    parts = [_costs(rows, targets), _sizes(rows, targets)]
    parts += [f"Not measured: {name} ({why.strip().splitlines()[-1]})" for name, why in absent.items() if why.strip()]
    return "\n\n".join(part for part in parts if part)


def _costs(rows: list[Row], targets: list[str]) -> str:
    columns = [
        ("CPU/chunk, 1 stream (us)", lambda t: _show(middle(rows, "c1", t, "cpu_us_per_chunk"), 1)),
        ("100 streams (us)", lambda t: _show(middle(rows, "c100", t, "cpu_us_per_chunk"), 1)),
        ("400 streams (us)", lambda t: _show(middle(rows, "c400", t, "cpu_us_per_chunk"), 1)),
        ("guard / peer, 100", lambda t: _show(paired(rows, "c100", ("guard", t), "cpu_us_per_chunk", by), 2)),
        ("CPU/request (us)", lambda t: _show(middle(rows, "ttft", t, "cpu_us_per_stream"), 0)),
        ("added TTFT p50 / p99 (ms)", lambda t: _added(rows, "ttft", t, "ttft_ms")),
        ("added chunk delay at 100, p50 / p99 (ms)", lambda t: _added(rows, "c100", t, "latency_ms")),
        ("saturated (chunks/s)", lambda t: _show(middle(rows, "saturated", t, "chunks_per_s"), 0)),
        ("of a core", lambda t: _show(middle(rows, "saturated", t, "cpu_share"), 2)),
        ("streams", lambda t: str(sum(row.figures.get("streams", 0) for row in rows if row.target == t))),
        ("broken", lambda t: str(sum(row.figures["errors"] for row in rows if row.target == t))),
    ]
    return _table("target", targets, columns)


def _sizes(rows: list[Row], targets: list[str]) -> str:
    sizes = {"1": "m1", "100": "m100", "1000": "m1000", "5000": "m5000"}
    lines = [
        [target, size, *(_show(middle(rows, load, target, key), 1) for key in ("rss_mib", "cpu_us_per_chunk"))]
        for target in targets
        if target != "direct"
        for size, load in sizes.items()
        if of(rows, load, target, "rss_mib")
    ]
    if not lines:
        return ""
    heads = ["target", "streams", "resident memory (MiB)", "CPU/chunk (us)"]
    return "\n".join(["| " + " | ".join(line) + " |" for line in (heads, ["---"] * 4, *lines)])


def _table(corner: str, targets: list[str], columns: list[tuple[str, Callable[[str], str]]]) -> str:
    shown = [(head, [cell(target) for target in targets]) for head, cell in columns]
    shown = [(head, cells) for head, cells in shown if set(cells) != {"-"}]
    lines = [[corner, *(head for head, _ in shown)], ["---"] * (len(shown) + 1)]
    lines += [[target, *(cells[place] for _, cells in shown)] for place, target in enumerate(targets)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _show(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _added(rows: list[Row], load: str, target: str, key: str) -> str:
    shown = [_show(paired(rows, load, (target, "direct"), f"{key}_{part}", less), 2) for part in ("p50", "p99")]
    return "-" if shown == ["-", "-"] else " / ".join(shown)


def machine() -> str:
    """What it was measured on."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
    cores = len(os.sched_getaffinity(0))
    return f"{model}, {cores} cores, Linux {platform.release().split('-')[0]}, Python {platform.python_version()}"


README = """# What the guard costs

`python tests/bench/proxy.py --write` measures this and writes this page; `--quick` ends within five minutes (once the
peers are installed), `--json` makes the last line one JSON object. Detection is on in full: the default policy, exact
acceptance of every step from the vLLM plugin's field, all text detectors, on recorded healthy prose.

- The guard, its peers and a bare aiohttp pass-through (proxy_aiohttp.py) run in the same rounds on loopback, in an
  order drawn anew for each load. Ratios and differences are taken within a round; the median of the rounds is told.
- The backend (proxy_backend.py) writes every chunk by itself, in the shape of vLLM 0.32. It adds token ids and steps
  when asked, as vLLM with the plugin does: only the guard asks, so it reads longer chunks than its peers and takes
  these fields out again before the client sees them.
- The backend and the client have one core, the proxy under test the other. CPU is the kernel's count for the proxy's
  processes, taken between the moment when all streams run and the first end of one.
- Each stream's text is checked by a hash against what the backend said, and its chunks, its finish reason and its
  `[DONE]` are counted. A stream that differs is "broken".
- "Saturated" has 128 streams, each with one chunk under way: never two chunks of a stream in one read.
- LiteLLM gets a twentieth of the chunks per second of the others at 100 streams: more would only measure its queue.
- {build}
- The row "direct" is the client on the backend itself; its CPU is the backend's own.

{machine}; {rounds} rounds{quick}. Peers: {pins}.

{tables}
"""


#: What the row "guard" is.
COMPILED = """The row "guard" is the guard as its image has it, with what runs for every chunk compiled
  (deploy/compile.py); "guard-python" is the same without that, as `pip install .` has it unless SPECDEC_GUARD_COMPILE
  is 1."""
PYTHON = "The guard is measured in Python: it could not be compiled, or was not to be (`--build python`)."


def readme(rows: list[Row], absent: dict[str, str], rounds: int, *, quick: bool, compiled: bool) -> str:
    """The page beside this file."""
    from tests.bench.proxy_peers import PINS  # noqa: PLC0415 - only the page names them

    pins = ", ".join(pin for pinned in PINS.values() for pin in pinned)
    return README.format(
        build=COMPILED if compiled else PYTHON,
        machine=machine(),
        rounds=rounds,
        quick=" (--quick)" if quick else "",
        pins=pins,
        tables=summary(rows, absent),
    )
