"""
A prefill node with LayerSplit pushes into a decode engine; real vLLM, three processes that compute; `pushed` runs it.

`tests/bench/layer_split.py --only push` does the first part with more requests.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[5]


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """The results of all scenarios."""
    program = [sys.executable, "-m", "tests.vllm.backend.vllm.layer_split.pushed"]
    done = subprocess.run(program, cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    # vLLM logs to the same place.
    results: dict[str, Any] = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    return results


def test_answers_are_those_of_one_engine_and_every_block_comes_back(found: dict[str, Any]) -> None:
    healthy = found["healthy"]
    assert healthy["different"] == []
    assert healthy["answered"] >= 20
    assert healthy["lost"] == 0
    assert healthy["not_back"] == [0, 0]
    # Both ranks were asked for every request; aborts, hits and prompts in chunks were met.
    asked = healthy["asked_of"]
    assert asked["0"] == asked["1"] >= 15
    assert min(healthy["gone"], healthy["tokens"], healthy["prefill"]["prefix_hits"], healthy["prefill"]["chunked"]) > 0
    assert found["alive"]


def test_the_layers_of_the_last_rank_are_needed(found: dict[str, Any]) -> None:
    assert len(found["healthy"]["different, one rank writes nothing"]) > 2


def test_blocks_are_kept_until_the_last_rank_has_answered(found: dict[str, Any]) -> None:
    for each in found["with the rule"]:
        assert each["draining"] == each["blocks"] > 5
        assert (each["reused"], each["right"], each["not_back"]) == (0, True, 0)


def test_one_ranks_answer_taken_for_all_corrupts_the_next_request(found: dict[str, Any]) -> None:
    assert all(each["reused"] > 0 for each in found["without it"])
    assert sum(not each["right"] for each in found["without it"]) >= 2


def test_an_answer_that_is_lost_keeps_the_blocks_and_its_repetition_frees_them(found: dict[str, Any]) -> None:
    lost = found["unanswered"]
    assert lost["held"] == lost["kept"] > 5
    assert lost["not_back"] == 0
