"""
What to do after a verdict or a transport fault: retry (how), cut, or let pass.

The safety matrix, first match wins:

| attempts left | text released | resume safe | plan                          |
|---------------|---------------|-------------|-------------------------------|
| no            | any           | any         | `when_exhausted`: cut or pass |
| yes           | no            | any         | restart                       |
| yes           | yes           | yes         | resume at the last token sent |
| yes           | yes           | no          | `when_exhausted`: cut or pass |

A transport fault cannot be let pass: there is no text to pass on, so it is cut.
"""

from __future__ import annotations

import enum

import msgspec

from guard.types import WhenExhausted


class Step(enum.StrEnum):
    """What the exchange does next."""

    RESTART = "restart"
    RESUME = "resume"
    CUT = "cut"
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
    """

    attempts_made: int
    max_attempts: int
    text_released: bool
    resume_blocker: str
    when_exhausted: WhenExhausted
    attempt_alive: bool = True


class Plan(msgspec.Struct, frozen=True, gc=False):
    """The decision and its reason, for the record."""

    step: Step
    reason: str


def plan(situation: Situation) -> Plan:
    """
    Decide by the safety matrix above.

    Returns:
        The next step with a clause that says why.
    """
    if situation.attempts_made >= situation.max_attempts:
        return _last_resort(situation, f"all {situation.max_attempts} attempts used")
    if not situation.text_released:
        return Plan(Step.RESTART, "no text released yet")
    if not situation.resume_blocker:
        return Plan(Step.RESUME, "the backend can continue the released text")
    return _last_resort(situation, f"cannot resume: {situation.resume_blocker}")


def _last_resort(situation: Situation, reason: str) -> Plan:
    lets_pass = situation.when_exhausted is WhenExhausted.PASS and situation.attempt_alive
    return Plan(Step.PASS if lets_pass else Step.CUT, reason)
