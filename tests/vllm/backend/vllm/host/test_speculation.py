"""guard.backend.vllm.host beside a draft model, whose layers are loaded too, and whose pass comes after the model's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.vllm.backend.vllm.host.bed import FULL, LENGTH, Bed, bed, closed
from tests.vllm.backend.vllm.push.bed import options, prompts

COUNT = 3
PROMPTS = prompts(COUNT, LENGTH, 1)
#: Beside it there is no room for a draft in the step that computes it.
(LONG,) = prompts(1, options().max_model_len - 2, 2)


@pytest.fixture(scope="module")
def right() -> list[list[int]]:
    """Answers of an engine without a host tier."""
    with bed(host=False, blocks=128) as engine:
        return [engine.run(tokens)[0] for tokens in PROMPTS]


@pytest.fixture(scope="module")
def engine(right: list[list[int]]) -> Iterator[Bed]:
    """The engine; it comes after the other, for there can be one at a time."""
    with bed(draft=True) as made:
        yield made


@pytest.fixture
def reported(engine: Bed, monkeypatch: pytest.MonkeyPatch) -> list[set[int]]:
    """Blocks of which vLLM was told that their load has failed."""
    found: list[set[int]] = []
    handle = engine.engine.scheduler._handle_invalid_blocks

    def handling(blocks: set[int], *rest: Any) -> Any:
        found.append(blocks)
        return handle(blocks, *rest)

    monkeypatch.setattr(engine.engine.scheduler, "_handle_invalid_blocks", handling)
    return found


def test_prefixes_come_back_for_the_draft_too(engine: Bed, right: list[list[int]], reported: list[set[int]]) -> None:
    engine.use()
    assert [engine.run(tokens) for tokens in PROMPTS] == [(answer, 0) for answer in right]
    assert engine.settled()
    engine.forget()
    assert [engine.run(tokens) for tokens in PROMPTS] == [(answer, FULL) for answer in right]
    assert reported == []
    assert engine.settled()


def test_a_step_that_leaves_the_draft_out_has_loaded_well(
    engine: Bed, right: list[list[int]], reported: list[set[int]]
) -> None:
    engine.use()
    engine.run(PROMPTS[0])
    assert engine.settled()
    engine.forget()
    loaded = engine.add(PROMPTS[0])
    engine.add(LONG, max_tokens=1)
    answers = {output.request_id: list(output.outputs[0].token_ids) for output in engine.engine.finish()}
    assert (reported, answers[loaded]) == ([], right[0])
    assert engine.settled()


def test_a_pass_that_does_not_wait_is_found_out_before_its_tokens_are_told(
    engine: Bed, right: list[list[int]], reported: list[set[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.use()
    engine.run(PROMPTS[0])
    assert engine.settled()
    engine.forget()
    worker = engine.workers_connector.worker
    saved, invalid = engine.books.saved, worker.invalid
    gate = closed(worker.loads.transfer)

    def after_the_pass() -> Any:
        gate.set()
        return invalid()

    with monkeypatch.context() as patch:
        patch.setattr(worker, "wait", lambda layer: None)
        patch.setattr(worker, "invalid", after_the_pass)
        answer, _ = engine.run(PROMPTS[0])
    assert engine.settled()
    assert len(reported) == 1
    assert answer == right[0]
    assert engine.books.saved - saved <= 1, "nothing that was computed on top of it"
