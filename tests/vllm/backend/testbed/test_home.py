"""guard.backend.testbed.home: a server from it is like one with an interpreter of its own, and ends with its user."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from guard.backend.testbed.server import group_members

# In a process of its own: one has one home, and that of the tests has vLLM in it.
PROGRAM = """
import asyncio, os, signal, sys
from pathlib import Path
from guard.backend.testbed import home, launch

def serve(arguments):
    launch.die_with_parent()
    print("serves", arguments, os.environ["WORD"], os.getpgrp() == os.getpid(), "colorsys" in sys.modules, flush=True)
    if arguments[0] == "exit":
        sys.exit(3)
    signal.pause()

async def ends(child, number):
    running = child.returncode
    child.send_signal(number)
    return running, await asyncio.gather(child.wait(), child.wait()), child.returncode

launch.serve = serve
if __name__ == "__main__":
    ours = home.Home({}, ("colorsys",))
    def start(word):
        return ours.start([word], {**os.environ, "WORD": word}, Path(sys.argv[1]) / word)
    print(asyncio.run(ends(start("exit"), 0)), flush=True)
    child = start("signal")
    print(asyncio.run(ends(child, signal.SIGKILL)), flush=True)
    # Nothing is left to be told.
    child.send_signal(signal.SIGTERM)
    print(start("wait").pid, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def user(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(program), str(tmp_path)]
    with subprocess.Popen(command, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def test_a_server_is_one_of_its_own_and_ends_with_who_asked_for_it(user: subprocess.Popen[str], tmp_path: Path) -> None:
    assert user.stdout is not None
    # All who wait are told how it ended: by itself, by a signal.
    assert user.stdout.readline() == "(None, [3, 3], 3)\n"
    assert user.stdout.readline() == "(None, [-9, -9], -9)\n"
    pid = int(user.stdout.readline())
    # Its log, its arguments and environment, a session of its own, and what the home has imported.
    for word in ("exit", "wait"):
        shell = f"until grep -q serves {tmp_path / word}; do sleep 0.05; done"
        assert subprocess.run(["timeout", "20", "sh", "-c", shell], check=False).returncode == 0
        assert (tmp_path / word).read_text() == f"serves ['{word}'] {word} True True\n"
    assert pid in group_members(pid)
    user.send_signal(signal.SIGKILL)
    gone = subprocess.run(["timeout", "20", "tail", f"--pid={pid}", "-s", "0.05", "-f", "/dev/null"], check=False)
    assert gone.returncode == 0
