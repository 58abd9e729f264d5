"""
Two real vLLM engines: content is pushed from one into the other's cache, and things go wrong on the way.

The whole table is printed by `python -m tests.bench.race_free`; here is enough of it to see each fault once or twice.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.vllm.backend.vllm.push.bed import bed
from tests.vllm.backend.vllm.push.cases import SAFE, UNSAFE, Cases


@pytest.fixture(scope="module")
def cases() -> Iterator[Cases]:
    with bed() as both:
        yield Cases(both, 6)


def test_pushed_content_gives_the_answer_of_one_engine(cases: Cases) -> None:
    assert cases.remote_equals_local(3) == 3


@pytest.mark.parametrize("fault", UNSAFE)
def test_without_a_rule_the_next_request_is_corrupted(cases: Cases, fault: str) -> None:
    found = cases.run(UNSAFE[fault], 4)
    assert found.corrupted >= 3
    assert found.reused > 0


@pytest.mark.parametrize("fault", SAFE)
def test_with_the_rules_none_is(cases: Cases, fault: str) -> None:
    found = cases.run(SAFE[fault], 6)
    assert (found.corrupted, found.not_returned, found.alive) == (0, 0, True)
    if fault == "duplicate and late notices":
        assert found.stale > 6
    if fault == "timeout":
        assert found.quarantined > 0


def test_requests_of_all_kinds_at_once_answer_as_one_engine_does(cases: Cases) -> None:
    found = cases.mixed(40, seed=3)
    assert (found.corrupted, found.not_returned, found.alive) == (0, 0, True)
    assert found.notes["aborted"] > 0


def test_a_dead_writers_blocks_come_back_on_proof(cases: Cases) -> None:
    found = cases.dead_writer()
    assert (found.corrupted, found.not_returned, found.alive) == (0, 0, True)
    assert found.quarantined == found.notes["kept while silent"] > 0
