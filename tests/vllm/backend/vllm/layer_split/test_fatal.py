"""guard.backend.vllm.layer_split.fatal: what is raised in a step ends the process, with the reason in its log."""

from __future__ import annotations

import subprocess
import sys

import pytest

from guard.backend.vllm.layer_split.fatal import STATUS, fatal

PROGRAM = """
import logging
from guard.backend.vllm.layer_split.fatal import fatal
logging.basicConfig()
@fatal
def step():
    raise ValueError("no header came to rank 1")
step()
"""


def test_a_fault_ends_the_process_and_says_why() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert done.returncode == STATUS
    assert "LayerSplit ends this worker: no header came to rank 1" in done.stderr


@pytest.mark.parametrize("value", [None, 3])
def test_otherwise_nothing_changes(value: object) -> None:
    assert fatal(lambda given: given)(value) is value
