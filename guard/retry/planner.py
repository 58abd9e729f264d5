"""
What to do after a verdict or a transport fault: retry (how), cut, deliver the best attempt, or let pass.

The safety matrix is MATRIX, and what remains when no row allows a retry is LAST_RESORT; guard/README.md
has both, made from here. What makes a continuation unsafe is said by the request's family, the engine
and the text shown so far (`resume_blocker`).
"""

from __future__ import annotations

import enum
from typing import NamedTuple

import msgspec

from guard.types import WhenExhausted


class Step(enum.StrEnum):
    """What the exchange does next."""

    RESTART = "restart"
    RESUME = "resume"
    CUT = "cut"
    BEST = "best"
    PASS = "pass"  # noqa: S105 - not a password


class Situation(msgspec.Struct, frozen=True, gc=False):
    """
    Everything the plan depends on.

    Args:
        attempts_made: Upstream requests already made for this exchange, the first included.
        max_attempts: Most that the policy allows.
        text_released: Whether the client has text of this exchange.
        resume_blocker: Why continuing the text would be unsafe; empty when it is safe.
        when_exhausted: The policy's choice for the last resort.
        attempt_alive: Whether the current attempt could still be let pass (False after a fault).
        refused: Why the fleet's budget allows no retry now; empty while it was not asked, or does.
        best_kept: Whether the healthy part of an attempt is at hand and can be ended honestly.
        bad_shown: Tokens after the onset that the client has. Unit: tokens.
        max_bad_shown: Most of them that the policy lets stand before a continuation. Unit: tokens.
    """

    attempts_made: int
    max_attempts: int
    text_released: bool
    resume_blocker: str
    when_exhausted: WhenExhausted
    attempt_alive: bool = True
    refused: str = ""
    best_kept: bool = False
    bad_shown: int = 0
    max_bad_shown: int = 0


class Plan(msgspec.Struct, frozen=True, gc=False):
    """The decision and its reason, for the record."""

    step: Step
    reason: str


class Row(NamedTuple):
    """
    One line of the safety matrix; None stands for either.

    Args:
        attempts_left: The policy allows another attempt.
        in_budget: The fleet's retry budget allows it.
        text_released: The client has text.
        resume_safe: That text can be continued exactly.
        little_shown: No more bad text was shown than may stand.
        step: What is done; None for the last resort.
        reason: Why, for the record.
    """

    attempts_left: bool | None
    in_budget: bool | None
    text_released: bool | None
    resume_safe: bool | None
    little_shown: bool | None
    step: Step | None
    reason: str


class Last(NamedTuple):
    """One line of the last resort; None stands for either."""

    when_exhausted: WhenExhausted
    attempt_alive: bool | None
    best_kept: bool | None
    step: Step


#: First match wins.
MATRIX = (
    Row(False, None, None, None, None, None, "all {max_attempts} attempts used"),
    Row(True, False, None, None, None, None, "{refused}"),
    Row(True, True, False, None, None, Step.RESTART, "no text released yet"),
    Row(True, True, True, False, None, None, "cannot resume: {resume_blocker}"),
    Row(True, True, True, True, False, None, "{bad_shown} bad tokens were shown, more than retry.max_bad_shown"),
    Row(True, True, True, True, True, Step.RESUME, "the backend can continue the released text"),
)
#: First match wins. After a fault there is nothing left that could be let pass.
LAST_RESORT = (
    Last(WhenExhausted.PASS, True, None, Step.PASS),
    Last(WhenExhausted.BEST, None, True, Step.BEST),
    Last(WhenExhausted.PASS, None, None, Step.CUT),
    Last(WhenExhausted.BEST, None, None, Step.CUT),
    Last(WhenExhausted.CUT, None, None, Step.CUT),
)


def plan(situation: Situation) -> Plan:
    """
    Decide by the two tables.

    Returns:
        The next step with a clause that says why.
    """
    facts = (
        situation.attempts_made < situation.max_attempts,
        not situation.refused,
        situation.text_released,
        not situation.resume_blocker,
        situation.bad_shown <= situation.max_bad_shown,
    )
    row = next(row for row in MATRIX if _fits(row[:5], facts))
    reason = row.reason.format_map(msgspec.structs.asdict(situation))
    return Plan(row.step or _last_resort(situation), reason)


def _last_resort(situation: Situation) -> Step:
    facts = (situation.when_exhausted, situation.attempt_alive, situation.best_kept)
    return next(last.step for last in LAST_RESORT if _fits(last[:3], facts))


def _fits(asked: tuple[object, ...], facts: tuple[object, ...]) -> bool:
    return all(want is None or want == fact for want, fact in zip(asked, facts, strict=True))


def matrix_table() -> str:
    """Both tables as Markdown, for the documentation."""
    names: tuple[str, ...] = (
        "attempts left", "within the budget", "text released", "resume safe", "bad text shown may stand", "plan",
    )  # fmt: skip
    lines = [_line(names), _line(["---"] * len(names))]
    lines += [_line([*map(_say, row[:5]), row.step.value if row.step else "last resort"]) for row in MATRIX]
    names = ("`when_exhausted`", "attempt still alive", "healthy part kept", "last resort")
    lines += ["", _line(names), _line(["---"] * len(names))]
    lines += [_line([f"`{last[0]}`", *map(_say, last[1:3]), last.step.value]) for last in LAST_RESORT]
    return "\n".join(lines)


def _say(fact: bool | None) -> str:
    return "any" if fact is None else "yes" if fact else "no"


def _line(cells: list[str] | tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"
