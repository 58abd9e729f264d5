"""What several workers say on one question, as one guard would say it. Pure: answers in, an answer out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

#: How a replica stands with the worker that thinks least of it comes first.
_WORST = ("drained", "ejected", "failed", "unhealthy", "busy", "ready")

Answer = dict[str, Any]


def status(answers: Sequence[Answer], *, draining: bool, workers: int) -> Answer:
    """
    `/guard/status` of all.

    Args:
        answers: One of each worker that serves, at least one.
        draining: Whether the supervisor was told to stop.
        workers: How many there should be.
    """
    first = answers[0]
    return {
        **first,
        "now": max(one["now"] for one in answers),
        "started_at": min(one["started_at"] for one in answers),
        "draining": draining or any(one["draining"] for one in answers),
        "in_flight": sum(one["in_flight"] for one in answers),
        "policy_generation": min(one["policy_generation"] for one in answers),
        "policy_reload_ok": all(one["policy_reload_ok"] for one in answers),
        "retries": _retries([one["retries"] for one in answers], shared=first["fleet"]),
        "workers": {"serving": len(answers), "of": workers},
    }


def _retries(budgets: Sequence[Answer], *, shared: bool) -> Answer:
    """Where a store is shared each knows the budget of all; elsewhere each has one of its own."""
    together = max if shared else sum
    return {
        "in_flight": together(one["in_flight"] for one in budgets),
        "allowed": together(one["allowed"] for one in budgets),
        "guards": together(one["guards"] for one in budgets),
        "degraded": any(one["degraded"] for one in budgets),
        "refused": sum(one["refused"] for one in budgets),
    }


def replicas(answers: Sequence[Sequence[Answer]]) -> list[Answer]:
    """`/guard/replicas` of all: sums, and each replica as the worker sees it that thinks least of it."""
    lines: dict[str, list[Answer]] = {}
    for answer in answers:
        for line in answer:
            lines.setdefault(line["name"], []).append(line)
    return [_replica(found) for found in lines.values()]


def _replica(lines: Sequence[Answer]) -> Answer:
    worst = min(lines, key=lambda line: _rank(line["standing"]))
    return {
        **worst,
        "engine": next((line["engine"] for line in lines if line["engine"]), worst["engine"]),
        "in_flight": sum(line["in_flight"] for line in lines),
        "weight": round(sum(line["weight"] for line in lines) / len(lines), 3),
        "ejections": dict(_sums(line["ejections"] for line in lines)),
        "suspected": next((line["suspected"] for line in lines if line["suspected"]), ""),
        "baseline": _baseline([line["baseline"] for line in lines if line["baseline"] is not None]),
        # How many of the workers see it like that: without a store each decides for itself.
        "seen_by": {"workers": sum(line["standing"] == worst["standing"] for line in lines), "of": len(lines)},
    }


def _rank(standing: str) -> int:
    return _WORST.index(standing) if standing in _WORST else 0


def baselines(answers: Sequence[Mapping[str, Answer]]) -> dict[str, Answer | None]:
    """`/guard/baselines` of all: learned ones are weighed by the streams they come from."""
    names = dict.fromkeys(name for answer in answers for name in answer)
    return {name: _baseline([answer[name] for answer in answers if name in answer]) for name in names}


def _baseline(lines: Sequence[Answer]) -> Answer | None:
    if not lines:
        return None
    known = [line for line in lines if line["probability"] is not None]
    weights = [max(line["streams"], 1) for line in known]
    sum_ = sum(line["probability"] * weight for line, weight in zip(known, weights, strict=True))
    return {
        "probability": round(sum_ / sum(weights), 4) if known else None,
        "learned": any(line["learned"] for line in lines),
        "streams": sum(line["streams"] for line in lines),
        "weak_draft": any(line["weak_draft"] for line in lines),
    }


def shadow(answers: Sequence[Answer]) -> Answer:
    """`/guard/shadow` of all."""
    pairs: Counter[tuple[str, str]] = Counter()
    for answer in answers:
        pairs.update({(one["live"], one["shadow"]): one["attempts"] for one in answer["disagreed"]})
    return {
        "shadow": answers[0]["shadow"],
        "compared": sum(answer["compared"] for answer in answers),
        "disagreed": [
            {"live": live, "shadow": other, "attempts": count} for (live, other), count in sorted(pairs.items())
        ],
        "latest": in_turn([answer["latest"] for answer in answers]),
    }


def sources(answers: Sequence[Answer]) -> Answer:
    """`/guard/policies/source` of all."""
    return {
        **answers[0],
        "generation": min(answer["generation"] for answer in answers),
        "reload_ok": all(answer["reload_ok"] for answer in answers),
        "shadow": shadow([answer["shadow"] for answer in answers]),
    }


def exchanges(answers: Sequence[Sequence[Answer]], limit: int) -> list[Answer]:
    """`/guard/requests` of all, the latest first."""
    lines = [line for answer in answers for line in answer]
    return sorted(lines, key=lambda line: -float(line["ended_at"]))[:limit]


def in_turn(lists: Sequence[Sequence[Any]]) -> list[Any]:
    """Lists whose entries have no time, each newest first, taken in turns."""
    longest = max(map(len, lists), default=0)
    return [one[place] for place in range(longest) for one in lists if place < len(one)]


def _sums(counts: Iterable[Mapping[str, int]]) -> Counter[str]:
    out: Counter[str] = Counter()
    for one in counts:
        out.update(one)
    return out
