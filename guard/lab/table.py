"""A backtest's figures for a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from guard.lab.backtest import Figures, KindFigures
from guard.lab.tries import Outcome, Tried

#: Ids of one sort that are written out; the JSON has them all.
_MOST_IDS = 6


def table(found: Figures, tried: Sequence[Tried]) -> str:
    """
    The figures as readable text.

    Args:
        found: The sums.
        tried: The cases behind them.
    """
    healthy = found.healthy
    lines = [f"policy {found.policy}, {found.cases} cases", ""]
    lines.append(
        f"{'kind':<14}{'cases':>7}{'detected':>10}{'recall':>9}{'delay median':>15}{'delay p90':>12}{'bad shown':>12}"
    )
    lines += [_kind_line(kind, row) for kind, row in found.kinds.items()]
    lines += ["", f"{'healthy':<14}{'cases':>7}{'stopped':>10}{'share':>9}"]
    lines.append(_healthy_line("all", healthy.cases, healthy.false_positives))
    for sort, part in healthy.by_hard_negative.items():
        name = "ordinary" if sort == "null" else sort
        lines.append(_healthy_line(f"  {name}", part.cases, part.false_positives))
    if found.rescore_only.cases:
        lines += ["", f"wrong but fluent, only re-scoring can tell: {found.rescore_only.cases}"]
        lines.append(f"  stopped all the same: {found.rescore_only.acted}")
    lines += _waits(tried)
    lines += _by_subkind("missed", [one for one in tried if one.outcome is Outcome.MISSED])
    lines += _by_subkind("stopped before the fault began", [one for one in tried if one.outcome is Outcome.EARLY])
    lines += _by_subkind("healthy but stopped", [one for one in tried if one.outcome is Outcome.FALSE_POSITIVE])
    lines += _disagreements(tried)
    noted = sum(one.result.action == "note" for one in tried)
    if noted:
        lines += ["", f"only noted by the policy, and so not counted as detected: {noted}"]
    return "\n".join(lines)


def differences(tried: Sequence[Tried], others: Sequence[Tried], name: str, other: str) -> str:
    """
    Where two policies part, as readable text.

    Args:
        tried: The cases under the one.
        others: The same cases, in the same order, under the other.
        name: Name of the one.
        other: Name of the other.
    """
    groups = _by_outcomes(tried, others)
    lines = ["", f"{name} and {other} part on {sum(map(len, groups.values()))} of {len(tried)} cases"]
    for (first, second), ids in groups.items():
        more = f" and {len(ids) - _MOST_IDS} more" if len(ids) > _MOST_IDS else ""
        lines.append(f"  {first} / {second} ({len(ids)}): {', '.join(ids[:_MOST_IDS])}{more}")
    return "\n".join(lines)


def parted(tried: Sequence[Tried], others: Sequence[Tried], other: str) -> dict[str, object]:
    """The same as `differences` says, all of it, for JSON."""
    groups = _by_outcomes(tried, others)
    parts = [{"outcome": one, "against": two, "ids": ids} for (one, two), ids in groups.items()]
    return {"policy": other, "parts_on": sum(map(len, groups.values())), "parts": parts}


def _by_outcomes(tried: Sequence[Tried], others: Sequence[Tried]) -> dict[tuple[str, str], list[str]]:
    """Cases that two policies decide otherwise, by both outcomes."""
    groups: dict[tuple[str, str], list[str]] = {}
    for one, two in zip(tried, others, strict=True):
        if one.outcome is not two.outcome:
            groups.setdefault((one.outcome.value, two.outcome.value), []).append(one.case.id)
    return dict(sorted(groups.items()))


def _kind_line(kind: str, row: KindFigures) -> str:
    figures = (row.delay_tokens_median, row.delay_tokens_p90, row.bad_tokens_shown_median)
    told = ["-" if figure is None else f"{figure:g} tokens" for figure in figures]
    return f"{kind:<14}{row.cases:>7}{row.detected:>10}{row.recall:>9.1%}{told[0]:>15}{told[1]:>12}{told[2]:>12}"


def _healthy_line(name: str, cases: int, stopped: int) -> str:
    share = f"{stopped / cases:.1%}" if cases else "-"
    return f"{name:<14}{cases:>7}{stopped:>10}{share:>9}"


def _waits(tried: Sequence[Tried]) -> list[str]:
    """How many healthy answers had to wait a while although nothing came of it."""
    clean = [one for one in tried if one.outcome is Outcome.CLEAN]
    held = [one.result.held_chunks for one in clean if one.result.held_chunks]
    if not held:
        return []
    return ["", f"healthy answers that waited a while: {len(held)} of {len(clean)}, at most {max(held)} chunks"]


def _by_subkind(title: str, tried: Sequence[Tried]) -> list[str]:
    if not tried:
        return []
    lines = ["", f"{title}: {len(tried)}"]
    groups: dict[tuple[str, str], list[Tried]] = {}
    for one in tried:
        groups.setdefault((one.case.kind.value, one.case.subkind or "-"), []).append(one)
    for (kind, subkind), members in sorted(groups.items()):
        rules = ", ".join(sorted({one.result.rule for one in members if one.result.rule}))
        ids = [one.case.id for one in members]
        more = f" and {len(ids) - _MOST_IDS} more" if len(ids) > _MOST_IDS else ""
        by = f" by {rules}" if rules else ""
        lines.append(f"  {kind}/{subkind} ({len(ids)}{by}): {', '.join(ids[:_MOST_IDS])}{more}")
    return lines


def _disagreements(tried: Sequence[Tried]) -> list[str]:
    """Cases found, but taken for another kind than their label says."""
    pairs = Counter(
        (one.case.kind.value, one.result.kind.value, one.result.rule)
        for one in tried
        if one.outcome is Outcome.DETECTED and one.result.kind is not None and one.result.kind.value != one.case.kind
    )
    if not pairs:
        return []
    lines = ["", f"found, but taken for another kind: {pairs.total()}"]
    return lines + [f"  {label} taken for {kind} by {rule}: {n}" for (label, kind, rule), n in pairs.most_common()]
