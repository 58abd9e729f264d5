"""
guard.backend.vllm.host.connector in a real engine whose own cache is too small for its prompts.

Rules are taken away on that engine, one at a time, with gates in place of sleeps.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from guard.backend.kv.rules import ALL
from tests.vllm.backend.vllm.host.bed import BLOCKS, FULL, LENGTH, Bed, bed, closed
from tests.vllm.backend.vllm.push.bed import BLOCK_SIZE, prompts

COUNT = 10
PROMPTS = prompts(COUNT, LENGTH, 1)


@pytest.fixture(scope="module")
def right() -> list[list[int]]:
    """Answers of an engine without a host tier."""
    with bed(host=False, blocks=128) as engine:
        return [engine.run(tokens)[0] for tokens in PROMPTS]


@pytest.fixture(scope="module")
def tiered(right: list[list[int]]) -> Iterator[Bed]:
    """The engine; it comes after the other, for there can be one at a time."""
    with bed() as engine:
        yield engine


@pytest.fixture
def engine(tiered: Bed) -> Iterator[Bed]:
    """With new books; whatever a test does to it, all blocks are back afterwards."""
    tiered.use()
    yield tiered
    assert tiered.settled()


def test_prefixes_come_back_from_host_memory_and_answers_stay(engine: Bed, right: list[list[int]]) -> None:
    assert [engine.run(tokens) for tokens in PROMPTS] == [(answer, 0) for answer in right]
    assert engine.books.loaded == 0
    assert [engine.run(tokens) for tokens in PROMPTS] == [(answer, FULL) for answer in right]
    assert engine.books.loaded == COUNT * FULL // BLOCK_SIZE, "the engine's own cache had lost all of them"


def test_many_requests_at_once_some_of_them_aborted(engine: Bed, right: list[list[int]]) -> None:
    for _ in range(2):
        engine.forget()
        names = [engine.add(tokens) for tokens in PROMPTS + PROMPTS[:3]]
        answers: dict[str, list[int]] = {}
        for step in range(2000):
            if step in {2, 4, 9}:
                engine.engine.engine.abort_request([names[COUNT - step % 5]])
            for output in engine.engine.engine.step():
                answers[output.request_id] = list(output.outputs[0].token_ids)
            if not engine.engine.engine.has_unfinished_requests():
                break
        for number, name in enumerate(names):
            whole = right[number % COUNT]
            assert answers.get(name, []) == whole[: len(answers.get(name, []))]
        assert engine.settled()
    assert engine.books.loaded > 0


def test_a_prompt_longer_than_what_was_cached_goes_on_from_there(engine: Bed) -> None:
    start, end = PROMPTS[0][:100], PROMPTS[1][:100]
    whole = engine.run(start + end)
    engine.use()
    engine.run(start)
    engine.forget()
    assert engine.run(start + end) == (whole[0], 96)


def test_saved_before_the_step_is_over_poisons_the_host(engine: Bed, right: list[list[int]], monkeypatch: Any) -> None:
    connector, worker = engine.workers_connector, engine.workers_connector.worker
    bind, save = connector.bind_connector_metadata, worker.save

    def early(meta: Any) -> None:
        bind(meta)
        # Before the forward pass, and landed before it begins.
        save(meta.saves)
        worker.saves.wait(mark for _, marks in worker._flights for mark in marks)

    with monkeypatch.context() as patch:
        patch.setattr(connector, "bind_connector_metadata", early)
        patch.setattr(worker, "save", lambda orders: save(()))
        assert engine.run(PROMPTS[0]) == (right[0], 0)
    engine.forget()
    answer, found = engine.run(PROMPTS[0])
    assert (answer == right[0], found) == (False, FULL)


def test_a_block_that_is_given_away_before_its_save_poisons_the_host(engine: Bed, right: list[list[int]]) -> None:
    for rules, safe in ((msgspec.structs.replace(ALL, leases=False), False), (ALL, True)):
        engine.use(rules)
        gate = closed(engine.workers_connector.worker.saves.transfer)
        try:
            assert engine.run(PROMPTS[0]) == (right[0], 0)
            # More would wait for the blocks that are held, as they ought to.
            engine.push_out(3 if safe else 7)
        finally:
            gate.set()
        assert engine.settled()
        engine.forget()
        answer, found = engine.run(PROMPTS[0])
        assert (answer == right[0], found) == (safe, FULL)


def test_half_of_a_save_is_never_offered(engine: Bed, right: list[list[int]], monkeypatch: Any) -> None:
    worker = engine.workers_connector.worker
    transfer = worker.saves.transfer
    for torn in (True, False):
        engine.use()
        for slots in worker.slots.values():
            # They may have the same content from before.
            slots.zero_()
        gates: list[Any] = []

        def first_layer_alone(after: Any, start: Any, gates: list[Any] = gates) -> Any:
            mark = transfer(after, start)
            if not gates:
                gates.append(closed(transfer))
            return mark

        with monkeypatch.context() as patch:
            patch.setattr(worker.saves, "transfer", first_layer_alone)
            engine.run(PROMPTS[0])
            if torn:
                # The fault: a save is over when its first layer is.
                worker._flights = [(numbers, marks[:1]) for numbers, marks in worker._flights]
            engine.engine.engine.step()
            engine.forget()
            answer, found = engine.run(PROMPTS[0])
            gates[0].set()
        assert (answer == right[0], found) == ((False, FULL) if torn else (True, 0))
        assert engine.settled()


def test_a_pass_that_does_not_wait_is_found_out(engine: Bed, right: list[list[int]], monkeypatch: Any) -> None:
    worker = engine.workers_connector.worker
    engine.run(PROMPTS[0])
    engine.forget()
    saved = engine.books.saved
    with monkeypatch.context() as patch:
        patch.setattr(worker, "wait", lambda layer: None)
        assert engine.run(PROMPTS[0])[0] == right[0], "vLLM was told that the blocks are invalid, and computed them"
    assert engine.settled()
    assert engine.books.saved - saved <= 1
    # The same without the check: layers that are not there yet are read.
    engine.forget()
    assert engine.run(PROMPTS[0]) == (right[0], 0), "what the load came from is not trusted any more"
    assert engine.settled()
    engine.forget()
    gate = closed(worker.loads.transfer)
    with monkeypatch.context() as patch:
        patch.setattr(worker, "wait", lambda layer: worker._arriving.pop(layer, None))
        answer, _ = engine.run(PROMPTS[0])
        gate.set()
    assert answer != right[0]


def test_a_slot_with_other_content_is_not_loaded(engine: Bed, right: list[list[int]]) -> None:
    engine.run(PROMPTS[0])
    engine.forget()
    generations = engine.workers_connector.worker._generations
    for slot in generations:
        generations[slot] += 1000
    assert engine.run(PROMPTS[0])[0] == right[0]


def test_a_withdrawn_prefix_does_not_come_back_from_host_memory(engine: Bed, right: list[list[int]]) -> None:
    worker = engine.workers_connector.worker
    for tokens in PROMPTS[:2]:
        engine.run(tokens)
    engine.forget()
    for name in worker.slots:
        # Spoilt in host memory, as a block is that was spoilt before it was saved.
        worker.slots[name].copy_(-worker.slots[name].roll(1, 1))
    answer, found = engine.run(PROMPTS[0])
    assert (answer == right[0], found) == (False, FULL)
    engine.forget()
    assert engine.run(PROMPTS[0], withdraw=True) == (right[0], 0)
    engine.forget()
    assert engine.run(PROMPTS[0]) == (right[0], FULL), "saved anew"
    assert engine.run(PROMPTS[1])[1] == FULL, "another lineage stays"


def test_a_save_that_is_under_way_is_withdrawn_too(engine: Bed, right: list[list[int]]) -> None:
    gate = closed(engine.workers_connector.worker.saves.transfer)
    engine.run(PROMPTS[0])
    assert len(engine.books.copying()) > 0
    engine.run(PROMPTS[0], withdraw=True)
    gate.set()
    assert engine.settled()
    engine.forget()
    assert engine.run(PROMPTS[0]) == (right[0], 0)
    engine.forget()
    assert engine.run(PROMPTS[0]) == (right[0], FULL), "blocks that had withdrawn content are like any others now"


def test_new_weights_forget_the_host_tier(engine: Bed) -> None:
    engine.run(PROMPTS[0])
    assert engine.settled()
    assert engine.books.saved > 0
    assert engine.engine.scheduler.reset_prefix_cache(reset_connector=True)
    assert engine.run(PROMPTS[0])[1] == 0


def test_blocks_that_a_save_keeps_are_waited_for_and_nobody_is_preempted(engine: Bed, right: list[list[int]]) -> None:
    gate = closed(engine.workers_connector.worker.saves.transfer)
    for tokens in PROMPTS[:5]:
        engine.run(tokens)
    assert engine.engine.free_blocks() < BLOCKS // 2
    assert engine.connector.has_pending_block_frees()
    name = engine.add(PROMPTS[5])
    gate.set()
    outputs = engine.engine.finish()
    assert (outputs[-1].request_id, list(outputs[-1].outputs[0].token_ids)) == (name, right[5])
