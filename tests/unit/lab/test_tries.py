"""Cases tried on a policy: outcomes, several processes, and what is drawn on the way."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from guard.lab import tries as module
from guard.lab.cases import read_cases, run_case
from guard.lab.tries import Drawing, Outcome, Tried, backtest
from guard.policy.judge import Judge
from guard.policy.schema import Policy
from guard.shipped import find_policy
from tests.unit.lab.streams import corpus, policy_file


def tried(folder: Path, **options: Any) -> list[Tried]:
    return backtest(find_policy(policy_file(folder)), list(read_cases(corpus(folder))), **options)


def test_each_outcome(tmp_path: Path) -> None:
    assert {one.case.id: one.outcome for one in tried(tmp_path)} == {
        "good": Outcome.CLEAN,
        "copy": Outcome.CLEAN,
        "weak": Outcome.FALSE_POSITIVE,
        "found": Outcome.DETECTED,
        "late": Outcome.DETECTED,
        "loop": Outcome.MISSED,
        "early": Outcome.EARLY,
        "fluent": Outcome.RESCORE,
    }


def test_further_processes_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = tried(tmp_path)
    monkeypatch.setattr(module, "PARALLEL_CHUNKS", 1)
    assert tried(tmp_path, jobs=2) == alone


def described(policy: Policy, one: Tried) -> str:
    return f"{policy.name} {one.case.id} {len(one.case.chunks)} {one.result.suspicion} {one.result.acceptance}"


@pytest.mark.parametrize("jobs", [1, 2])
def test_each_case_is_drawn_with_its_trace_and_kept_in_order_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jobs: int
) -> None:
    monkeypatch.setattr(module, "PARALLEL_CHUNKS", 1)
    drawn: list[str] = []
    found = tried(tmp_path, jobs=jobs, drawing=Drawing(described, drawn.append))
    policy = find_policy(policy_file(tmp_path))
    whole = [Tried(case, run_case(Judge(policy), case, trace=True)) for case in read_cases(corpus(tmp_path))]
    assert all(one.result.suspicion and one.result.acceptance for one in whole)
    assert drawn == [described(policy, one) for one in whole]
    assert found == tried(tmp_path)
    assert not any(one.result.suspicion or one.result.acceptance for one in found)


async def test_a_thread_of_its_own_can_start_them_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PARALLEL_CHUNKS", 1)
    assert await asyncio.to_thread(tried, tmp_path, jobs=2) == tried(tmp_path)
