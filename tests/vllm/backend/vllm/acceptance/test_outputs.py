"""guard.backend.vllm.acceptance.outputs on vLLM's own classes."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from vllm.outputs import CompletionOutput, RequestOutput
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.output_processor import RequestOutputCollector
from vllm.v1.metrics.stats import RequestSpecDecodeMetrics

from guard.backend.vllm.acceptance import outputs
from guard.backend.vllm.acceptance.outputs import STEPS, metrics_property, new_completion_output, steps_of
from guard.backend.vllm.acceptance.steps import Steps, pack


@pytest.fixture(autouse=True)
def patched(monkeypatch: pytest.MonkeyPatch) -> None:
    if not hasattr(RequestOutput.add, "__guard_hook__"):
        monkeypatch.setattr(RequestOutput, "add", outputs.add(RequestOutput.add))


def result(*steps: list[int] | None, text: str = "a", finish: str | None = None) -> RequestOutput:
    """One completion for each list of accepted tokens, of three drafted; None: none told."""
    completions = []
    for index, accepted in enumerate(steps):
        completion = CompletionOutput(index, text, [7], None, None, finish_reason=finish)
        if accepted is not None:
            completion.__dict__[STEPS] = Steps(list(accepted), [3] * len(accepted))
        completions.append(completion)
    return RequestOutput("r", None, [1], None, completions, finish is not None)


def accepted(output: RequestOutput) -> list[list[int] | None]:
    return [None if (steps := steps_of(each)) is None else steps.accepted for each in output.outputs]


@pytest.mark.parametrize("aggregate", [True, False], ids=["merged", "replaced"])
@pytest.mark.parametrize(
    ("first", "second", "both"),
    [([1], [2, 0], [1, 2, 0]), ([1], None, [1]), (None, [2], [2]), (None, None, None)],
)
def test_outputs_that_become_one_have_the_steps_of_both(
    first: list[int] | None, second: list[int] | None, both: list[int] | None, aggregate: bool
) -> None:
    output = result(first)
    output.add(result(second), aggregate=aggregate)
    assert accepted(output) == [both]


def test_each_choice_keeps_its_own_whatever_comes_together() -> None:
    output = result([1], [2])
    later = result([3], [0], [5])
    del later.outputs[0]
    output.add(later, aggregate=True)
    assert accepted(output) == [[1], [2, 0], [5]]


async def test_a_slow_reader_gets_one_output_with_all_steps() -> None:
    collector = RequestOutputCollector(RequestOutputKind.DELTA, "r")
    for kept in (3, 0, 2):
        collector.put(result([kept]))
    merged: Any = await collector.get()
    assert accepted(merged) == [[3, 0, 2]]
    assert merged.outputs[0].text == "aaa"
    collector.put(result([1], finish="stop"))
    last: Any = await collector.get()
    assert accepted(last) == [[1]]


class State:
    """A request's state: what vLLM's own has of it."""

    spec_decode_metrics = metrics_property()

    def __init__(self) -> None:
        self.spec_decode_metrics = None

    def make(self, token_ids: list[int], finish_reason: object, stop_reason: object) -> CompletionOutput:
        return CompletionOutput(0, "a", token_ids, None, None, spec_decode_metrics=self.spec_decode_metrics)


def test_steps_wait_for_the_next_output_and_go_with_it_once() -> None:
    make = new_completion_output(State.make)
    state = State()
    for kept in (3, 1):
        state.spec_decode_metrics = pack(RequestSpecDecodeMetrics, Steps([kept], [3]), None)
    completion = make(state, [7], None, None)
    assert steps_of(completion) is not None
    assert completion.guard_steps.accepted == [3, 1]
    assert completion.spec_decode_metrics is None
    assert steps_of(make(state, [7], None, None)) is None


def test_vllms_own_record_is_where_it_was() -> None:
    state = State()
    own = RequestSpecDecodeMetrics(3, [0, 1, 0, 0], 3, [1], [3])
    state.spec_decode_metrics = own
    assert state.spec_decode_metrics is own
    state.spec_decode_metrics = pack(RequestSpecDecodeMetrics, Steps([2], [3]), own)
    assert state.spec_decode_metrics == own
    state.spec_decode_metrics = pack(RequestSpecDecodeMetrics, Steps([2], [3]), None)
    assert state.spec_decode_metrics == own


#: An API server in which another plugin has replaced the stream of chunks: this process refuses, the engine core cannot
#: know of it.
_REPLACED = """
from vllm.entrypoints.openai.chat_completion.serving import OpenAIServingChat
from vllm.v1.engine.output_processor import RequestState
from vllm.v1.metrics.stats import RequestSpecDecodeMetrics
from guard.backend.vllm.acceptance.steps import Steps, pack
from guard.backend.vllm.plugin import install_acceptance

OpenAIServingChat.chat_completion_stream_generator = lambda *arguments: None
assert not install_acceptance("0.32.0", environ={})
state, own = RequestState.__new__(RequestState), RequestSpecDecodeMetrics.new(3)
state.spec_decode_metrics = None
state.spec_decode_metrics = pack(RequestSpecDecodeMetrics, Steps([1], [3]), None)
assert state.spec_decode_metrics is None, state.spec_decode_metrics
state.spec_decode_metrics = pack(RequestSpecDecodeMetrics, Steps([0], [3]), own)
assert state.spec_decode_metrics == own, state.spec_decode_metrics
"""


def test_steps_do_not_pass_for_vllms_own_record_where_this_process_has_refused() -> None:
    done = subprocess.run([sys.executable, "-c", _REPLACED], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "guard: REFUSED to patch" in done.stdout + done.stderr
