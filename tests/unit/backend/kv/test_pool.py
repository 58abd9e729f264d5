"""Rules 1, 2, 5, 8 and 9 on the books of one pool."""

from __future__ import annotations

import pytest

from guard.backend.kv.ids import BlockId, Key, Owner, Party
from guard.backend.kv.integrity import check_integrity
from guard.backend.kv.lease import Kind
from guard.backend.kv.pool import Pool
from guard.backend.kv.states import IllegalMove, State

R1, R2, P, Q = Owner("R1", 1), Owner("R2", 2), Party("P"), Party("Q")
A, AB = Key("a"), Key("ab")


def taken(pool: Pool, owner: Owner, count: int) -> tuple[BlockId, ...]:
    blocks = pool.allocate(owner, count)
    assert blocks is not None
    check_integrity(pool)
    return blocks


def test_a_released_block_is_free_when_its_last_lease_settles() -> None:
    pool = Pool(1)
    (block,) = taken(pool, R1, 1)
    first = pool.open(Kind.RECEIVE, R1, (block,), (P, Q))
    second = pool.open(Kind.STORE, R1, (block,), (P,))
    assert pool.release(R1) == ()
    assert pool.state(block) is State.DRAINING
    assert pool.settle(first, P) == ()
    assert pool.settle(second, P) == ()
    assert pool.allocate(R2, 1) is None
    assert pool.settle(first, Q) == (block,)
    assert pool.allocate(R2, 1) == (block,)


def test_settling_twice_or_by_a_stranger_changes_nothing() -> None:
    pool = Pool(1)
    blocks = taken(pool, R1, 1)
    lease = pool.open(Kind.SEND, R1, blocks, (P,))
    assert pool.settle(lease, Q) == ()
    pool.release(R1)
    assert pool.settle(lease, P) == blocks
    assert pool.settle(lease, P) == ()
    check_integrity(pool)


def test_too_many_blocks_are_none_at_all() -> None:
    pool = Pool(2)
    assert pool.allocate(R1, 3) is None
    assert pool.counts()[State.FREE] == 2


def test_a_free_block_cannot_be_leased() -> None:
    pool = Pool(1)
    with pytest.raises(IllegalMove):
        pool.open(Kind.SEND, R1, (BlockId(0),), (P,))
    check_integrity(pool)


def test_a_lease_needs_somebody_to_settle_it() -> None:
    pool = Pool(1)
    with pytest.raises(ValueError, match="needs a party"):
        pool.open(Kind.SEND, R1, taken(pool, R1, 1), ())


def test_a_missed_deadline_quarantines_and_frees_nothing() -> None:
    pool = Pool(1)
    blocks = taken(pool, R1, 1)
    lease = pool.open(Kind.RECEIVE, R1, blocks, (P,))
    assert pool.suspect(lease) == ()
    pool.release(R1)
    assert pool.counts()[State.QUARANTINED] == 1
    assert pool.allocate(R2, 1) is None
    with pytest.raises(IllegalMove):
        pool.open(Kind.SEND, R1, blocks, (Q,))
    assert pool.settle(lease, P) == blocks
    assert pool.suspect(lease) == ()


def test_a_published_block_is_cached_after_its_request_and_found_again() -> None:
    pool = Pool(2)
    (block, other) = taken(pool, R1, 2)
    assert pool.publish(block, A, None)
    assert pool.release(R1) == (other,)
    assert pool.state(block) is State.CACHED
    assert pool.hit(R2, (A, AB)) == (block,)
    assert pool.state(block) is State.HELD
    check_integrity(pool)


def test_one_content_has_one_block() -> None:
    pool = Pool(2)
    first, second = taken(pool, R1, 2)
    assert pool.publish(first, A, None)
    assert not pool.publish(second, A, None)
    assert not pool.publish(first, AB, A)


def test_the_tail_of_a_prefix_is_evicted_before_its_head() -> None:
    pool = Pool(2)
    head, tail = taken(pool, R1, 2)
    pool.publish(head, A, None)
    pool.publish(tail, AB, A)
    pool.release(R1)
    assert taken(pool, R2, 1) == (tail,)
    assert A in pool.index
    assert AB not in pool.index


def test_a_block_in_use_is_not_evicted() -> None:
    pool = Pool(2)
    (block,) = taken(pool, R1, 1)
    pool.publish(block, A, None)
    assert pool.available() == 1
    assert pool.allocate(R2, 2) is None


def test_a_cached_block_that_is_being_stored_drains_and_stays_in_the_cache() -> None:
    pool = Pool(1)
    blocks = taken(pool, R1, 1)
    pool.publish(blocks[0], A, None)
    pool.release(R1)
    lease = pool.open(Kind.STORE, R1, blocks, (P,))
    assert pool.state(blocks[0]) is State.DRAINING
    assert pool.settle(lease, P) == ()
    assert pool.state(blocks[0]) is State.CACHED
    check_integrity(pool)


def test_withdrawal_takes_the_lineage_and_leaves_the_rest() -> None:
    pool = Pool(3)
    blocks = taken(pool, R1, 3)
    for block, key, parent in zip(blocks, (A, AB, Key("x")), (None, A, None), strict=True):
        pool.publish(block, key, parent)
    pool.release(R1)
    assert set(pool.withdraw((A,))) == set(blocks[:2])
    assert pool.hit(R2, (A,)) == ()
    assert pool.hit(R2, (Key("x"),)) == (blocks[2],)
    check_integrity(pool)


def test_outside_code_cannot_free_a_block_in_use() -> None:
    pool = Pool(1)
    (block,) = taken(pool, R1, 1)
    assert pool.forget(block) == ()
    assert pool.foreign_frees == 1
    assert pool.state(block) is State.HELD
    pool.publish(block, A, None)
    pool.release(R1)
    assert pool.forget(block) == (block,)


def test_part_of_a_request_can_be_released_and_what_it_does_not_have_is_no_matter() -> None:
    pool = Pool(3)
    first, second = taken(pool, R1, 2)
    (foreign,) = taken(pool, R2, 1)
    assert pool.release(R1, (first, foreign)) == (first,)
    assert pool.owned(R1) == (second,)
    assert pool.state(foreign) is State.HELD
    assert pool.release(Owner("R9", 9)) == ()


def test_what_a_peer_or_the_host_writes_is_being_written() -> None:
    pool = Pool(1)
    blocks = taken(pool, R1, 1)
    lease = pool.open(Kind.LOAD, R1, blocks, (P,))
    assert pool.is_written(blocks[0])
    pool.settle(lease, P)
    reads = pool.open(Kind.STORE, R1, blocks, (P,))
    assert not pool.is_written(blocks[0])
    assert pool.lease(reads) in pool.leases()


def test_draining_blocks_are_coming_back() -> None:
    pool = Pool(2)
    blocks = taken(pool, R1, 2)
    pool.open(Kind.STEP, R1, blocks, (P,))
    pool.release(R1)
    assert pool.coming() == 2
    assert pool.available() == 0


def test_an_engine_with_an_allocator_of_its_own_names_the_blocks() -> None:
    pool = Pool(3)
    pool.adopt(R1, (BlockId(1),))
    lease = pool.open(Kind.RECEIVE, R1, (BlockId(1),), (P,))
    assert taken(pool, R2, 2) == (0, 2)
    assert pool.release(R1) == ()
    assert pool.settle(lease, P) == (1,)
    pool.adopt(R1, (BlockId(0), BlockId(1)))
    check_integrity(pool)
    assert pool.owned(R1) == (0, 1)
    assert pool.release(R2) == (2,)
    assert pool.release(R1) == (1, 0)


def test_a_quarantined_block_cannot_be_adopted() -> None:
    pool = Pool(1)
    pool.adopt(R1, (BlockId(0),))
    lease = pool.open(Kind.RECEIVE, R1, (BlockId(0),), (P,))
    pool.release(R1)
    pool.suspect(lease)
    with pytest.raises(IllegalMove):
        pool.adopt(R2, (BlockId(0),))
