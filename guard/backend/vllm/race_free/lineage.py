"""
Withdrawal of one request's lineage from vLLM's prefix cache, instead of a reset of the whole.

After a verdict of corruption the guard sends the request again, for one token, with `guard_withdraw: 1` in its
`vllm_xargs`. Before such a request looks for its prefix, every block that it would find goes out of the prefix cache,
and every block that was computed on top of one of those; it then computes all of its prompt anew. Requests that run on
withdrawn blocks finish, and publish nothing more. Nobody can name another prefix than the one he sends; but a prefix
that others share (a system prompt) goes for them too, and is computed anew once. A `cache_salt` for each client keeps
theirs apart.

vLLM's cache knows blocks by hash, and not which hash follows which: that is written down here as blocks are published.
Not reached: parts of a block, by which vLLM finds prefixes in some models with Mamba layers.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable
from typing import Any

_log = logging.getLogger("vllm.plugins.guard")
ASK = "guard_withdraw"
_PLACE = "_guard_lineage"
#: On a request: it has run on withdrawn content.
_TAINTED = "_guard_tainted"
#: Links kept for each block of the cache before those of forgotten content are swept.
_LINKS_PER_BLOCK = 8


class Lineage:
    """
    Which published content was computed on top of which.

    Args:
        pool: vLLM's `BlockPool`.
    """

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self._children: dict[bytes, set[bytes]] = {}
        self._links = 0
        #: Links at which they are swept.
        self._least = self._enough = _LINKS_PER_BLOCK * len(pool.blocks)
        self._groups: set[int] = set()
        #: Withdrawn blocks that a request may still hold.
        self._withdrawn: set[int] = set()
        #: Told of all that is withdrawn: other places that may have copies of it.
        self.listeners: list[Callable[[Iterable[bytes]], None]] = []

    def published(self, hashes: Any, first: int, last: int, group: int) -> None:
        """Blocks `first` to `last` - 1 of a chain of hashes enter the cache."""
        self._groups.add(group)
        for position in range(max(first, 1), last):
            children = self._children.setdefault(hashes[position - 1], set())
            if hashes[position] not in children:
                children.add(hashes[position])
                self._links += 1
        if self._links > self._enough:
            self.sweep()

    def links(self) -> int:
        """How many links are kept."""
        return self._links

    def is_tainted(self, blocks: Iterable[Any]) -> bool:
        """Whether a request with these blocks runs on withdrawn content."""
        if not self._withdrawn:
            return False
        self._withdrawn = {number for number in self._withdrawn if self._pool.blocks[number].ref_cnt}
        return any(block.block_id in self._withdrawn for block in blocks)

    def allocated(self, blocks: Iterable[Any]) -> None:
        """These blocks are new to their request: what was withdrawn is not in them any more."""
        if self._withdrawn:
            self._withdrawn.difference_update(block.block_id for block in blocks)

    def withdraw(self, hashes: Iterable[bytes]) -> int:
        """
        Take these, and all that was computed on top of them, out of the cache.

        Returns:
            How many blocks went.
        """
        todo, seen, gone = list(hashes), set[bytes](), 0
        while todo:
            each = todo.pop()
            if each in seen:
                continue
            seen.add(each)
            gone += self._evict(each)
            todo.extend(self._children.pop(each, ()))
        self._links = sum(map(len, self._children.values()))
        for listener in self.listeners:
            listener(seen)
        return gone

    def _evict(self, content: bytes) -> int:
        gone = 0
        for group in self._groups:
            # Several blocks may have the same content.
            while found := self._pool.get_cached_block(content, [group]):
                (block,) = found
                self._pool.evict_blocks({block.block_id})
                if block.ref_cnt:
                    self._withdrawn.add(block.block_id)
                gone += 1
        return gone

    def sweep(self) -> None:
        """Forget links to content that is not cached and has no descendants that are."""
        parents: dict[bytes, list[bytes]] = {}
        for parent, children in self._children.items():
            for child in children:
                parents.setdefault(child, []).append(parent)
        kept: dict[bytes, set[bytes]] = {}
        todo = [child for child in parents if self._is_cached(child)]
        while todo:
            child = todo.pop()
            for parent in parents.pop(child, ()):
                kept.setdefault(parent, set()).add(child)
                todo.append(parent)
        self._children = kept
        self._links = sum(map(len, kept.values()))
        self._enough = max(self._least, 2 * self._links)

    def _is_cached(self, content: bytes) -> bool:
        return any(self._pool.get_cached_block(content, [group]) for group in self._groups)


def of(pool: Any) -> Lineage:
    """The lineage of a pool."""
    found: Lineage | None = pool.__dict__.get(_PLACE)
    if found is None:
        found = pool.__dict__[_PLACE] = Lineage(pool)
    return found


def cache_full_blocks(module: Any, original: Callable[..., None]) -> Callable[..., None]:
    """
    `BlockPool.cache_full_blocks`: writes down the links; publishes nothing on top of withdrawn content.

    Args:
        module: `vllm.v1.core.block_pool`.
        original: The method.
    """

    @functools.wraps(original)
    def replacement(
        pool: Any,
        request: Any,
        blocks: Any,
        num_cached_blocks: int,
        num_full_blocks: int,
        block_size: int,
        kv_cache_group_id: int,
        block_mask: Any = None,
    ) -> None:
        lineage = of(pool)
        # Its blocks may leave it before its end (a window that slides); what it computes stays what it is.
        if request.__dict__.get(_TAINTED) or lineage.is_tainted(blocks[:num_full_blocks]):
            request.__dict__[_TAINTED] = True
            return
        rest = (num_cached_blocks, num_full_blocks, block_size, kv_cache_group_id)
        original(pool, request, blocks, *rest, block_mask=block_mask)
        hashes = module.resolve_block_hashes(request.block_hashes, pool.hash_block_size, block_size)
        lineage.published(hashes, num_cached_blocks, num_full_blocks, kv_cache_group_id)

    return replacement


def get_new_blocks(module: Any, original: Callable[..., Any]) -> Callable[..., Any]:
    """
    `BlockPool.get_new_blocks`: a block that is given out anew is like any other.

    Args:
        module: `vllm.v1.core.block_pool`; not needed.
        original: The method.
    """

    @functools.wraps(original)
    def replacement(pool: Any, num_blocks: int) -> Any:
        blocks = original(pool, num_blocks)
        of(pool).allocated(blocks)
        return blocks

    return replacement


def get_computed_blocks(module: Any, original: Callable[..., Any]) -> Callable[..., Any]:
    """
    `KVCacheManager.get_computed_blocks`: a request that asks for it finds nothing, and nobody does any more.

    Args:
        module: `vllm.v1.core.kv_cache_manager`; not needed.
        original: The method.
    """

    @functools.wraps(original)
    def replacement(manager: Any, request: Any) -> Any:
        asked = getattr(request.sampling_params, "extra_args", None) or {}
        if asked.get(ASK) and not request.__dict__.get(_PLACE):
            request.__dict__[_PLACE] = True
            pool = manager.block_pool
            sizes = {each.block_size for each in manager.coordinator.single_type_managers}
            resolve = _resolver()
            chains = [resolve(request.block_hashes, pool.hash_block_size, size) for size in sizes]
            gone = of(pool).withdraw([each for chain in chains for each in chain])
            _log.warning("guard: %d blocks withdrawn from the prefix cache for %s", gone, request.request_id)
        return original(manager, request)

    return replacement


def _resolver() -> Callable[..., Any]:
    from vllm.v1.core.block_pool import resolve_block_hashes  # noqa: PLC0415 - only in the vLLM environment

    found: Callable[..., Any] = resolve_block_hashes
    return found
