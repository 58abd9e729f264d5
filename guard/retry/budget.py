"""
How many retries may be in flight: max(floor, share of the active requests), after Envoy's retry budget.

A share bounds what retries can add to a load that is already too high; the floor lets a quiet service
retry at all. Envoy takes the share of all active requests, of which those being retried are a part: with every
answer bad and a share of 20 %, 1 / (1 - 0.2) = 1.25 attempts for each request. Here it is the share of those in their
first attempt, so that attempts grow by no more than the share says. The budget is the fleet's: the shared store
counts all guards. A guard that cannot ask the store decides alone, by its part of the floor and the share of its own
requests.
"""

from __future__ import annotations

import re

import msgspec

#: A share of one. Unit: hundredths of a percent; whole numbers, so that every guard and the store's script round alike.
WHOLE = 10_000
_PERCENT = re.compile(r"(\d{1,3})(?:\.(\d{1,2}))? ?%")


class Budget(msgspec.Struct, frozen=True):
    """
    Most retries in flight at a time.

    Args:
        share: Part of the active requests in their first attempt. Unit: hundredths of a percent, in [0, 10000].
        floor: Allowed however few requests are active. Unit: retries.
    """

    share: int = 2_000
    floor: int = 3

    def allowance(self, active: int) -> int:
        """
        Retries that a fleet may have in flight.

        Args:
            active: Client requests in flight on all its guards.
        """
        return max(self.floor, self._part(active))

    def alone(self, active: int, guards: int) -> int:
        """
        Retries that one guard may have in flight while it cannot ask the others.

        With the load spread evenly, all guards together exceed the fleet's allowance by less than one each.

        Args:
            active: Client requests in flight on this guard.
            guards: Guards last known to be alive, this one included.
        """
        return max(-(-self.floor // max(guards, 1)), self._part(active))

    def beside(self, active: int, guards: int, held: int, others_active: int, others_held: int) -> int:
        """
        The same just after the store was lost: no more than its part of what the budget had left, or one.

        Guards that saw the same exceed the fleet's allowance by at most one each, whoever held how much.

        Args:
            active: Client requests in flight on this guard.
            guards: Guards last known to be alive, this one included.
            held: Retries it had in flight when it last saw the others.
            others_active: Client requests then in flight on the others.
            others_held: Retries then in flight on the others.
        """
        everyone = max(active + others_active, 1)
        left = max(self.allowance(everyone) - held - others_held, 0)
        part = -(-left * active // everyone)
        return min(self.alone(active, guards), max(held + part, 1))

    def _part(self, active: int) -> int:
        """Most retries r among the active with r <= share * (active - r)."""
        return self.share * active // (WHOLE + self.share)


class LocalBudget:
    """
    The retries that one guard has in flight, and its decision when it is alone.

    Args:
        budget: The rule.
    """

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.in_flight = 0

    def take(self, limit: int) -> bool:
        """
        Take a retry by this guard's own decision.

        Args:
            limit: Most that it may have in flight, from `alone` or `beside`.

        Returns:
            Whether it may be made; if so it is in flight until `release`.
        """
        if self.in_flight >= limit:
            return False
        self.in_flight += 1
        return True

    def claim(self) -> None:
        """A retry that the fleet's budget has granted is in flight."""
        self.in_flight += 1

    def release(self) -> None:
        """
        A retry is over.

        Raises:
            ValueError: None was in flight.
        """
        if self.in_flight == 0:
            raise ValueError("a retry was given back that was never taken")
        self.in_flight -= 1


def parse_share(share: str | float) -> int:
    """
    Read a share: "20%", or a number in [0, 1].

    Returns:
        Hundredths of a percent.

    Raises:
        ValueError: It is neither.
    """
    if isinstance(share, str):
        match = _PERCENT.fullmatch(share.strip())
        hundredths = int(match[1]) * 100 + int((match[2] or "0").ljust(2, "0")) if match else -1
    else:
        hundredths = round(share * WHOLE) if 0 <= share <= 1 else -1
    if not 0 <= hundredths <= WHOLE:
        raise ValueError(f"{share!r} is no share; write it like 20%, or 0.2")
    return hundredths
