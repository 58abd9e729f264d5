"""The demo keeps its contract: one JSON object, exit code 0 only when all was rescued."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.embedded, pytest.mark.timeout(400)]


def test_once_json() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "guard", "demo", "--once", "--json"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (line,) = done.stdout.strip().splitlines()
    outcome = json.loads(line)
    assert outcome["ok"] is True
    assert outcome["healthy"]["verdict"] == "pass"
    assert outcome["healthy"]["mean_acceptance_length"] > 2
    faults = {fault["fault"]: fault for fault in outcome["faults"]}
    for name in ("noise", "zero_half"):
        assert faults[name]["verdict"] == "retry"
        assert faults[name]["attempts"] == 2
        assert faults[name]["onset_token"] == 0
        assert faults[name]["detection_delay_tokens"] > 0
        assert faults[name]["client_text_clean"] is True
        assert faults[name]["equals_healthy_answer"] is True
    splice = faults["splice"]
    assert splice["known_miss"] is (splice["verdict"] == "pass")
    assert outcome["mid_answer"]["onset_token"] == 60
    # The account for people goes to standard error.
    assert "The cache is corrupted" in done.stderr


def test_a_wrong_policy_is_exit_2_before_anything_is_started() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "guard", "demo", "--once", "--policy", "nothing"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "no shipped policy is called 'nothing'" in done.stderr
