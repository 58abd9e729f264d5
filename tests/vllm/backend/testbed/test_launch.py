"""guard.backend.testbed.launch: the server does not outlive the process that started it."""

from __future__ import annotations

import inspect
import signal
import subprocess
import sys
from pathlib import Path

from guard.backend.testbed.engine import changed_environment
from guard.backend.testbed.launch import spin_briefly
from guard.backend.testbed.server import ENVIRONMENT

PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
sys.stdin.read()
"""
CHILD = """
from guard.backend.testbed.launch import die_with_parent
import signal
die_with_parent()
print("ready", flush=True)
signal.pause()
"""


def test_the_child_dies_with_its_parent() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        gone = _watch(child)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        assert gone.wait(20) == 0


def test_engine_and_workers_sleep_while_they_wait() -> None:
    with changed_environment(ENVIRONMENT):
        from vllm.distributed.device_communicators.shm_broadcast import SpinCondition  # noqa: PLC0415

    before = SpinCondition.__init__.__defaults__
    try:
        spin_briefly()
        assert inspect.signature(SpinCondition).parameters["busy_loop_s"].default == 0.002
    finally:
        SpinCondition.__init__.__defaults__ = before


def _watch(pid: int) -> subprocess.Popen[bytes]:
    """A process that ends when another one does; `tail` waits for any process, not only its own children."""
    assert Path(f"/proc/{pid}").is_dir()
    return subprocess.Popen(["tail", f"--pid={pid}", "-s", "0.05", "-f", "/dev/null"])
