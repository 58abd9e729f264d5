"""What C makes of verify steps is what Python makes of them, number by number."""

from __future__ import annotations

import gc
import importlib.util
import math
import tracemalloc
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from guard.detect import acceptance as acceptance_module
from guard.detect.acceptance import Acceptance, measured, slack_of
from guard.detect.bank import DetectorBank
from guard.detect.baseline import Baseline
from guard.types import Sample, SignalRef, StepAcceptance, Unit, Window
from tests.in_c import in_dev_mode, library

C = library("guard.detect._steps")
WINDOWS: tuple[Window | None, ...] = (
    Window(32, Unit.TOKENS),
    Window(64, Unit.TOKENS),
    Window(24, Unit.STEPS),
    Window(1, Unit.STEPS),
    Window(8, Unit.TOKENS),
    None,
)
COUNTS = st.tuples(st.integers(-1, 6), st.sampled_from([3, 3, 3, 3, 2, 0, -1, 5]), st.integers(0, 7))
#: Chunks of one to four steps, each phase so many times, so that histories fill and references fall.
PHASES = st.lists(
    st.tuples(st.lists(st.lists(COUNTS, min_size=1, max_size=4), min_size=1, max_size=6), st.integers(1, 60)),
    min_size=1,
    max_size=5,
)
BASELINES = st.sampled_from(
    [None, Baseline(0.6, 1000.0, 3), Baseline(0.98, 1000.0, 3), Baseline(0.1, 1000.0, 3), Baseline(0.6, 0.0, 3)]
)


def test_it_is_used_where_it_is_compiled_and_nowhere_else() -> None:
    built = importlib.util.find_spec("guard.detect._steps") is not None
    assert isinstance(measured((None,), (), None), Acceptance) is not built


def in_c(windows: tuple[Window | None, ...], falls: tuple[Window | None, ...], baseline: Baseline | None) -> Any:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(acceptance_module, "_steps", C)
        return measured(windows, falls, baseline)


def figures(acceptance: Any) -> list[Any]:
    """All that can be read."""
    found: list[Any] = [acceptance.evidence, acceptance.fell]
    for key, window in acceptance.windows.items():
        found += [acceptance.onset(key, 7), acceptance.onset(key, 5_000), window.tokens, window.own, window.reference()]
        found += [window.fall(), window.drop(), window.length(), window.rate(), window.probability()]
        found += [window.undrafted(), *window.told()]
        for name in ("acceptance_fall", "acceptance_drop", "acceptance_probability", "acceptance_length"):
            for rising in (True, False):
                slack = slack_of(name, window, rising=rising)
                for bound, ahead in ((0.1, 20), (0.4, 20), (0.65, 7), (0.3, 33)):
                    found += slack(bound, ahead) if slack is not None else [None]
    return ["nan" if isinstance(one, float) and math.isnan(one) else one for one in found]


def steps_of(chunk: list[tuple[int, int, int]]) -> tuple[StepAcceptance, ...]:
    return tuple(StepAcceptance(accepted, drafted, tokens, drafted >= 0) for accepted, drafted, tokens in chunk)


@given(phases=PHASES, baseline=BASELINES, falls=st.sets(st.sampled_from(WINDOWS)))
@example(phases=[([[(3, 3, 4)]], 60), ([[(0, 3, 1)]], 60), ([[(2, 3, 3)]], 60)], baseline=None, falls={WINDOWS[0]})
@example(phases=[([[(1, 3, 2)], [(0, 3, 1)]], 60)] * 5, baseline=Baseline(0.9, 1000.0, 3), falls={WINDOWS[0]})
@example(phases=[([[(3, 3, 4)] * 4], 60)] * 5, baseline=None, falls={WINDOWS[4], WINDOWS[2]})
def test_all_readings_are_equal_after_any_steps(
    phases: list[tuple[list[list[tuple[int, int, int]]], int]], baseline: Baseline | None, falls: set[Window | None]
) -> None:
    of_falls = tuple(window for window in WINDOWS if window in falls)
    ours, its = Acceptance(WINDOWS, of_falls, baseline), in_c(WINDOWS, of_falls, baseline)
    assert figures(its) == figures(ours)
    before = 0
    for chunks, times in phases:
        for chunk in chunks * times:
            steps = steps_of(chunk)
            after = before + sum(max(step.tokens, 0) for step in steps)
            ours.take(steps, before, after)
            its.take(steps, before, after)
            before = after
        assert figures(its) == figures(ours)


@given(
    runs=st.lists(st.lists(st.tuples(*[st.integers(0, 255)] * 3), max_size=6), max_size=30),
    baseline=BASELINES,
)
@example(runs=[[(2, 3, 3)] * 6, [(3, 3, 2)], [(0, 0, 1), (255, 255, 255)]], baseline=None)
def test_counts_are_taken_as_the_steps_they_are_of(
    runs: list[list[tuple[int, int, int]]], baseline: Baseline | None
) -> None:
    three = [Acceptance(WINDOWS, WINDOWS[:1], baseline) for _ in range(2)]
    three.append(in_c(WINDOWS, WINDOWS[:1], baseline))
    before = 0
    for run in runs:
        after = before + sum(tokens for _, _, tokens in run)
        # The last step of an answer may be cut: none emitted more than its chunk holds.
        steps = [StepAcceptance(one, two, min(one + 1, tokens), True) for one, two, tokens in run]
        three[0].take(tuple(steps), before, after)
        for acceptance in three[1:]:
            acceptance.take_counts(bytes(count for counts in run for count in counts), before, after)
        before = after
        assert figures(three[0]) == figures(three[1]) == figures(three[2])


def test_counts_beyond_all_measure_neither_raise_nor_overflow() -> None:
    its = in_c(WINDOWS, (WINDOWS[0],), None)
    for _ in range(200):
        its.take((StepAcceptance(10**30, 10**30, 10**30, True), StepAcceptance(-(10**30), 3, -5, True)), 0, 10**12)
    assert 0.0 <= its.windows[WINDOWS[0]].probability() <= 1.0


def test_a_wrong_call_is_refused() -> None:
    its = in_c(WINDOWS, (), None)
    for call in (
        lambda: its.take([], 0, 0),
        lambda: its.take((), 0),
        lambda: its.take_counts(b"\1\3", 0, 0),
        lambda: its.take_counts([1, 3, 2], 0, 0),
        lambda: its.take_counts(b"\1\3\2", 0),
        lambda: its.onset(None),
        lambda: its.windows[None].fall_slack(0.5),
        lambda: C.Acceptance(([],), 0.5, -1, 0),
    ):
        with pytest.raises(TypeError):
            call()
    with pytest.raises(AttributeError):
        its.take((object(),), 0, 1)
    with pytest.raises(KeyError):
        its.onset(Window(9, Unit.STEPS), 4)
    with pytest.raises(ValueError, match="remembers nothing"):
        C.Acceptance(((None, 0, False, False),), math.nan, 0, 0)


def test_a_bank_reads_and_explains_the_same_with_it() -> None:
    refs = [
        SignalRef(name, WINDOWS[0])
        for name in ("acceptance_fall", "acceptance_drop", "acceptance_length", "acceptance_rate", "undrafted")
    ] + [SignalRef("acceptance_evidence")]
    ours = DetectorBank(refs, Baseline(0.7, 1000.0, 3))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(acceptance_module, "_steps", C)
        its = DetectorBank(refs, Baseline(0.7, 1000.0, 3))
    for kept in [3, 3, 1, 3] * 20 + [0] * 30:
        sample = Sample(0, (), kept + 1, (StepAcceptance(kept, 3, kept + 1, True),))
        ours.observe(sample)
        its.observe(sample)
    assert [its.finding(ref) for ref in refs] == [ours.finding(ref) for ref in refs]


def test_nothing_is_kept_of_a_stream_that_is_over() -> None:
    def use(times: int) -> None:
        for _ in range(times):
            its = in_c(WINDOWS, (WINDOWS[0],), None)
            its.take(steps_of([(2, 3, 3)] * 40), 0, 120)
            figures(its)

    use(10)
    gc.collect()
    tracemalloc.start()
    try:
        use(10)
        before = tracemalloc.get_traced_memory()[0]
        use(200)
        gc.collect()
        # One window alone has more than 600 bytes of history.
        assert tracemalloc.get_traced_memory()[0] - before < 200 * 100
    finally:
        tracemalloc.stop()


def test_it_holds_where_python_checks_memory_and_references() -> None:
    in_dev_mode(__file__, "equal or beyond or refused or explains")
