"""guard.backend.vllm.acceptance.steps: the marked record, and steps that wait."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from guard.backend.vllm.acceptance.steps import Pending, Steps, pack, unpack


@dataclass
class Record:
    """The fields of vLLM's `RequestSpecDecodeMetrics`, in its order."""

    num_spec_tokens: int
    histogram: list[int] = field(default_factory=list)
    num_draft_tokens: int = 0
    per_step_accepted: list[int] = field(default_factory=list)
    per_step_drafted: list[int] = field(default_factory=list)


def pairs(steps: Steps | None) -> list[tuple[int, int]]:
    assert steps is not None
    return list(zip(steps.accepted, steps.drafted, strict=True))


STEPS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1)


@given(STEPS)
def test_packed_steps_come_out_again_and_leave_nothing(sent: list[tuple[int, int]]) -> None:
    unpacked = unpack(pack(Record, Steps([a for a, _ in sent], [d for _, d in sent]), None))
    assert unpacked is not None
    steps, own = unpacked
    assert pairs(steps) == sent
    assert own is None


@given(STEPS, STEPS)
def test_vllms_own_record_comes_out_as_it_went_in(sent: list[tuple[int, int]], before: list[tuple[int, int]]) -> None:
    own = Record(9, [3, 0, 1], 17, [a for a, _ in before], [d for _, d in before])
    as_it_was = Record(9, [3, 0, 1], 17, [a for a, _ in before], [d for _, d in before])
    unpacked = unpack(pack(Record, Steps([a for a, _ in sent], [d for _, d in sent]), own))
    assert unpacked is not None
    assert pairs(unpacked[0]) == sent
    assert unpacked[1] == own == as_it_was


def test_a_record_of_vllms_own_is_left_alone() -> None:
    assert unpack(Record(3, [0, 2, 0, 1], 9, [1, 1, 3], [3, 3, 3])) is None
    assert unpack(Record(3)) is None


def test_json_is_compact_and_has_vllms_names() -> None:
    steps = Steps([3, 0], [3, 0])
    assert steps.json() == '{"per_step_accepted":[3,0],"per_step_drafted":[3,0]}'
    assert json.loads(steps.json()) == steps.fields()


def test_steps_wait_by_choice_and_are_taken_once() -> None:
    pending = Pending()
    assert not pending
    pending.add(0, Steps([1], [3]))
    pending.add(1, Steps([2], [3]))
    pending.add(0, Steps([0], [0]))
    assert pending
    assert pairs(pending.take(0)) == [(1, 3), (0, 0)]
    assert pending.take(0) is None
    assert pairs(pending.take(1)) == [(2, 3)]
    assert not pending


def test_steps_show_themselves() -> None:
    assert repr(Steps([1], [3])) == "Steps([1], [3])"
    assert len(Steps([1], [3])) == 1
