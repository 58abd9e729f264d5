"""
The host tier: copies of blocks in host memory, stored and loaded back.

Host slots are a pool of their own, with the same states and rules; a copy enters the host's index when it is complete.
Every transfer opens its leases on both sides when it is *queued*:

- H6: a load is queued, then the tree drops the duplicate and frees its target. The load lease holds it.
- H7: preemption frees a block whose queued store has not read it: wrong bytes under a right key. The store lease holds
  it.
- a host slot is neither evicted nor reused while a load reads it or a store fills it.

When a transfer may *run* is told by `ordering` (H1 to H5): its cells are `cell(slot)` here and the block's there.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from guard.backend.kv.ids import BlockId, Key, LeaseId, Owner, Party
from guard.backend.kv.lease import Kind
from guard.backend.kv.ordering import Cell
from guard.backend.kv.pool import Pool
from guard.backend.kv.rules import ALL, Rules


class Copy(msgspec.Struct, frozen=True):
    """
    One queued transfer between the tiers.

    Args:
        number: Its number, for `finish` and `suspect`.
        kind: Kind.STORE or Kind.LOAD.
        owner: The request it is for.
        block: Device block.
        slot: Host slot.
        key: The content's key.
        parent: Key of the block before it.
        lease: The device block's lease.
    """

    number: int
    kind: Kind
    owner: Owner
    block: BlockId
    slot: BlockId
    key: Key
    parent: Key | None
    lease: LeaseId


class HostTier:
    """
    Slots of host memory beside a device pool.

    Args:
        device: The device's pool.
        slots: Host slots, of one block each.
        rules: Clauses in force.
    """

    def __init__(self, device: Pool, slots: int, rules: Rules = ALL) -> None:
        self._device = device
        self.pool = Pool(slots, rules)
        self._copies: dict[int, Copy] = {}
        self._storing: dict[Key, int] = {}
        self._withdrawn: set[int] = set()
        self._next = 0

    @staticmethod
    def cell(slot: BlockId) -> Cell:
        """The slot's cell, for `ordering`."""
        return Cell("host", slot)

    def has(self, key: Key) -> bool:
        """Whether a complete copy of this content is here."""
        return key in self.pool.index

    def expects(self, key: Key) -> bool:
        """Whether a complete copy of this content is here, or under way and not withdrawn."""
        number = self._storing.get(key)
        return self.has(key) or (number is not None and number not in self._withdrawn)

    def copies(self) -> tuple[Copy, ...]:
        """Transfers queued and not over."""
        return tuple(self._copies.values())

    def store(self, owner: Owner, block: BlockId, key: Key, parent: Key | None) -> Copy | None:
        """
        Queue the copy of a block to the host.

        Args:
            owner: The request that has the block.
            block: Device block; not free.
            key: Its content's key.
            parent: Key of the block before it.

        Returns:
            The transfer, or None if the host has the content already or has no room.
        """
        if self.has(key) or key in self._storing:
            return None
        mine = self._label()
        taken = self.pool.allocate(mine, 1)
        if taken is None:
            return None
        self._storing[key] = self._next
        return self._queue(Kind.STORE, owner, block, taken[0], key, parent)

    def load(self, owner: Owner, block: BlockId, key: Key, parent: Key | None) -> Copy | None:
        """
        Queue the copy of host content into a block that the request holds.

        Returns:
            The transfer, or None if the host does not have the content.
        """
        found = self.pool.hit(self._label(), (key,))
        if not found:
            return None
        return self._queue(Kind.LOAD, owner, block, found[0], key, parent)

    def finish(self, number: int, *, complete: bool = True) -> tuple[BlockId, ...]:
        """
        The transfer is over. Repeated ones change nothing.

        Args:
            number: Which.
            complete: Whether the content arrived. A store that failed does not enter the index.

        Returns:
            Device blocks that are free by it.
        """
        copy = self._copies.pop(number, None)
        if copy is None:
            return ()
        if copy.kind is Kind.STORE:
            del self._storing[copy.key]
            if complete and number not in self._withdrawn:
                self.pool.publish(copy.slot, copy.key, copy.parent)
        self._withdrawn.discard(number)
        self.pool.release(Owner("host", number))
        return self._device.settle(copy.lease, Party("copy", number))

    def suspect(self, number: int) -> tuple[BlockId, ...]:
        """
        The transfer has missed its deadline: its block and its slot stay where they are (rule 5).

        Returns:
            Device blocks that are quarantined now.
        """
        copy = self._copies.get(number)
        return self._device.suspect(copy.lease) if copy else ()

    def withdraw(self, keys: Iterable[Key]) -> None:
        """Take a suspect lineage out of the host tier; stores of it that are under way will not enter."""
        named = tuple(keys)
        suspect = {*named, *self.pool.index.lineage(named)}
        stores = [self._copies[number] for number in self._storing.values()]
        # A store may descend from another one that is under way, so until nothing more is found.
        while found := [copy for copy in stores if copy.key in suspect or copy.parent in suspect]:
            stores = [copy for copy in stores if copy not in found]
            more = [copy.key for copy in found]
            self._withdrawn.update(copy.number for copy in found)
            suspect.update(more, self.pool.index.lineage(more))
        self.pool.withdraw(suspect)

    def _label(self) -> Owner:
        return Owner("host", self._next)

    def _queue(self, kind: Kind, owner: Owner, block: BlockId, slot: BlockId, key: Key, parent: Key | None) -> Copy:
        lease = self._device.open(kind, owner, (block,), (Party("copy", self._next),))
        copy = Copy(self._next, kind, owner, block, slot, key, parent, lease)
        self._copies[self._next] = copy
        self._next += 1
        return copy
