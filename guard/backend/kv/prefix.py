"""
Which block holds which content (rule 8).

A key is the hash of a block's tokens and of all before them, so keys form a tree; `parent` keeps it for withdrawal.
The index knows keys. Whether a block may enter, and what becomes of it when it leaves, is the pool's business:

- S5: blocks enter in mid-prefill, the abort frees them, the tree serves free blocks. Here a block enters when complete,
  and leaving the request and leaving the cache are separate.
- S6: two requests with one prefix in one step; the second hits blocks that are registered and not written.
- a corrupted prefix stays: the same prompt is wrong again until the keys of its lineage are withdrawn.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from guard.backend.kv.ids import BlockId, Key


class PrefixIndex:
    """Keys, each with its block, and the tree they form."""

    def __init__(self) -> None:
        self._blocks: dict[Key, BlockId] = {}
        self._parents: dict[Key, Key | None] = {}
        self._children: dict[Key, set[Key]] = {}

    def __contains__(self, key: Key) -> bool:
        return key in self._blocks

    def __iter__(self) -> Iterator[Key]:
        return iter(self._blocks)

    def __len__(self) -> int:
        return len(self._blocks)

    def get(self, key: Key) -> BlockId | None:
        """The block with this content."""
        return self._blocks.get(key)

    def add(self, key: Key, block: BlockId, parent: Key | None) -> None:
        """
        Enter a block.

        Raises:
            ValueError: The key has a block already.
        """
        if key in self._blocks:
            raise ValueError(f"key {key!r} has block {self._blocks[key]} already")
        self._blocks[key] = block
        self._parents[key] = parent
        if parent is not None:
            self._children.setdefault(parent, set()).add(key)

    def remove(self, key: Key) -> None:
        """Forget a key; unknown ones are fine. Its place in the tree stays while it has descendants."""
        self._blocks.pop(key, None)
        here: Key | None = key
        while here is not None and here not in self._blocks and not self._children.get(here):
            self._children.pop(here, None)
            parent = self._parents.pop(here, None)
            if parent is not None:
                self._children[parent].discard(here)
            here = parent

    def lineage(self, keys: Iterable[Key]) -> tuple[Key, ...]:
        """These keys and all that descend from them, as far as they are in the index."""
        found: dict[Key, None] = {}
        todo = list(keys)
        while todo:
            key = todo.pop()
            if key not in found:
                found[key] = None
                todo.extend(self._children.get(key, ()))
        return tuple(key for key in found if key in self._blocks)
