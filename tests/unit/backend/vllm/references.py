"""References by block, as an engine keeps them: what the books of transfers hold and give back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from guard.backend.kv.ids import BlockId


class Store:
    """References by block, as an engine would count them."""

    def __init__(self) -> None:
        self.references: Counter[int] = Counter()

    def hold(self, blocks: Sequence[BlockId]) -> None:
        self.references.update(blocks)

    def give_back(self, blocks: Sequence[BlockId]) -> None:
        self.references.subtract(blocks)
        assert min(self.references.values()) >= 0

    @property
    def held(self) -> set[int]:
        return {block for block, count in self.references.items() if count}
