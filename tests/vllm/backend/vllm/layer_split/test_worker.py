"""
guard.backend.vllm.layer_split.worker in real vLLM, two ranks with one KV head between them.

The load mixes prompts longer than a step, prefix hits, drafted tokens, preemption and clients that go away.
`tests/bench/layer_split.py --only equal` does the same with more requests, and without prefetch.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist

from guard.backend.device.layer_split import GroupBroadcasts
from guard.backend.kv.layer_split import Ownership, divide
from guard.backend.testbed.tiny import TinyShape
from guard.backend.vllm.layer_split import worker
from tests.vllm.backend.vllm.layer_split.engines import Answers, blocks, differing, engine, load, serve

MEMORY = 2_200_000
ASKS = load(30, seed=3)


@pytest.fixture(scope="module")
def unsplit() -> Iterator[Answers]:
    with engine(split=False, layers=4, memory=MEMORY) as made:
        yield serve(made, ASKS)


def test_tokens_are_those_of_the_unsplit_engine(unsplit: Answers) -> None:
    with engine(split=True, layers=4, memory=MEMORY, check=True) as made:
        answers = serve(made, ASKS)
    assert differing(unsplit, answers) == []
    assert len(set(answers.tokens) - answers.gone) >= 25
    # What the load is for was met.
    assert min(answers.cached, answers.chunked, answers.preempted, len(answers.gone)) > 0
    assert answers.accepted > answers.steps


def test_a_slow_link_changes_nothing(unsplit: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    send = GroupBroadcasts.send

    def late(self: GroupBroadcasts, payload: torch.Tensor, source: int) -> Any:
        if dist.get_rank() == source:
            time.sleep(0.005)
        return send(self, payload, source)

    monkeypatch.setattr(GroupBroadcasts, "send", late)
    with engine(split=True, layers=4, memory=MEMORY) as made:
        assert differing(unsplit, serve(made, ASKS[:10])) == []


class _Nothing:
    def wait(self) -> None:
        pass

    def is_completed(self) -> bool:
        return True


def _omit(self: GroupBroadcasts, payload: torch.Tensor, source: int) -> Any:
    return _Nothing()


def test_without_the_broadcast_tokens_differ(unsplit: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GroupBroadcasts, "send", _omit)
    with engine(split=True, layers=4, memory=MEMORY) as made:
        assert len(differing(unsplit, serve(made, ASKS[:10]))) > 3


def test_with_the_check_a_broadcast_left_out_ends_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GroupBroadcasts, "send", _omit)
    with engine(split=True, layers=4, memory=MEMORY, check=True) as made, pytest.raises(RuntimeError):
        serve(made, ASKS[:10])


def _start(message: str, **options: Any) -> None:
    with pytest.raises(RuntimeError, match=message), engine(split=True, **options):
        pass


def test_ranks_with_other_owners_do_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def swapped(layers: int, ranks: int) -> Ownership:
        owners = divide(layers, ranks).owners
        return Ownership(owners if dist.get_rank() == 0 else tuple(reversed(owners)), ranks)

    monkeypatch.setattr(worker, "divide", swapped)
    _start("do not agree on the layers, owners", layers=4)


def test_a_model_that_replicates_nothing_is_refused_by_name() -> None:
    _start("nothing is kept twice", speculative=False, shape=TinyShape())


def test_more_blocks_fit_in_the_same_memory() -> None:
    # Scratch for one short request of a cache with room for many: 16 layers, of which each rank keeps eight.
    shape = TinyShape(num_layers=16, num_kv_heads=1)
    with engine(split=True, speculative=False, shape=shape, memory=200 * 16 * 16384, seqs=1, model_len=320) as made:
        assert blocks(made) >= 1.9 * 200
