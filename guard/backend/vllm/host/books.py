"""
The scheduler's books of the host tier: `guard.backend.kv.host` over vLLM's blocks.

Each copy holds its slot and one reference of vLLM's own on its block, from the moment at which it is queued until every
rank has said that it is over. So no block is allocated to another request while a copy reads or writes it (H6, H7), no
slot is filled anew while a load reads it, and the index offers what has landed wholly, on all ranks (H9).

Plain Python: the connector brings what vLLM says, and carries the orders to the workers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from guard.backend.kv.host import Copy, HostTier
from guard.backend.kv.ids import BlockId, Key, Owner
from guard.backend.kv.lease import Kind
from guard.backend.kv.pool import Pool
from guard.backend.kv.rules import ALL, Rules
from guard.backend.kv.states import State
from guard.backend.vllm.race_free.ledger import BlockStore


class Order(NamedTuple):
    """
    One copy, as the workers are told of it.

    Args:
        number: Its number.
        slot: Host slot.
        block: Device block.
        generation: Of a load: number of the save whose content the slot must have.
    """

    number: int
    slot: int
    block: int
    generation: int


class HostBooks:
    """
    What is in host memory, and which copies are under way.

    Args:
        store: References on vLLM's blocks.
        blocks: Blocks of vLLM's cache.
        slots: Host slots, of one block each.
        ranks: Workers; each performs every copy on its own share of a block.
        rules: Clauses in force; all of them outside tests.
    """

    def __init__(self, store: BlockStore, blocks: int, slots: int, *, ranks: int = 1, rules: Rules = ALL) -> None:
        self._store = store
        self._ranks = ranks
        self.device = Pool(blocks, rules)
        self.tier = HostTier(self.device, slots, rules)
        self._copies: dict[int, Copy] = {}
        #: Reports that are still to come, of each copy; and copies that have failed on some rank.
        self._awaited: dict[int, int] = {}
        self._failed: set[int] = set()
        #: Which save filled each slot.
        self._filled: dict[int, int] = {}
        self._attempts = 0
        self.saved = 0
        self.loaded = 0

    def found(self, keys: Iterable[Key]) -> int:
        """How many of these keys, from the first on without a gap, can be loaded."""
        count = 0
        for key in keys:
            if not self.tier.has(key):
                break
            count += 1
        return count

    def load(self, request: str, block: int, key: Key, parent: Key | None) -> Order:
        """
        Queue the load of content that `found` has just counted.

        Args:
            request: The engine's id.
            block: vLLM's block, just allocated.
            key: The content's key.
            parent: Key of the block before it.

        Raises:
            RuntimeError: It is not there any more: somebody has let the books change since.
        """
        owner = self._hold(request, block)
        copy = self.tier.load(owner, BlockId(block), key, parent)
        self._let_go(owner)
        if copy is None:
            raise RuntimeError(f"guard: host content {key} has gone between its look-up and its load")
        return self._ordered(copy, self._filled[copy.slot])

    def save(self, request: str, block: int, key: Key, parent: Key | None) -> Order | None:
        """
        Queue the copy of a block that the step which is now being made completes, or an earlier one has.

        Args:
            request: The engine's id.
            block: vLLM's block; the request has it.
            key: The content's key.
            parent: Key of the block before it.

        Returns:
            The order; None if the content is in host memory already, or has no place there: no slot is free, or the
            block before it is not there, so that no withdrawal would find this one.
        """
        if self.tier.expects(key) or not (parent is None or self.tier.expects(parent)):
            return None
        owner = self._hold(request, block)
        copy = self.tier.store(owner, BlockId(block), key, parent)
        self._let_go(owner)
        if copy is None:
            return None
        self._filled[copy.slot] = copy.number
        return self._ordered(copy, copy.number)

    def over(self, done: Mapping[int, int], failed: Iterable[int] = ()) -> None:
        """
        Reports of the workers. Of copies that are over already they change nothing.

        Args:
            done: How many ranks are through, by the copy's number.
            failed: Copies that have not been made on some rank; they are among those.
        """
        self._failed.update(number for number in failed if number in self._awaited)
        ended = []
        for number, ranks in done.items():
            if number in self._awaited:
                self._awaited[number] -= ranks
                if self._awaited[number] <= 0:
                    ended.append(number)
        # The end of a prefix first, so that it is also the first to be evicted.
        for number in sorted(ended, reverse=True):
            self._end(number)

    def not_loaded(self, blocks: Collection[int]) -> None:
        """
        Content that vLLM counts on has not come, or was not waited for.

        A step that was launched before this is known saves blocks that it computes on top of it: they do not enter.

        Args:
            blocks: vLLM's blocks.
        """
        if blocks:
            loads = (copy for copy in self._copies.values() if copy.kind is Kind.LOAD)
            self.withdraw([copy.key for copy in loads if copy.block in blocks])

    def withdraw(self, keys: Iterable[Key]) -> None:
        """Take these and all that descends from them out of host memory."""
        self.tier.withdraw(keys)

    def clear(self) -> None:
        """Take everything out of host memory."""
        self.withdraw([*self.tier.pool.index, *(copy.key for copy in self.tier.copies() if copy.kind is Kind.STORE)])

    def copying(self) -> tuple[BlockId, ...]:
        """Blocks that some copy reads or writes."""
        return tuple(copy.block for copy in self._copies.values())

    def _hold(self, request: str, block: int) -> Owner:
        self._attempts += 1
        owner = Owner(request, self._attempts)
        if self.device.state(BlockId(block)) is State.FREE:
            self._store.hold((BlockId(block),))
        self.device.adopt(owner, (BlockId(block),))
        return owner

    def _let_go(self, owner: Owner) -> None:
        """From here on the copy's lease alone holds the block."""
        self._give_back(self.device.release(owner))

    def _give_back(self, blocks: Sequence[BlockId]) -> None:
        if blocks:
            self._store.give_back(blocks)

    def _ordered(self, copy: Copy, generation: int) -> Order:
        self._copies[copy.number] = copy
        self._awaited[copy.number] = self._ranks
        return Order(copy.number, copy.slot, copy.block, generation)

    def _end(self, number: int) -> None:
        copy = self._copies.pop(number)
        del self._awaited[number]
        complete = number not in self._failed
        self._failed.discard(number)
        if copy.kind is Kind.STORE:
            self.saved += complete
        else:
            self.loaded += complete
        self._give_back(self.tier.finish(number, complete=complete))
        if not complete and copy.kind is Kind.STORE:
            # What was queued on top of it would be out of a withdrawal's reach.
            self.withdraw((copy.key,))
