"""A child ends with its parent, also when that one is killed."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys

PARENT = """
import subprocess, sys, time
from guard.lab.parent import die_with_parent
child = subprocess.Popen([sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"],
                         stdout=subprocess.PIPE, preexec_fn=die_with_parent if sys.argv[1] == "with" else None)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(60)
"""


def ends_with_parent(how: str) -> bool:
    with subprocess.Popen([sys.executable, "-c", PARENT, how], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = os.pidfd_open(int(parent.stdout.readline()))
        try:
            parent.kill()
            ended, _, _ = select.select([child], [], [], 10 if how == "with" else 0.5)
            if not ended:
                signal.pidfd_send_signal(child, signal.SIGKILL)
            return bool(ended)
        finally:
            os.close(child)


def test_a_child_ends_with_a_parent_that_is_killed() -> None:
    assert ends_with_parent("with")


def test_without_that_it_would_live_on() -> None:
    assert not ends_with_parent("without")
