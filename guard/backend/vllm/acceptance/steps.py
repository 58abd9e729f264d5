"""
The counts of verify steps, and how they cross from vLLM's engine to its API server.

vLLM already sends one object with an output, `EngineCoreOutput.spec_decode_metrics`, filled by the
last output only. The plugin fills it in every output with that output's steps and marks it: the
last histogram entry is then negative, which no histogram of vLLM's own has. The receiver takes the
marked steps off, so that what vLLM itself sees at the end is what it would have seen anyway.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol


class SpecDecodeMetrics(Protocol):
    """What is used of vLLM's `RequestSpecDecodeMetrics`. Unit of all counts: tokens."""

    num_spec_tokens: int
    histogram: list[int]
    num_draft_tokens: int
    per_step_accepted: list[int]
    per_step_drafted: list[int]


class Steps:
    """
    Verify steps of one sequence, in order; the bonus token is not counted.

    Args:
        accepted: Draft tokens each step kept. Unit: tokens.
        drafted: Draft tokens each step checked; 0 where it had no draft. Unit: tokens.
    """

    __slots__ = ("accepted", "drafted")

    def __init__(self, accepted: list[int], drafted: list[int]) -> None:
        self.accepted = accepted
        self.drafted = drafted

    def __len__(self) -> int:
        return len(self.accepted)

    def __repr__(self) -> str:
        return f"Steps({self.accepted}, {self.drafted})"

    def add(self, accepted: int, drafted: int) -> None:
        """One more step."""
        self.accepted.append(accepted)
        self.drafted.append(drafted)

    def extend(self, later: Steps) -> None:
        """The steps that follow these."""
        self.accepted.extend(later.accepted)
        self.drafted.extend(later.drafted)

    def fields(self) -> dict[str, list[int]]:
        """Under vLLM's own names."""
        return {"per_step_accepted": self.accepted, "per_step_drafted": self.drafted}

    def json(self) -> str:
        """The same as compact JSON."""
        if len(self.accepted) == 1:
            return f'{{"per_step_accepted":[{self.accepted[0]}],"per_step_drafted":[{self.drafted[0]}]}}'
        return (
            f'{{"per_step_accepted":{str(self.accepted).replace(" ", "")},'
            f'"per_step_drafted":{str(self.drafted).replace(" ", "")}}}'
        )


_NO_TOTALS: Final = 0


def pack(make: Callable[..., Any], steps: Steps, totals: SpecDecodeMetrics | None) -> Any:
    """
    Put an output's steps into the object that vLLM sends with it.

    Args:
        make: vLLM's `RequestSpecDecodeMetrics`.
        steps: The steps; the lists are taken over.
        totals: vLLM's own record of the whole request, on its last output; it is not changed.

    Returns:
        A new object, marked.
    """
    mark = -1 - len(steps)
    if totals is None:
        return make(_NO_TOTALS, [mark], 0, steps.accepted, steps.drafted)
    return make(
        totals.num_spec_tokens,
        [*totals.histogram, mark],
        totals.num_draft_tokens,
        [*totals.per_step_accepted, *steps.accepted],
        [*totals.per_step_drafted, *steps.drafted],
    )


def unpack(metrics: Any) -> tuple[Steps, Any] | None:
    """
    Take the steps out again.

    Args:
        metrics: What came with an output. A marked one is changed in place.

    Returns:
        The steps, and vLLM's own record or None; None for what `pack` did not make.
    """
    histogram = metrics.histogram
    if not histogram or histogram[-1] >= 0:
        return None
    if len(histogram) == 1:  # all but the last output of a request
        return Steps(metrics.per_step_accepted, metrics.per_step_drafted), None
    count = -1 - histogram.pop()
    accepted, drafted = metrics.per_step_accepted, metrics.per_step_drafted
    own = len(accepted) - count
    steps = Steps(accepted[own:], drafted[own:])
    del accepted[own:], drafted[own:]
    return steps, metrics


class Pending(dict[int, Steps]):
    """Steps of one answer that no chunk has told yet, by the index of the choice; false when there are none."""

    __slots__ = ()

    def add(self, choice: int, steps: Steps) -> None:
        """Steps that wait for the next chunk of their choice."""
        waiting = self.get(choice)
        if waiting is None:
            self[choice] = steps
        else:
            waiting.extend(steps)

    def take(self, choice: int) -> Steps | None:
        """All that wait for this choice; None if there are none."""
        return self.pop(choice, None)
