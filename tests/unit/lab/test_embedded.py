"""guard.lab.embedded: the parent's side, against a child that is not llama.cpp."""

import asyncio
import contextlib
import os
import sys
import textwrap
from pathlib import Path

import pytest

from guard.errors import SetupError
from guard.lab import embedded
from guard.lab.embedded import EmbeddedBackend, EmbeddedOptions


def child(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: str) -> None:
    """Run this code instead of the server, with a model that needs no fetching."""
    script = tmp_path / "child.py"
    script.write_text(textwrap.dedent(code))
    start = asyncio.create_subprocess_exec

    async def instead(*_arguments: str, **options: object) -> asyncio.subprocess.Process:
        return await start(sys.executable, str(script), **options)  # type: ignore[arg-type]

    monkeypatch.setattr(embedded.asyncio, "create_subprocess_exec", instead)
    monkeypatch.setattr(embedded, "ensure_model", lambda *_: tmp_path / "model.gguf")
    monkeypatch.setattr(embedded.importlib.util, "find_spec", lambda _name: True)


READY = """
    import sys, os, json
    print(json.dumps({"ready": True, "url": "http://127.0.0.1:1", "pid": os.getpid()}), flush=True)
    for line in sys.stdin:
        print(json.dumps({"error": "no"} if "bad" in line else {"did": json.loads(line)}), flush=True)
"""


NOTE_PID = "import os; open({!r}, 'w').write(str(os.getpid())); "


def options(**changes: object) -> EmbeddedOptions:
    return EmbeddedOptions(draft=None, **changes)  # type: ignore[arg-type]


def gone(pid: int) -> bool:
    """Whether a process has ended and was reaped."""
    return not Path(f"/proc/{pid}").exists()


async def test_it_runs_within_the_block_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    child(monkeypatch, tmp_path, READY)
    async with EmbeddedBackend(options()) as backend:
        pid, folder = backend.pid, backend.folder
        assert backend.url == "http://127.0.0.1:1"
        assert pid is not None
        assert await backend.order({"op": "x"}) == {"did": {"op": "x"}}
        with pytest.raises(SetupError, match="refused: no"):
            await backend.order({"op": "bad"})
    assert gone(pid)
    assert not folder.exists()
    assert backend.pid is None
    with pytest.raises(SetupError, match="not running"):
        await backend.order({})


async def test_a_child_that_dies_at_start_is_quoted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    child(monkeypatch, tmp_path, "import sys; sys.exit('cannot load the model')")
    with pytest.raises(SetupError, match=r"ended with code 1 at start(.|\n)*cannot load the model"):
        async with EmbeddedBackend(options()):
            pass


async def test_a_child_that_never_gets_ready_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    note = tmp_path / "pid"
    child(
        monkeypatch,
        tmp_path,
        f"import os, time; open({str(note)!r}, 'w').write(str(os.getpid())); time.sleep(60)",
    )
    monkeypatch.setattr(embedded, "_STOP_SECONDS", 0.05)
    with pytest.raises(SetupError, match=r"not ready in 0\.5 s; its log is empty"):
        async with EmbeddedBackend(options(start_seconds=0.5)):
            pass
    assert gone(int(note.read_text()))


async def test_an_exception_in_the_block_ends_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    child(monkeypatch, tmp_path, READY)
    with contextlib.suppress(KeyError):
        async with EmbeddedBackend(options()) as backend:
            pid = backend.pid
            raise KeyError
    assert pid is not None
    assert gone(pid)


async def test_a_cancelled_start_ends_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    note = tmp_path / "pid"
    child(
        monkeypatch,
        tmp_path,
        f"import os, sys; open({str(note)!r}, 'w').write(str(os.getpid())); sys.stdin.read()",
    )

    async def start() -> None:
        async with EmbeddedBackend(options()):
            pass

    task = asyncio.create_task(start())
    while not note.exists() or not note.read_text():
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert gone(int(note.read_text()))


async def test_a_stubborn_child_is_killed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    child(monkeypatch, tmp_path, READY + "    import time; time.sleep(60)\n")
    monkeypatch.setattr(embedded, "_STOP_SECONDS", 0.05)
    async with EmbeddedBackend(options()) as backend:
        pid = backend.pid
    assert pid is not None
    assert gone(pid)


async def test_kept_files_stay(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    child(monkeypatch, tmp_path, READY)
    async with EmbeddedBackend(options(keep_files=tmp_path / "kept")) as backend:
        pass
    assert backend.log_file == tmp_path / "kept" / "llama.log"
    assert backend.log_file.is_file()


async def test_without_the_package_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(SetupError, match=r"specdec-guard\[demo\]"):
        async with EmbeddedBackend(options()):
            pass


def test_before_its_start_it_has_no_folder() -> None:
    with pytest.raises(RuntimeError, match="not started"):
        _ = EmbeddedBackend(options()).folder


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (2, 1), (4, 3), (64, 4)])
def test_one_core_is_left_to_others(monkeypatch: pytest.MonkeyPatch, cores: int, threads: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(cores)))
    assert embedded._default_threads() == threads
