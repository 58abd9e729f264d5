"""Random shapes, and that a difference would be told. They are asked in tests/integration/test_differential.py."""

from __future__ import annotations

import itertools

import pytest

from tests.bench.fuzz_shapes import ROUTES, combinations, differences


@pytest.mark.parametrize("engine", ROUTES)
def test_all_routes_come_and_the_same_seed_gives_the_same_shapes(engine: str) -> None:
    first = list(itertools.islice(combinations(engine, 3), 200))
    assert first == list(itertools.islice(combinations(engine, 3), 200))
    assert {path for path, _ in first} == {route.path for route in ROUTES[engine]}
    assert {body["stream"] for _, body in first} == {True, False}


def test_a_difference_is_told_with_its_place() -> None:
    assert differences([200, {"a": [1, 2]}], [200, {"a": [1, 2]}]) == []
    assert differences([200, {"a": [1, 2]}], [200, {"a": [1, 3]}]) == ["$[1].a[1]: 2 against 3"]
    assert differences({"a": 1}, {}) == ["$.a: only direct"]
    assert differences([1], [1, 2]) == ["$: [1] against [1, 2]"]
