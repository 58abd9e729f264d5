"""
`guard layersplit plan`: when LayerSplit wins for a model, as a table, as JSON and as a page with curves.

    guard layersplit plan --model deepseek-v3-like --ranks 2,4,8 --context 8K,128K,1M --html plan.html

The machine's numbers are the reader's to give; the defaults are those of no machine in particular.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Final

import msgspec

from guard.backend.kv.layer_split import LayerSplitError
from guard.backend.kv.layer_split_cost import SHAPES, Load, Machine, Prediction, Shape, predict

_GIB: Final = float(1 << 30)
_COLORS: Final = ("#1f6feb", "#d1242f", "#1a7f37", "#9a6700", "#8250df")
_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 760.0, 300.0, 60.0, 40.0


class Row(msgspec.Struct, frozen=True):
    """One line of the plan: a point, or why there is none."""

    model: str
    ranks: int
    context: int
    point: Prediction | None
    reason: str = ""


def tokens(text: str) -> int:
    """
    A number of tokens, such as 8192, 8K or 1M.

    Raises:
        ValueError: It is none.
    """
    units = {"K": 1024, "M": 1024**2}
    unit = units.get(text[-1:].upper())
    return int(text[:-1]) * unit if unit else int(text)


def rows(
    shapes: Sequence[Shape], ranks: Sequence[int], contexts: Sequence[int], machine: Machine, load: Load
) -> list[Row]:
    """
    The plan.

    Args:
        shapes: Models.
        ranks: Numbers of ranks; each takes the machine's place.
        contexts: Lengths; each takes the load's place. Unit: tokens.
        machine: What they run on.
        load: What is asked.
    """
    plan = []
    for shape in shapes:
        for count in ranks:
            for context in contexts:
                here = msgspec.structs.replace(machine, ranks=count)
                try:
                    point = predict(shape, here, msgspec.structs.replace(load, context=context))
                    plan.append(Row(shape.name, count, context, point))
                except LayerSplitError as error:
                    plan.append(Row(shape.name, count, context, None, str(error)))
    return plan


def table(plan: Sequence[Row]) -> str:
    """The plan as text; models and ranks that cannot be split have one line."""
    lines = [
        f"{'model':18} {'ranks':>5} {'context':>8} {'KV GiB/rank':>16} {'capacity, tokens':>23} {'x':>5} "
        f"{'hits':>13} {'throughput':>10} {'TTFT, no hits':>13}"
    ]
    told: set[tuple[str, int]] = set()
    for row in plan:
        head = f"{row.model:18} {row.ranks:>5}"
        if row.point is None:
            if (row.model, row.ranks) not in told:
                lines.append(f"{head} {row.reason}")
            told.add((row.model, row.ranks))
            continue
        at = row.point
        held = f"{at.kv_bytes_unsplit / _GIB:.2f} -> {at.kv_bytes_split / _GIB:.2f}"
        capacity = f"{at.tokens_unsplit:,} -> {at.tokens_split:,}"
        hits = f"{at.hits_unsplit:.0%} -> {at.hits_split:.0%}"
        lines.append(
            f"{head} {row.context:>8} {held:>16} {capacity:>23} {at.capacity_ratio:>5.2f} {hits:>13} "
            f"{at.throughput_ratio:>9.2f}x {at.ttft_no_hits - 1:>+12.1%}"
        )
    return "\n".join(lines)


def as_json(plan: Sequence[Row]) -> str:
    """The plan as a JSON array."""
    found = []
    for row in plan:
        entry: dict[str, object] = {"model": row.model, "ranks": row.ranks, "context": row.context}
        if row.point is None:
            entry["refused"] = row.reason
        else:
            ratios = {"capacity_ratio": row.point.capacity_ratio, "throughput_ratio": row.point.throughput_ratio}
            entry |= {name: value if math.isfinite(value) else None for name, value in ratios.items()}
            entry |= msgspec.to_builtins(row.point)
        found.append(entry)
    return json.dumps(found, indent=1)


def page(plan: Sequence[Row], note: str) -> str:
    """
    The plan as a page that needs nothing else: one chart of throughput over context for each model, and the table.

    Args:
        plan: All rows.
        note: What was assumed.
    """
    charts = [_chart(name, [row for row in plan if row.model == name]) for name in dict.fromkeys(r.model for r in plan)]
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>LayerSplit plan</title>'
        "<style>body{font:15px system-ui;margin:2em;max-width:70em}svg{max-width:100%}pre{overflow:auto}"
        "text{font:12px system-ui}</style><h1>When LayerSplit wins</h1>"
        f"<p>{escape(note)}</p>{''.join(charts)}<pre>{escape(table(plan))}</pre></html>\n"
    )


def _chart(name: str, plan: Sequence[Row]) -> str:
    points = [row for row in plan if row.point is not None]
    if not points:
        return f"<h2>{escape(name)}</h2><p>Not at these numbers of ranks.</p>"
    contexts = sorted({row.context for row in points})
    first, last = math.log(contexts[0]), math.log(contexts[-1])
    top = max(1.2, *(row.point.throughput_ratio for row in points if row.point)) * 1.05

    def x(context: int) -> float:
        share = (math.log(context) - first) / (last - first) if last > first else 0.5
        return _LEFT + share * (_WIDTH - _LEFT - 90)

    def y(ratio: float) -> float:
        return (_HEIGHT - _BOTTOM) * (1 - ratio / top) + 10

    parts = [f'<svg viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" role="img" aria-label="throughput ratio, {escape(name)}">']
    for step in range(int(top) + 1):
        parts.append(
            f'<path stroke="{"#57606a" if step == 1 else "#d0d7de"}" d="M{_LEFT:g} {y(step):.1f}H{_WIDTH - 90:g}"/>'
        )
        parts.append(f'<text x="{_LEFT - 30:g}" y="{y(step) + 4:.1f}">{step}x</text>')
    for context in contexts:
        parts.append(f'<text x="{x(context) - 14:.1f}" y="{_HEIGHT - 8:g}">{context // 1024}K</text>')
    for number, ranks in enumerate(dict.fromkeys(row.ranks for row in points)):
        color = _COLORS[number % len(_COLORS)]
        line = [(x(r.context), y(r.point.throughput_ratio)) for r in points if r.ranks == ranks and r.point]
        parts.append(f'<polyline fill="none" stroke="{color}" stroke-width="2" points="{_joined(line)}"/>')
        parts.extend(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="{color}"/>' for a, b in line)
        parts.append(f'<text x="{_WIDTH - 84:g}" y="{20 + 16 * number}" fill="{color}">{ranks} ranks</text>')
    return f"<h2>{escape(name)}: requests a second, with / without, over the context</h2>{''.join(parts)}</svg>"


def _joined(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in points)


def main(arguments: Sequence[str]) -> int:
    """
    Print a plan.

    Args:
        arguments: Of the command line.

    Returns:
        0; 2 when an argument makes no sense, as argparse does.
    """
    parser = argparse.ArgumentParser(prog="guard layersplit plan", description="When LayerSplit wins for a model.")
    parser.add_argument("--model", action="append", choices=sorted(SHAPES), help="repeatable (default: all)")
    parser.add_argument("--ranks", default="2,4,8,16", help="numbers of ranks (default %(default)s)")
    parser.add_argument("--context", default="8K,32K,64K,128K,256K,1M", help="tokens (default %(default)s)")
    parser.add_argument(
        "--memory", type=float, default=120.0, help="GiB a rank for weights and KV (default %(default)s)"
    )
    parser.add_argument(
        "--tflops", type=float, default=300.0, help="of a rank, as seen in prefill (default %(default)s)"
    )
    parser.add_argument("--link", type=float, default=50.0, help="GB/s of a broadcast, as seen (default %(default)s)")
    parser.add_argument(
        "--hit-rate", type=float, default=0.9, help="that an endless cache would have (default %(default)s)"
    )
    parser.add_argument("--sessions", type=int, default=0, help="contexts in use; 0: as many as --span gives")
    parser.add_argument(
        "--span", type=float, default=4.0, help="contexts in use / unsplit capacity (default %(default)s)"
    )
    parser.add_argument("--chunk", type=int, default=8192, help="most tokens of a step (default %(default)s)")
    parser.add_argument("--batch", type=int, default=2, help="most requests of a step (default %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--html", type=Path, help="write a page with curves")
    given = parser.parse_args(arguments)
    try:
        ranks, contexts = ([tokens(part) for part in text.split(",")] for text in (given.ranks, given.context))
    except ValueError:
        parser.error("--ranks and --context are whole numbers separated by commas, such as 8192 or 8K,1M")
    if min(*ranks, *contexts, given.chunk, given.batch) < 1 or not 0 <= given.hit_rate < 1:
        parser.error("numbers must be above 0, and --hit-rate in [0, 1)")
    if min(given.memory, given.tflops, given.link, given.span) <= 0 or given.sessions < 0:
        parser.error("--memory, --tflops, --link and --span must be above 0, --sessions 0 or more")
    machine = Machine(1, given.memory * _GIB, given.tflops * 1e12, given.link * 1e9)
    load = Load(1, given.hit_rate, given.sessions, given.span, given.chunk, given.batch)
    plan = rows([SHAPES[name] for name in given.model or SHAPES], ranks, contexts, machine, load)
    if given.html is not None:
        note = (
            f"{given.memory:g} GiB and {given.tflops:g} TFLOP/s a rank, {given.link:g} GB/s broadcasts, "
            f"{given.hit_rate:.0%} of a request seen before. Ratios of a model, not measurements."
        )
        try:
            given.html.parent.mkdir(parents=True, exist_ok=True)
            given.html.write_text(page(plan, note), encoding="utf-8")
        except OSError as error:
            parser.error(f"--html: {error.filename}: {error.strerror}")
    print(as_json(plan) if given.json else table(plan))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
