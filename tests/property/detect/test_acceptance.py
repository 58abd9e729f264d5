"""The slack that is told is never too much: while it lasts, no reading of acceptance passes its bound."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from guard.detect.acceptance import Acceptance, slack_of
from guard.detect.baseline import Baseline
from guard.types import StepAcceptance, Unit, Window

AHEAD = 16
WINDOWS: list[Window | None] = [Window(32, Unit.TOKENS), Window(24, Unit.STEPS), Window(8, Unit.TOKENS), None]
#: With the way in which they pass their bound.
SIGNALS = st.sampled_from(
    [
        ("acceptance_drop", True),
        ("acceptance_fall", True),
        ("acceptance_probability", False),
        ("acceptance_probability", True),
    ]
)
#: Phases of a stream: so many steps, kept with this probability, are drawn from their seed.
STEPS = st.lists(st.tuples(st.integers(0, 3), st.sampled_from([3, 3, 3, 2, 0])), min_size=1, max_size=40)


def step(kept: int, drafted: int) -> StepAcceptance:
    kept = min(kept, drafted)
    return StepAcceptance(kept, drafted, kept + 1, exact=True)


@given(
    before=st.lists(st.tuples(STEPS, st.integers(1, 6)), min_size=1, max_size=4),
    after=STEPS,
    signal=SIGNALS,
    window=st.sampled_from(WINDOWS),
    bound=st.sampled_from([0.1, 0.3, 0.4, 0.7]),
    baseline=st.sampled_from([None, Baseline(0.6, 1000.0, 3)]),
)
def test_while_it_lasts_no_reading_passes_its_bound(
    before: list[tuple[list[tuple[int, int]], int]],
    after: list[tuple[int, int]],
    signal: tuple[str, bool],
    window: Window | None,
    bound: float,
    baseline: Baseline | None,
) -> None:
    name, rising = signal
    acceptance = Acceptance((window,), (window,), baseline)
    end = 0
    for steps, times in before:
        for kept, drafted in steps * times:
            one = step(kept, drafted)
            end += one.tokens
            acceptance.add(one, end)
    found = slack_of(name, acceptance.windows[window], rising=rising)
    assert found is not None
    slack, share = found(bound, AHEAD)
    tokens = 0 if slack >= 0 else AHEAD  # else nothing is promised
    for kept, drafted in after:
        one = step(kept, drafted)
        tokens += one.tokens
        if tokens > AHEAD:
            return
        acceptance.add(one, end + tokens)
        if one.drafted:
            slack += one.accepted - share * (one.accepted + (one.accepted < one.drafted))
        if slack < 0:
            return
        read = acceptance.windows[window]
        readings = {"acceptance_drop": read.drop, "acceptance_fall": read.fall}
        reading = readings.get(name, read.probability)()
        assert not (reading - bound if rising else bound - reading) > 1e-9
