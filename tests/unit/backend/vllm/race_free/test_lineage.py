"""guard.backend.vllm.race_free.lineage: what is withdrawn, and that its own books stay small."""

from __future__ import annotations

from collections import OrderedDict
from types import SimpleNamespace
from typing import Any

import pytest

from guard.backend.vllm.race_free.lineage import Lineage, cache_full_blocks, of


class Block:
    """As vLLM's KVCacheBlock."""

    def __init__(self, number: int) -> None:
        self.block_id = number
        self.ref_cnt = 0
        self.content: bytes | None = None


class Pool:
    """The part of vLLM's BlockPool that knows content; the oldest goes first."""

    hash_block_size = 16

    def __init__(self, count: int) -> None:
        self.blocks = [Block(number) for number in range(count)]
        self.cached: OrderedDict[bytes, Block] = OrderedDict()

    def get_cached_block(self, content: bytes, groups: list[int]) -> list[Block] | None:
        block = self.cached.get(content)
        return None if block is None else [block]

    def evict_blocks(self, numbers: set[int]) -> None:
        for content in [content for content, block in self.cached.items() if block.block_id in numbers]:
            del self.cached[content]

    def store(self, *contents: bytes) -> None:
        for content in contents:
            block = self.blocks[len(self.cached)] if len(self.cached) < len(self.blocks) else None
            self.cached[content] = block or self.cached.popitem(last=False)[1]


def chain(name: int, length: int) -> list[bytes]:
    return [b"%d/%d" % (name, position) for position in range(length)]


def test_content_that_is_gone_leaves_no_links_however_long_its_chain() -> None:
    pool = Pool(100)
    lineage = Lineage(pool)
    for name in range(200):
        hashes = chain(name, 50)
        pool.store(*hashes)
        lineage.published(hashes, 0, 50, 0)
        assert lineage.links() <= 8 * 100 + 50
    pool.cached.clear()
    lineage.sweep()
    assert lineage.links() == 0


def test_books_are_swept_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    pool, sweeps = Pool(100), []
    lineage = Lineage(pool)
    sweep = lineage.sweep
    monkeypatch.setattr(lineage, "sweep", lambda: (sweeps.append(1), sweep()))
    for name in range(200):
        hashes = chain(name, 50)
        pool.store(*hashes)
        for position in range(50):
            lineage.published(hashes, position, position + 1, 0)
    assert 5 <= len(sweeps) <= 50


def test_links_over_a_gap_stay_while_something_lies_beyond_it() -> None:
    pool = Pool(10)
    lineage = Lineage(pool)
    hashes = chain(0, 5)
    lineage.published(hashes, 0, 5, 0)
    pool.store(hashes[4])
    lineage.sweep()
    assert lineage.withdraw(hashes[:1]) == 1
    assert not pool.cached


def test_who_ran_on_withdrawn_content_publishes_nothing_though_it_has_left_the_window() -> None:
    pool, published = Pool(10), []
    hashes = chain(0, 4)
    module = SimpleNamespace(resolve_block_hashes=lambda found, *sizes: found)

    def original(pool: Any, request: Any, blocks: Any, cached: int, full: int, *rest: Any, **more: Any) -> None:
        published.append((cached, full))

    publish = cache_full_blocks(module, original)
    request = SimpleNamespace(block_hashes=hashes)
    blocks = pool.blocks[1:4]
    blocks[0].ref_cnt = 1
    publish(pool, request, blocks, 0, 1, 16, 0)
    pool.cached[hashes[0]] = blocks[0]
    assert of(pool).withdraw(hashes[:1]) == 1
    publish(pool, request, blocks, 1, 2, 16, 0)
    # A sliding window gives the block back.
    blocks[0].ref_cnt = 0
    publish(pool, request, [pool.blocks[0], *blocks[1:]], 2, 3, 16, 0)
    assert published == [(0, 1)]
    publish(pool, SimpleNamespace(block_hashes=chain(1, 4)), blocks, 0, 1, 16, 0)
    assert published == [(0, 1), (0, 1)]
