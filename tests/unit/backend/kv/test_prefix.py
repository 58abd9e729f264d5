"""The tree of keys."""

from __future__ import annotations

import pytest

from guard.backend.kv.ids import BlockId, Key
from guard.backend.kv.prefix import PrefixIndex


def tree(*edges: tuple[str, str | None]) -> PrefixIndex:
    index = PrefixIndex()
    for number, (key, parent) in enumerate(edges):
        index.add(Key(key), BlockId(number), Key(parent) if parent else None)
    return index


def test_a_key_has_one_block() -> None:
    index = tree(("a", None))
    with pytest.raises(ValueError, match="has block 0 already"):
        index.add(Key("a"), BlockId(5), None)


def test_a_lineage_is_a_key_and_all_that_descends_from_it() -> None:
    index = tree(("a", None), ("ab", "a"), ("abc", "ab"), ("x", None))
    assert set(index.lineage([Key("ab")])) == {"ab", "abc"}


def test_a_lineage_survives_the_eviction_of_its_middle() -> None:
    index = tree(("a", None), ("ab", "a"), ("abc", "ab"))
    index.remove(Key("ab"))
    assert set(index.lineage([Key("a")])) == {"a", "abc"}


def test_nothing_is_kept_of_a_tree_that_is_gone() -> None:
    index = tree(("a", None), ("ab", "a"), ("abc", "ab"))
    for key in ("ab", "a", "abc"):
        index.remove(Key(key))
    assert len(index) == 0
    assert not index._parents
    assert not index._children


def test_removing_an_unknown_key_changes_nothing() -> None:
    index = tree(("a", None))
    index.remove(Key("b"))
    assert list(index) == ["a"]
