"""Pull transfers: T12, and T5 from the side that is read."""

from __future__ import annotations

from guard.backend.kv.effects import Freed, Quarantined
from guard.backend.kv.grants import Grants
from guard.backend.kv.ids import BlockId, Owner, Party
from guard.backend.kv.messages import ReadDone
from guard.backend.kv.pool import Pool
from guard.backend.kv.states import State

R = Owner("R", 1)
D0, D1 = Party("D", 0), Party("D", 1)


def granted() -> tuple[Pool, Grants]:
    pool = Pool(1)
    blocks = pool.allocate(R, 1)
    assert blocks is not None
    grants = Grants(pool)
    grants.grant(R, blocks, (D0, D1))
    pool.release(R)
    return pool, grants


def test_a_granted_block_stays_until_every_reader_is_through() -> None:
    pool, grants = granted()
    assert grants.handle(ReadDone(*R, *D0)) == []
    assert grants.handle(ReadDone(*R, *D0)) == []
    assert pool.state(BlockId(0)) is State.DRAINING
    assert grants.handle(ReadDone(*R, *D1)) == [Freed((BlockId(0),))]
    assert grants.handle(ReadDone(*R, *D1)) == []
    assert grants.stale == 2


def test_an_expired_grant_is_quarantined_until_the_reader_speaks_or_is_gone() -> None:
    pool, grants = granted()
    grants.handle(ReadDone(*R, *D0))
    assert grants.expire(R) == [Quarantined(R, (BlockId(0),), (D1,))]
    assert pool.state(BlockId(0)) is State.QUARANTINED
    assert grants.gone(Party("D", 1, epoch=2)) == []
    assert grants.gone(D1) == [Freed((BlockId(0),))]
    assert grants.expire(R) == []
    assert grants.stale == 0


def test_a_notice_of_another_generation_settles_nothing() -> None:
    pool, grants = granted()
    assert grants.handle(ReadDone("R", 2, *D0)) == []
    assert pool.state(BlockId(0)) is State.DRAINING
