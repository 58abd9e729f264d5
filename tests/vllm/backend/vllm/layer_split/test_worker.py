"""
guard.backend.vllm.layer_split.worker in real vLLM, two ranks with one KV head between them; `scenarios` runs it.

The load mixes prompts longer than a step, prefix hits, drafted tokens and clients that go away.
`tests/bench/layer_split.py --only equal` does the same with more requests, with preemption, and without prefetch.
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
    program = [sys.executable, "-m", "tests.vllm.backend.vllm.layer_split.scenarios"]
    done = subprocess.run(program, cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    # vLLM logs to the same place.
    results: dict[str, Any] = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    return {**results, "log": done.stdout + done.stderr}


def test_tokens_are_those_of_the_unsplit_engine(found: dict[str, Any]) -> None:
    split = found["split"]
    assert split["different"] == []
    assert split["answered"] >= 30
    # Hits, prompts in chunks and aborts: what the load is for was met.
    assert min(split["met"]) > 0
    assert split["tokens"] > split["steps"]


def test_a_slow_link_changes_nothing(found: dict[str, Any]) -> None:
    assert found["late"]["different"] == []


def test_without_the_broadcast_tokens_differ_and_the_check_ends_the_engine(found: dict[str, Any]) -> None:
    assert len(found["omitted"]["different"]) > 1
    assert found["omitted, checked"] != ""
    (reason,) = {line for line in found["log"].splitlines() if "LayerSplit ends this worker" in line}
    assert "came to rank" in reason or "its owner sent" in reason


def test_ranks_with_other_owners_do_not_start(found: dict[str, Any]) -> None:
    assert "do not agree on the layers, owners" in found["swapped"]


def test_a_model_that_replicates_nothing_is_refused_by_name(found: dict[str, Any]) -> None:
    assert "nothing is kept twice" in found["two heads"]


def test_more_blocks_fit_in_the_same_memory(found: dict[str, Any]) -> None:
    assert found["blocks, unsplit 200"] >= 1.9 * 200
