"""A policy against labelled streams: what it finds, how late, and what it wrongly stops."""

from __future__ import annotations

import argparse
import math
import os
import statistics
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from guard.detect.baseline import Baseline
from guard.errors import ConfigError
from guard.lab.baseline import find_baseline
from guard.lab.case_files import CaseFiles
from guard.lab.cases import BAD_KINDS, CaseKind
from guard.lab.doubts import unmatched, unreadable
from guard.lab.tries import Drawing, Outcome, Tried, backtest
from guard.shipped import find_policy

#: What a given acceptance probability is taken to rest on. Unit: positions.
_GIVEN_WEIGHT = 10_000.0


class KindFigures(msgspec.Struct, frozen=True):
    """
    What was found of one kind, over the detected cases.

    Delays are tokens from the onset to the verdict; bad tokens shown those of them that had left before it.
    """

    cases: int
    detected: int
    recall: float
    delay_tokens_median: float | None
    delay_tokens_p90: float | None
    bad_tokens_shown_median: float | None
    bad_tokens_shown_p90: float | None


class NegativeFigures(msgspec.Struct, frozen=True):
    """Healthy cases of one sort that were stopped."""

    cases: int
    false_positives: int


class HealthyFigures(msgspec.Struct, frozen=True):
    """Healthy cases that were stopped; by what makes them hard, "null" for ordinary ones."""

    cases: int
    false_positives: int
    rate: float
    by_hard_negative: dict[str, NegativeFigures]


class RescoreFigures(msgspec.Struct, frozen=True):
    """Streams that only re-scoring can tell: how many were stopped all the same."""

    cases: int
    acted: int


class Figures(msgspec.Struct, frozen=True):
    """
    The outcome of a backtest as `--json` prints it.

    `misses` are all bad cases not detected; `false_positive_ids` are healthy cases that were stopped
    and bad ones stopped before their fault began.
    """

    policy: str
    cases: int
    kinds: dict[str, KindFigures]
    healthy: HealthyFigures
    rescore_only: RescoreFigures
    misses: list[str]
    false_positive_ids: list[str]


def figures(policy: str, tried: Sequence[Tried]) -> Figures:
    """
    Sum up.

    Args:
        policy: Its name.
        tried: From `backtest`.
    """
    outcomes = [(one, one.outcome) for one in tried]
    return Figures(
        policy=policy,
        cases=len(tried),
        kinds={
            kind.value: _of_kind([one for one in tried if one.case.kind is kind])
            for kind in BAD_KINDS
            if any(one.case.kind is kind for one in tried)
        },
        healthy=_of_healthy([one for one in tried if one.case.kind is CaseKind.HEALTHY]),
        rescore_only=RescoreFigures(
            cases=sum(outcome is Outcome.RESCORE for _, outcome in outcomes),
            acted=sum(outcome is Outcome.RESCORE and one.result.acted for one, outcome in outcomes),
        ),
        misses=[one.case.id for one, outcome in outcomes if outcome in (Outcome.MISSED, Outcome.EARLY)],
        false_positive_ids=[
            one.case.id for one, outcome in outcomes if outcome in (Outcome.FALSE_POSITIVE, Outcome.EARLY)
        ],
    )


def _of_kind(tried: Sequence[Tried]) -> KindFigures:
    delays = sorted(delay for one in tried if (delay := one.delay) is not None)
    shown = sorted(tokens for one in tried if (tokens := one.bad_shown) is not None)
    return KindFigures(
        cases=len(tried),
        detected=len(delays),
        recall=round(len(delays) / len(tried), 4),
        delay_tokens_median=statistics.median(delays) if delays else None,
        delay_tokens_p90=_p90(delays),
        bad_tokens_shown_median=statistics.median(shown) if shown else None,
        bad_tokens_shown_p90=_p90(shown),
    )


def _p90(ordered: Sequence[int]) -> int | None:
    """Nearest rank: one that really occurred."""
    return ordered[math.ceil(0.9 * len(ordered)) - 1] if ordered else None


def _of_healthy(tried: Sequence[Tried]) -> HealthyFigures:
    sorts = ["null", *sorted({one.case.hard_negative for one in tried if one.case.hard_negative is not None})]
    cases = Counter(one.case.hard_negative or "null" for one in tried)
    stopped = Counter(one.case.hard_negative or "null" for one in tried if one.result.acted)
    return HealthyFigures(
        cases=len(tried),
        false_positives=stopped.total(),
        rate=round(stopped.total() / len(tried), 4) if tried else 0.0,
        by_hard_negative={sort: NegativeFigures(cases[sort], stopped[sort]) for sort in sorts},
    )


class Limit(NamedTuple):
    """One demand on the figures, such as recall=0.95."""

    name: str
    bound: float


#: Demands that `--require` understands. Recall is a least value, the others are greatest values.
LIMITS = {
    "recall": "least recall of any kind",
    "fp": "share of healthy cases stopped",
    "fp_ordinary": "share of ordinary healthy cases stopped",
    "delay_median": "greatest median delay of any kind, in tokens",
    "delay_p90": "greatest 90th percentile of the delay of any kind, in tokens",
}


def parse_limits(text: str) -> list[Limit]:
    """
    Read `recall=0.95,fp=0.03`.

    Raises:
        ConfigError: A name is unknown or a value is no number of its range.
    """
    limits = []
    for part in text.split(","):
        name, _, value = part.strip().partition("=")
        if name not in LIMITS:
            raise ConfigError(f"unknown limit {name!r}; one of {', '.join(LIMITS)}", where="--require")
        try:
            bound = float(value)
        except ValueError:
            bound = math.nan
        if not 0 <= bound <= (math.inf if name.startswith("delay") else 1):
            raise ConfigError(f"{name}={value}: write a number{_range_of(name)}", where="--require")
        limits.append(Limit(name, bound))
    return limits


def _range_of(name: str) -> str:
    return " of tokens" if name.startswith("delay") else " from 0 to 1"


def broken_limits(found: Figures, limits: Iterable[Limit]) -> list[str]:
    """What of the demands is not met, one readable line each. No case of a kind meets any demand on it."""
    measured: dict[str, float] = {
        "recall": min((kind.recall for kind in found.kinds.values()), default=1.0),
        "fp": found.healthy.rate,
        "fp_ordinary": _share(found.healthy.by_hard_negative["null"]),
        "delay_median": max((kind.delay_tokens_median or 0 for kind in found.kinds.values()), default=0),
        "delay_p90": max((kind.delay_tokens_p90 or 0 for kind in found.kinds.values()), default=0),
    }
    broken = []
    for name, bound in limits:
        value = measured[name]
        if (value < bound) if name == "recall" else (value > bound):
            relation = "at least" if name == "recall" else "at most"
            broken.append(f"{name}: {LIMITS[name]} is {value:g}; asked for {relation} {bound:g}")
    return broken


def _share(part: NegativeFigures) -> float:
    return round(part.false_positives / part.cases, 4) if part.cases else 0.0


def baselines_for(text: str, depths: Iterable[int]) -> dict[int, Baseline]:
    """
    What `--baseline` means for each draft depth.

    Args:
        text: An acceptance probability, or the profile of a draft by name or path.
        depths: Draft depths of the cases.

    Raises:
        ConfigError: It is neither, or the profile lacks a depth.
    """
    wanted = sorted({depth for depth in depths if depth})
    try:
        probability = float(text)
    except ValueError:
        return {depth: find_baseline(text, depth) for depth in wanted}
    if not 0 < probability <= 1:
        raise ConfigError(f"{text} is no acceptance probability; it lies above 0 and up to 1", where="--baseline")
    return {depth: Baseline(probability, _GIVEN_WEIGHT, depth) for depth in wanted}


def backtest_command(args: argparse.Namespace) -> int:
    """
    `guard backtest`.

    Args:
        args: Parsed arguments: policy, against, cases, json, baseline, html, require, jobs.

    Returns:
        0, or 1 when a demand of `--require` is not met.

    Raises:
        ConfigError: A file is wrong, or there is no case.
    """
    policy = find_policy(args.policy)
    other = find_policy(args.against) if args.against else None
    limits = parse_limits(args.require) if args.require else []
    files = CaseFiles([Path(path) for path in args.cases])
    if not files.heads:
        raise ConfigError("no cases in " + ", ".join(map(str, args.cases)))
    depths = (one.num_speculative_tokens for one in files.heads)
    baselines = baselines_for(args.baseline, depths) if args.baseline else {}
    if args.jobs is not None and args.jobs < 1:
        raise ConfigError("give a number from 1 on", where="--jobs")
    doubts = [*unmatched(policy), *unreadable(files.heads)]
    for line in doubts:
        print(f"guard: {line}", file=sys.stderr)
    jobs = args.jobs or os.cpu_count() or 1
    from guard.lab.report import DrawnCases, draw, write_report  # noqa: PLC0415 - only where they are wanted
    from guard.lab.table import differences, parted, table  # noqa: PLC0415 - likewise

    with DrawnCases() as drawn:
        drawing = Drawing(draw, drawn.keep) if args.html is not None else None
        tried = backtest(policy, files, baselines, jobs=jobs, drawing=drawing, show=True)
        found = figures(policy.name, tried)
        against = backtest(other, files, baselines, jobs=jobs, show=True) if other is not None else None
        parts = differences(tried, against, found.policy, args.against).strip() if against is not None else ""
        if args.html is not None:
            notes = [f"Of {', '.join(map(str, args.cases))}; baseline: {args.baseline or 'none'}."]
            notes += [*(f"{one[0].upper()}{one[1:]}." for one in doubts), parts]
            write_report(args.html, policy, found, tried, drawn, [note for note in notes if note])
    broken = broken_limits(found, limits)
    if args.json:
        print(as_json(found, parted(tried, against, args.against) if against is not None else None))
    else:
        print(table(found, tried))
        if parts:
            print(f"\n{parts}")
    for line in broken:
        print(f"guard: not met: {line}", file=sys.stderr)
    return 1 if broken else 0


def as_json(found: Figures, against: dict[str, object] | None = None) -> str:
    """The figures on one line of JSON; with `against`, where another policy decides otherwise."""
    told = msgspec.to_builtins(found) | ({"against": against} if against is not None else {})
    return msgspec.json.encode(told).decode()
