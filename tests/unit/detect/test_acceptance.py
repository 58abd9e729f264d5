"""Windows over verify steps, falls against a reference, and where a fall began."""

from __future__ import annotations

import math

from guard.detect.acceptance import Acceptance, ChangePoint
from guard.detect.baseline import Baseline
from guard.types import StepAcceptance, Unit, Window

W32 = Window(32, Unit.TOKENS)
K3 = Baseline(probability=0.5, weight=1000, k=3)


def step(accepted: int, drafted: int = 3) -> StepAcceptance:
    return StepAcceptance(accepted=accepted, drafted=drafted, tokens=accepted + 1, exact=True)


def run(
    pattern: list[int], repeat: int, *, baseline: Baseline | None = None, drafted: int = 3
) -> tuple[Acceptance, int]:
    acceptance = Acceptance((W32, None), (W32,), baseline)
    return acceptance, feed(acceptance, pattern, repeat, 0, drafted)


def feed(acceptance: Acceptance, pattern: list[int], repeat: int, tokens: int, drafted: int = 3) -> int:
    for _ in range(repeat):
        for accepted in pattern:
            tokens += accepted + 1
            acceptance.add(step(accepted, drafted), tokens)
    return tokens


def test_length_counts_the_bonus_and_leaves_out_steps_without_a_draft() -> None:
    acceptance = Acceptance((None,), (), None)
    for accepted, drafted in [(3, 3), (0, 0), (1, 3), (0, 0)]:
        acceptance.add(step(accepted, drafted), 0)
    tally = acceptance.windows[None].tally
    assert tally.length() == 3.0
    assert tally.rate() == 4 / 6
    assert tally.undrafted_share() == 0.5


def test_without_any_draft_everything_is_unknown() -> None:
    acceptance = Acceptance((None,), (), None)
    acceptance.add(step(0, 0), 1)
    tally = acceptance.windows[None].tally
    assert all(math.isnan(x) for x in (tally.length(), tally.rate(), tally.probability()))


def test_probability_does_not_depend_on_the_depth_of_the_draft() -> None:
    # One rejection after one accepted token, whether two or seven were drafted.
    for drafted in (2, 7):
        acceptance, _ = run([1], 40, drafted=drafted)
        assert acceptance.windows[None].tally.probability() == 0.5


def test_a_window_by_tokens_keeps_the_fewest_steps_that_fill_it() -> None:
    acceptance, _ = run([3], 20)
    assert acceptance.windows[W32].tally.tokens == 32
    assert acceptance.windows[W32].tally.steps == 8


def test_a_window_by_steps_counts_steps() -> None:
    window = Window(5, Unit.STEPS)
    acceptance = Acceptance((window,), (), None)
    feed(acceptance, [0, 3], 10, 0)
    assert acceptance.windows[window].tally.steps == 5
    assert acceptance.windows[window].full


def test_a_fall_inside_the_stream_is_measured_against_its_own_earlier_part() -> None:
    acceptance, tokens = run([1, 2, 3, 0], 30)
    assert acceptance.windows[W32].fall() < 0.2
    feed(acceptance, [0], 40, tokens)
    assert acceptance.windows[W32].fall() > 0.8


def test_weak_from_the_first_token_without_a_baseline_is_no_fall() -> None:
    acceptance, _ = run([0, 0, 0, 0, 0, 1], 60)
    assert not acceptance.windows[W32].fall() > 0.0


def test_bad_from_the_first_token_is_seen_with_a_baseline() -> None:
    acceptance, tokens = run([0], 40, baseline=K3)
    assert acceptance.windows[W32].fall() > 0.8
    assert acceptance.onset(W32, tokens) == 0


def test_a_stream_long_below_its_baseline_has_a_weak_draft() -> None:
    acceptance, _ = run([0], 300, baseline=K3)
    assert acceptance.windows[W32].fall() == 0.0


def test_a_baseline_on_too_little_evidence_is_not_used() -> None:
    acceptance, _ = run([0], 40, baseline=Baseline(probability=0.5, weight=10))
    assert not acceptance.windows[W32].fall() > 0.0


def test_the_onset_of_a_fall_is_found_within_a_few_tokens() -> None:
    acceptance, tokens = run([1, 2, 3, 0], 30)
    end = feed(acceptance, [0], 40, tokens)
    assert abs(acceptance.onset(W32, end) - tokens) <= 6


def test_unknown_depth_counts_a_rejection_unless_the_deepest_step_was_reached() -> None:
    acceptance, _ = run([3, 0], 20, drafted=-1)
    tally = acceptance.windows[None].tally
    assert (tally.accepted, tally.rejected) == (60, 20)
    assert math.isnan(tally.rate())


def test_the_change_point_stays_at_zero_while_healthy() -> None:
    change = ChangePoint()
    change.set_reference(0.5)
    for token in range(1, 200):
        change.add(1, 1, token)
    assert change.onset is None


def test_evidence_grows_with_every_step_of_a_fall_and_is_unknown_without_a_reference() -> None:
    acceptance, tokens = run([1, 2, 3, 0], 30)
    assert acceptance.evidence < 3.0
    readings = []
    for _ in range(6):
        tokens = feed(acceptance, [0], 1, tokens)
        readings.append(acceptance.evidence)
    assert readings == sorted(readings)
    assert readings[-1] > 3.0
    assert math.isnan(run([0], 3)[0].evidence)


def test_what_a_fall_leaves_behind_is_no_measure_of_it_until_it_has_lasted() -> None:
    window = Window(32, Unit.TOKENS)
    acceptance = Acceptance((window,), (window,), None)
    token = 0
    for _ in range(60):
        token += 3
        acceptance.add(StepAcceptance(2, 3, 3, True), token)
    healthy = acceptance.windows[window].reference()
    for _ in range(110):
        token += 1
        acceptance.add(StepAcceptance(0, 3, 1, True), token)
    assert acceptance.windows[window].reference() == healthy
    assert acceptance.windows[window].fall() > 0.6
    for _ in range(600):
        token += 1
        acceptance.add(StepAcceptance(0, 3, 1, True), token)
    assert acceptance.windows[window].fall() == 0.0


def test_a_drop_is_one_from_this_streams_own_part_whatever_the_baseline_says() -> None:
    window = Window(32, Unit.TOKENS)
    good = Baseline(0.8, 1000.0, 3)
    low = Acceptance((window,), (window,), good)
    feed(low, [0, 0, 1], 16, 0)
    assert low.windows[window].fall() > 0.5
    assert low.windows[window].drop() == 0.0
    fallen = Acceptance((window,), (window,), good)
    end = feed(fallen, [2, 3, 1], 20, 0)
    assert math.isnan(Acceptance((window,), (window,), good).windows[window].drop())
    assert fallen.windows[window].drop() == 0.0
    feed(fallen, [0], 40, end)
    assert fallen.windows[window].drop() > 0.6
