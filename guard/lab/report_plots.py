"""Plots of a backtest as inline SVG: no script, no style of its own, colours by class."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from html import escape
from itertools import accumulate
from typing import NamedTuple

from guard.lab.tries import Tried
from guard.policy.schema import HoldBack, HoldMode

#: Points of a line in a case's plot; longer streams are drawn by bins of equal width.
_MOST_POINTS = 420
#: Verify steps in the running mean of acceptance.
_MEAN_STEPS = 16

_LEFT, _RIGHT, _WIDTH = 46.0, 14.0, 900.0
_TOP = 42.0
_PANEL, _GAP = 96.0, 26.0
_HEIGHT = _TOP + 2 * _PANEL + _GAP + 26.0


class Curve(NamedTuple):
    """One line of a small chart: its class, its name, and its points."""

    style: str
    name: str
    points: Sequence[tuple[float, float]]


def case_plot(tried: Tried, hold_back: HoldBack) -> str:
    """
    Acceptance of each verify step above, suspicion below, over the tokens of one case.

    Args:
        tried: A case run with its trace.
        hold_back: The policy's levels.
    """
    case, result = tried
    total = max(case.tokens, 1)
    marks = _marks(tried)
    parts = [
        f'<svg class="plot" viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" role="img" aria-label="{escape(_described(tried))}">'
    ]
    parts.append(_panel(_TOP, "acceptance", ((0, "0"), (0.5, "half"), (1, "all"))))
    lower = _TOP + _PANEL + _GAP
    parts.append(_panel(lower, "suspicion", ((0, "0"), (1, "1"))))
    parts.append(_token_axis(total))
    parts.append(_acceptance(result.acceptance, total))
    for level, name in levels(hold_back):
        y = _y(lower, level)
        parts.append(f'<path class="level" d="M{_LEFT:g} {y:.1f}H{_WIDTH - _RIGHT:g}"/>')
        parts.append(f'<text class="small" x="{_LEFT + 4:g}" y="{y + 11:.1f}">{name} at {level:g}</text>')
    parts.append(_suspicion(tried, total, lower))
    if result.acted and result.token < total:
        x = _x(result.token, total)
        parts.append(
            f'<rect class="unseen" x="{x:.1f}" y="{_TOP:g}" width="{_WIDTH - _RIGHT - x:.1f}"'
            f' height="{2 * _PANEL + _GAP:g}"/>'
        )
    parts += [_mark_line(mark, total, row) for row, mark in enumerate(marks)]
    parts += [_mark_label(mark, total, row) for row, mark in enumerate(marks)]
    return "".join([*parts, "</svg>"])


def sparkline(tried: Tried) -> str:
    """Suspicion of a whole case as a stamp-sized line."""
    points = _binned(_suspicion_points(tried), 48, max)
    total = max(tried.case.tokens, 1)
    line = " ".join(f"{80 * token / total:.1f},{15 - 14 * value:.1f}" for token, value in points)
    return (
        f'<svg class="spark" viewBox="0 0 80 16" aria-hidden="true"><polyline class="suspicion" points="{line}"/></svg>'
    )


def levels(hold_back: HoldBack) -> list[tuple[float, str]]:
    """Suspicion from which text waits, where it does, and from which rules act."""
    acts = (hold_back.act_at, "acts")
    holds = (hold_back.hold_at, "holds")
    return [holds, acts] if hold_back.mode is HoldMode.SUSPICION and hold_back.hold_at < hold_back.act_at else [acts]


class _Mark(NamedTuple):
    token: int
    style: str
    label: str


def _marks(tried: Tried) -> list[_Mark]:
    case, result = tried
    marks = []
    if case.first_bad_token is not None:
        marks.append(_Mark(case.first_bad_token, "fault", f"fault begins at {case.first_bad_token}"))
    if result.onset is not None:
        marks.append(_Mark(result.onset, "onset", f"onset estimated at {result.onset}"))
        marks.append(_Mark(result.token, "verdict", f"{result.action.value} at {result.token}"))
    return marks


def _described(tried: Tried) -> str:
    said = "; ".join(mark.label for mark in _marks(tried)) or "no verdict"
    return f"Acceptance and suspicion over {tried.case.tokens} tokens: {said}"


def _x(token: float, total: int) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * min(token / total, 1.0)


def _y(top: float, value: float) -> float:
    return top + _PANEL * (1 - min(max(value, 0.0), 1.0))


def _panel(top: float, name: str, ticks: Iterable[tuple[float, str]]) -> str:
    width = _WIDTH - _LEFT - _RIGHT
    out = [f'<rect class="panel" x="{_LEFT:g}" y="{top:g}" width="{width:g}" height="{_PANEL:g}"/>']
    for value, label in ticks:
        out.append(f'<text class="small end" x="{_LEFT - 6:g}" y="{_y(top, value) + 4:.1f}">{label}</text>')
    middle = top + _PANEL / 2
    out.append(f'<text class="name" transform="translate(12 {middle:g}) rotate(-90)">{name}</text>')
    return "".join(out)


def _token_axis(total: int) -> str:
    y = _HEIGHT - 12
    step = _round_step(total / 8)
    labels = [
        f'<text class="small mid" x="{_x(token, total):.1f}" y="{y:g}">{token}</text>'
        for token in range(0, total + 1, step)
    ]
    return "".join([*labels, f'<text class="small end" x="{_WIDTH - 2:g}" y="{_HEIGHT - 1:g}">tokens</text>'])


def _round_step(least: float) -> int:
    """The next of 1, 2, 5, 10, 20, 50, ... that is not below `least`."""
    power = 10 ** math.floor(math.log10(max(least, 1.0)))
    return int(next(power * factor for factor in (1, 2, 5, 10) if power * factor >= least))


def _acceptance(steps: Sequence[tuple[int, int, int]], total: int) -> str:
    if not steps:
        middle = _TOP + _PANEL / 2
        return f'<text class="small mid" x="{_WIDTH / 2:g}" y="{middle:g}">no verify step is known</text>'
    shares = [(float(token), accepted / max(drafted, 1)) for token, accepted, drafted in steps]
    foot = _y(_TOP, 0.0)
    bars = "".join(
        f"M{_x(token, total):.1f} {foot:g}V{min(_y(_TOP, share), foot - 1):.1f}"
        for token, share in _binned(shares, _MOST_POINTS, _mean)
    )
    means = []
    kept = [accepted for _, accepted, _ in steps]
    tried = [drafted for _, _, drafted in steps]
    for index, (token, _) in enumerate(shares, 1):
        first = max(0, index - _MEAN_STEPS)
        means.append((token, sum(kept[first:index]) / max(sum(tried[first:index]), 1)))
    line = _polyline("mean", _binned(means, _MOST_POINTS, _mean), _TOP, total)
    return f'<path class="bars" d="{bars}"/>{line}'


def _suspicion_points(tried: Tried) -> list[tuple[float, float]]:
    tokens = accumulate(chunk.tokens for chunk in tried.case.chunks)
    return [(float(token), value) for token, value in zip(tokens, tried.result.suspicion, strict=False)]


def _suspicion(tried: Tried, total: int, top: float) -> str:
    return _polyline("suspicion", _binned(_suspicion_points(tried), _MOST_POINTS, max), top, total)


def _polyline(style: str, points: Sequence[tuple[float, float]], top: float, total: int) -> str:
    places = " ".join(f"{_x(token, total):.1f},{_y(top, value):.1f}" for token, value in points)
    return f'<polyline class="{style}" points="{places}"/>'


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _binned(
    points: Sequence[tuple[float, float]], most: int, join: Callable[[Sequence[float]], float]
) -> list[tuple[float, float]]:
    """At most `most` points: runs of neighbours become their last place and `join` of their values."""
    size = math.ceil(len(points) / most) if points else 1
    if size == 1:
        return list(points)
    runs = [points[start : start + size] for start in range(0, len(points), size)]
    return [(run[-1][0], join([value for _, value in run])) for run in runs]


def _mark_line(mark: _Mark, total: int, row: int) -> str:
    """A vertical line through both panels, up to its label."""
    x = _x(mark.token, total)
    return f'<path class="{mark.style}" d="M{x:.1f} {_TOP - 10 - 11 * row:.1f}V{_TOP + 2 * _PANEL + _GAP:g}"/>'


def _mark_label(mark: _Mark, total: int, row: int) -> str:
    """Labels stand in rows and above all lines, so that near marks stay readable."""
    x = _x(mark.token, total)
    right = x > _WIDTH * 0.75
    return (
        f'<text class="small {mark.style}{" end" if right else ""}" x="{x + (-4 if right else 4):.1f}"'
        f' y="{_TOP - 4 - 11 * row:g}">{mark.label}</text>'
    )


def chart(
    title: str, curves: Sequence[Curve], xs: Sequence[tuple[float, str]], lines: Sequence[tuple[float, str]] = ()
) -> str:
    """
    A small chart of shares; both axes run from 0 to 1.

    Args:
        title: What it shows.
        curves: Its lines.
        xs: Places and labels on the horizontal axis.
        lines: Vertical lines and their names.
    """
    left, top, width, height = 44.0, 24.0, 330.0, 190.0

    def x(value: float) -> float:
        return left + width * value

    def y(value: float) -> float:
        return top + height * (1 - value)

    parts = [f'<svg class="chart" viewBox="0 0 480 256" role="img" aria-label="{escape(title)}">']
    parts.append(f'<rect class="panel" x="{left:g}" y="{top:g}" width="{width:g}" height="{height:g}"/>')
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(f'<path class="grid" d="M{left:g} {y(share):g}H{left + width:g}"/>')
        parts.append(f'<text class="small end" x="{left - 6:g}" y="{y(share) + 4:g}">{share:.0%}</text>')
    parts += [f'<text class="small mid" x="{x(at):.1f}" y="{top + height + 16:g}">{name}</text>' for at, name in xs]
    for at, name in lines:
        parts.append(f'<path class="level" d="M{x(at):.1f} {top:g}V{top + height:g}"/>')
        parts.append(f'<text class="small mid" x="{x(at):.1f}" y="{top - 6:g}">{escape(name)}</text>')
    for row, curve in enumerate(curves):
        places = " ".join(f"{x(at):.1f},{y(share):.1f}" for at, share in curve.points)
        parts.append(f'<polyline class="{curve.style}" points="{places}"/>')
        at = top + 14 + 18 * row
        parts.append(f'<path class="{curve.style}" d="M{left + width + 8:g} {at - 4:g}h14"/>')
        parts.append(f'<text class="small" x="{left + width + 26:g}" y="{at:g}">{escape(curve.name)}</text>')
    return "".join([*parts, "</svg>"])


def reached(tried: Sequence[Tried], places: int = 50) -> list[tuple[float, float]]:
    """For thresholds from 0 to 1, the share of cases whose suspicion reached it, of bad ones from the fault on."""
    peaks = [one.result.bad_peak for one in tried]
    thresholds = [(place + 1) / places for place in range(places)]
    return [(at, sum(peak >= at for peak in peaks) / max(len(peaks), 1)) for at in thresholds]


def found_within(tried: Sequence[Tried], most: float) -> list[tuple[float, float]]:
    """Share of cases detected within a delay, over the delay's place on a logarithmic axis from 1 to `most`."""
    delays = [one.delay for one in tried]
    places = [place / 60 for place in range(61)]
    return [
        (at, sum(delay is not None and delay <= most**at for delay in delays) / max(len(delays), 1)) for at in places
    ]
