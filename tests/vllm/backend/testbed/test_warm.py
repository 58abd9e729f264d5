"""guard.backend.testbed.warm: processes come from a fork server that has all imports, and are else as if spawned."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from guard.backend.testbed import warm
from guard.backend.testbed.server import group_members

PROGRAM = """
import json, multiprocessing.forkserver, os, stat, sys
from guard.backend.testbed import warm

def look(pipe):
    inner = multiprocessing.get_context("spawn")
    if os.environ["DEPTH"] == "1":
        os.environ["DEPTH"] = "2"
        child = inner.Process(target=look, args=(pipe,))
        child.start()
        child.join()
    pipe.send([os.environ["DEPTH"], os.getppid(), "colorsys" in sys.modules, made_later])
    sys.exit(7)

made_later = False
if __name__ == "__main__":
    warm.import_all(("colorsys", "no_such_module"))
    warm.take_the_place_of_spawn()
    made_later = True
    os.environ["DEPTH"] = "1"
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=look, args=(theirs,))
    child.start()
    found = [ours.recv(), ours.recv()]
    child.join()
    address = multiprocessing.forkserver._forkserver._forkserver_address
    folder = os.stat(os.path.dirname(address))
    private = stat.S_IMODE(folder.st_mode) == 0o700 and folder.st_uid == os.getuid()
    told = {"found": found, "code": child.exitcode, "pid": os.getpid(), "address": address, "private": private}
    print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    program = tmp_path_factory.mktemp("warm") / "program.py"
    program.write_text(PROGRAM)
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, str(program)], env=environ, capture_output=True, text=True, check=False, start_new_session=True
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_they_have_the_modules_and_the_environment_of_who_started_them(found: dict[str, Any]) -> None:
    inner, outer = found["found"]
    assert (inner[0], outer[0]) == ("2", "2")
    assert inner[2] is outer[2] is True


def test_all_come_from_one_fork_server_that_nothing_was_done_in(found: dict[str, Any]) -> None:
    inner, outer = found["found"]
    assert inner[1] == outer[1] != found["pid"]
    assert inner[3] is outer[3] is False


def test_an_end_is_told_to_who_started_them_and_leaves_nothing(found: dict[str, Any]) -> None:
    assert found["code"] == 7
    # The session's leader was the program. The fork server ends by itself a moment after those that may use it.
    gone = subprocess.run(
        ["timeout", "20", "sh", "-c", f"while pgrep -g {found['pid']} >/dev/null; do sleep 0.05; done"], check=False
    )
    assert gone.returncode == 0
    assert group_members(found["pid"]) == []


def test_nobody_else_can_have_code_run_by_it(found: dict[str, Any]) -> None:
    assert found["private"]
    assert Path(found["address"]).is_absolute()
    assert not Path(found["address"]).parent.exists()


def test_several_front_ends_are_not_forked_after_their_imports() -> None:
    assert warm.one_front_end(["model", "--port", "8000", "--max-num-seqs", "2"])
    assert not warm.one_front_end(["model", "--data-parallel-size", "2"])
    assert not warm.one_front_end(["model", "--api-server-count=2"])


def test_every_module_named_is_one_of_vllms() -> None:
    folder = Path(importlib.util.find_spec("vllm").submodule_search_locations[0])  # type: ignore[union-attr,index]
    for name in warm.MODULES:
        path = folder.parent / name.replace(".", "/")
        assert path.with_suffix(".py").is_file() or path.is_dir(), name
