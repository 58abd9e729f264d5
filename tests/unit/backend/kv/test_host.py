"""The host tier: leases on both sides from the queue to the end."""

from __future__ import annotations

from guard.backend.kv.host import HostTier
from guard.backend.kv.ids import BlockId, Key, Owner
from guard.backend.kv.integrity import check_integrity
from guard.backend.kv.lease import Kind
from guard.backend.kv.pool import Pool
from guard.backend.kv.states import State

R1, R2 = Owner("R1", 1), Owner("R2", 2)
A, AB = Key("a"), Key("ab")


def tiers(slots: int = 1) -> tuple[Pool, HostTier, BlockId]:
    device = Pool(2)
    blocks = device.allocate(R1, 1)
    assert blocks is not None
    return device, HostTier(device, slots), blocks[0]


def test_a_copy_is_there_when_it_is_complete_and_not_before() -> None:
    device, host, block = tiers()
    copy = host.store(R1, block, A, None)
    assert copy is not None
    assert not host.has(A)
    assert device.release(R1) == ()
    assert host.finish(copy.number) == (block,)
    assert host.has(A)
    assert host.finish(copy.number) == ()
    check_integrity(host.pool)


def test_a_failed_store_leaves_nothing() -> None:
    _, host, block = tiers()
    copy = host.store(R1, block, A, None)
    assert copy is not None
    host.finish(copy.number, complete=False)
    assert not host.has(A)
    assert host.pool.counts()[State.FREE] == 1


def test_the_same_content_is_stored_once_and_a_full_tier_says_so() -> None:
    _, host, block = tiers()
    copy = host.store(R1, block, A, None)
    assert copy is not None
    assert host.store(R1, block, A, None) is None
    assert host.store(R1, block, AB, A) is None, "the only slot is being filled"
    host.finish(copy.number)
    assert host.store(R1, block, A, None) is None
    assert host.store(R1, block, AB, A) is not None, "a slot that nobody uses is evicted"


def test_a_load_holds_its_target_and_its_source() -> None:
    device, host, block = tiers()
    stored = host.store(R1, block, A, None)
    assert stored is not None
    host.finish(stored.number)
    target = device.allocate(R2, 1)
    assert target is not None
    load = host.load(R2, target[0], A, None)
    assert load is not None
    assert load.kind is Kind.LOAD
    assert host.copies() == (load,)
    device.release(R2)
    assert device.state(target[0]) is State.DRAINING
    assert host.store(R1, block, AB, A) is None, "the source is not evicted"
    assert host.finish(load.number) == target


def test_what_the_host_does_not_have_is_not_loaded() -> None:
    _, host, block = tiers()
    assert host.load(R1, block, A, None) is None


def test_a_transfer_past_its_deadline_is_quarantined() -> None:
    device, host, block = tiers()
    copy = host.store(R1, block, A, None)
    assert copy is not None
    device.release(R1)
    assert host.suspect(copy.number) == (block,)
    assert host.finish(copy.number) == (block,)
    assert host.suspect(copy.number) == ()


def test_a_withdrawn_lineage_leaves_and_what_is_under_way_does_not_enter() -> None:
    _, host, block = tiers(slots=2)
    first = host.store(R1, block, A, None)
    assert first is not None
    host.finish(first.number)
    second = host.store(R1, block, AB, A)
    assert second is not None
    host.withdraw((A,))
    assert not host.has(A)
    host.finish(second.number)
    assert not host.has(AB)
    assert host.pool.counts()[State.FREE] == 2


def test_a_slot_has_a_cell_of_its_own() -> None:
    assert HostTier.cell(BlockId(3)) != HostTier.cell(BlockId(4))


def test_a_store_on_top_of_a_store_that_is_under_way_is_withdrawn_with_it() -> None:
    _, host, block = tiers(slots=3)
    keys = [A, AB, Key("abc")]
    parents = [None, A, AB]
    copies = [host.store(R1, block, key, parent) for key, parent in zip(keys, parents, strict=True)]
    assert all(host.expects(key) for key in keys)
    host.withdraw((A,))
    assert not any(host.expects(key) for key in keys)
    for copy in copies:
        assert copy is not None
        host.finish(copy.number)
    assert not any(host.has(key) for key in keys)
    assert host.store(R1, block, A, None) is not None
