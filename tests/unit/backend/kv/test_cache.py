"""The whole cache, told as an engine drives it."""

from __future__ import annotations

import pytest

from guard.backend.kv.cache import KvCache
from guard.backend.kv.effects import Freed, Lost, Received, Send
from guard.backend.kv.fence import StepOrderError
from guard.backend.kv.ids import BlockId, Key, Owner, Party, StepId
from guard.backend.kv.messages import Abort, Done, Drained
from guard.backend.kv.states import State

P = Party("P")
KEYS = (Key("a"), Key("ab"))


def admitted(cache: KvCache, request: str, blocks: int, keys: tuple[Key, ...] = ()) -> Owner:
    owner = cache.begin(request)
    hits = cache.lookup(owner, keys)
    assert cache.allocate(owner, blocks - len(hits)) is not None
    return owner


def test_generations_rise_over_all_requests() -> None:
    cache = KvCache(1, first_generation=1 << 32)
    assert cache.begin("R1").generation == 1 << 32
    assert cache.begin("R1").generation == (1 << 32) + 1


def test_a_release_waits_for_the_steps_in_flight() -> None:
    cache = KvCache(2, rows=1, block_size=2)
    owner = admitted(cache, "R", 2)
    assert cache.take_row(owner) == 0
    steps = [cache.launch({owner: 1}), cache.launch({owner: 2})]
    assert cache.release(owner) == []
    assert cache.coming() == 2
    assert cache.take_row(cache.begin("S")) is None
    assert cache.processed(steps[0], {owner: 1}) == []
    freed = cache.processed(steps[1], {owner: 2})
    assert [sorted(effect.blocks) for effect in freed if isinstance(effect, Freed)] == [[0, 1]]
    assert cache.take_row(cache.begin("S")) == 0
    cache.check_integrity()


def test_a_release_with_no_step_in_flight_frees_at_once() -> None:
    cache = KvCache(1)
    owner = admitted(cache, "R", 1)
    assert cache.release(owner) == [Freed((BlockId(0),))]
    assert cache.release(owner) == []


def test_blocks_are_published_as_they_are_settled() -> None:
    cache = KvCache(4, block_size=2)
    first = admitted(cache, "R1", 2, KEYS)
    step = cache.launch({first: 4})
    second = cache.begin("R2")
    assert cache.lookup(second, KEYS) == (), "launched is not written"
    cache.processed(step, {first: 3})
    assert len(cache.lookup(second, KEYS)) == 1, "a block with three of four tokens settled has one"
    cache.release(first)
    assert cache.counts()[State.HELD] == 1


def test_received_blocks_are_published_when_every_rank_is_through() -> None:
    cache = KvCache(2, block_size=1)
    owner = cache.begin("R")
    cache.lookup(owner, KEYS)
    blocks = cache.allocate(owner, 2)
    assert blocks is not None
    cache.receive(owner, blocks, (P,))
    cache.loaded(owner, 2)
    assert len(cache.pool.index) == 0, "said too early: a peer is writing"
    assert cache.handle(Done(*owner, *P)) == [Received(owner)]
    cache.loaded(owner, 2)
    assert len(cache.pool.index) == 2
    assert cache.release(owner) == []
    assert cache.counts()[State.CACHED] == 2


def test_an_abort_during_a_transfer_sends_a_notice_and_frees_on_the_answer() -> None:
    cache = KvCache(1)
    owner = cache.begin("R")
    blocks = cache.allocate(owner, 1)
    assert blocks is not None
    cache.receive(owner, blocks, (P,))
    assert cache.release(owner) == [Send(P, Abort(*owner, floor=1))]
    assert cache.resend(owner) == [Send(P, Abort(*owner, floor=1))]
    assert cache.handle(Drained(*owner, *P)) == [Freed((BlockId(0),))]


def test_a_lost_transfer_can_be_computed_on_other_blocks_meanwhile() -> None:
    cache = KvCache(2)
    owner = cache.begin("R")
    blocks = cache.allocate(owner, 1)
    assert blocks is not None
    cache.receive(owner, blocks, (P,))
    assert Lost(owner, "timeout") in cache.timeout(owner)
    cache.release(owner)
    assert cache.counts()[State.QUARANTINED] == 1
    again = admitted(cache, "R", 1)
    assert again.generation > owner.generation
    assert cache.gone(P) == [Freed(blocks)]


def test_blocks_leave_the_window_on_settled_tokens() -> None:
    cache = KvCache(4, block_size=1)
    owner = admitted(cache, "R", 4)
    step = cache.launch({owner: 4})
    assert cache.slide(owner, window=1) == [], "all four are drafts as yet"
    cache.processed(step, {owner: 2})
    assert cache.slide(owner, window=1) == [Freed((BlockId(0),))]
    assert cache.slide(owner, window=1) == []
    assert cache.pool.owned(owner) == (1, 2, 3)


def test_what_has_slid_out_does_not_shift_what_is_published() -> None:
    cache = KvCache(3, block_size=1)
    owner = cache.begin("R")
    cache.allocate(owner, 3)
    cache.processed(cache.launch({owner: 2}), {owner: 2})
    cache.slide(owner, window=1)
    cache._keys[owner] = (Key("a"), Key("ab"), Key("abc"))
    cache.processed(cache.launch({owner: 3}), {owner: 3})
    assert cache.pool.index.get(Key("abc")) == 2
    assert Key("a") not in cache.pool.index


def test_a_withdrawn_lineage_is_not_served_and_not_published_again() -> None:
    cache = KvCache(4, block_size=1)
    first = admitted(cache, "R1", 2, KEYS)
    cache.processed(cache.launch({first: 1}), {first: 1})
    assert cache.withdraw(KEYS[:1]) == []
    cache.processed(cache.launch({first: 2}), {first: 2})
    assert cache.lookup(cache.begin("R2"), KEYS) == ()
    cache.release(first)
    assert cache.counts()[State.FREE] == 4


def test_a_block_that_outside_code_frees_comes_back_when_it_can() -> None:
    cache = KvCache(1)
    owner = admitted(cache, "R", 1)
    assert cache.forget(BlockId(0)) == []
    assert cache.release(owner) == [Freed((BlockId(0),))]


def test_steps_out_of_order_are_an_error() -> None:
    cache = KvCache(1)
    cache.launch({})
    with pytest.raises(StepOrderError):
        cache.processed(StepId(2), {})
