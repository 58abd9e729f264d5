"""The recorder: never waits, never raises, counts what it loses, and keeps its files small and private."""

from __future__ import annotations

import errno
import json
import os
import stat
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import structlog

from guard.core.record import AttemptRecord, ExchangeRecord, Outcome
from guard.observe import recorder as module
from guard.observe.recorder import Recorder, RecorderSettings, RotatingFile
from guard.observe.recording import Tape
from guard.types import Channel, Kind, Sample

#: For a thread that waits for a busy machine. Unit: seconds.
PATIENCE = 60.0


def settings(folder: Path, **fields: Any) -> RecorderSettings:
    return RecorderSettings(**{"folder": str(folder / "rec"), "healthy": 1.0, **fields})


def exchange(name: str = "r1", *, bad: bool = False) -> tuple[ExchangeRecord, list[Tape]]:
    attempt = AttemptRecord(1, "replica", "vllm", "first", kind=Kind.GARBLED if bad else None, onset_token=0)
    outcome = Outcome.CUT if bad else Outcome.HEALTHY
    record = ExchangeRecord(name, "/v1/completions", "m", "default", True, outcome=outcome, attempts=[attempt])
    return record, [(attempt, [Sample(0, ((Channel.CONTENT, "hello"),), 1)])]


def names(path: Path) -> list[str]:
    return [json.loads(line)["request_id"] for line in path.read_bytes().splitlines()]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_is_offered_is_written_for_the_owner_only(tmp_path: Path) -> None:
    recorder = Recorder(settings(tmp_path))
    for number in range(5):
        recorder.offer(*exchange(f"r{number}"), draw=0.5)
    recorder.close(PATIENCE)
    path = tmp_path / "rec" / "exchanges.jsonl"
    assert names(path) == ["r0", "r1", "r2", "r3", "r4"]
    assert (mode(path), mode(path.parent)) == (0o600, 0o700)
    assert (recorder.written, recorder.dropped, recorder.failed) == (5, 0, 0)
    assert "hello" not in path.read_text()


def test_shares_of_good_and_of_judged_answers(tmp_path: Path) -> None:
    recorder = Recorder(settings(tmp_path, healthy=0.1, acted=0.5))
    assert (recorder.wants(0.4), recorder.wants(0.5)) == (True, False)
    recorder.offer(*exchange("good low"), draw=0.05)
    recorder.offer(*exchange("good high"), draw=0.2)
    recorder.offer(*exchange("bad low", bad=True), draw=0.2)
    recorder.offer(*exchange("bad high", bad=True), draw=0.5)
    recorder.offer(ExchangeRecord("none", "/", "m", "p", True), [], draw=0.0)
    recorder.close(PATIENCE)
    assert names(tmp_path / "rec" / "exchanges.jsonl") == ["good low", "bad low"]


def test_a_full_queue_drops_and_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go, begun = threading.Event(), threading.Event()
    write = RotatingFile.write

    def slow(self: RotatingFile, line: bytes) -> None:
        begun.set()
        go.wait(5)
        write(self, line)

    monkeypatch.setattr(RotatingFile, "write", slow)
    recorder = Recorder(settings(tmp_path, queue=2))
    recorder.offer(*exchange("first"), draw=0.0)
    assert begun.wait(5)
    for number in range(5):
        recorder.offer(*exchange(f"r{number}"), draw=0.0)
    assert recorder.dropped == 3
    go.set()
    recorder.close(PATIENCE)
    assert recorder.written == 3


def test_a_disk_that_stays_full_is_counted_and_told_once(tmp_path: Path) -> None:
    blocked = tmp_path / "rec"
    blocked.write_text("a file where the folder should be")
    with structlog.testing.capture_logs() as logs:
        recorder = Recorder(settings(tmp_path))
        for number in range(3):
            recorder.offer(*exchange(f"r{number}"), draw=0.0)
        recorder.close(PATIENCE)
    assert (recorder.written, recorder.failed) == (0, 3)
    assert [entry["event"] for entry in logs] == ["recording failed"]


def test_a_folder_that_cannot_be_is_told_at_the_start_with_all_of_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rec").write_text("a file where the folder should be")
    monkeypatch.chdir(tmp_path)
    with structlog.testing.capture_logs() as logs:
        Recorder(RecorderSettings(folder="rec")).close(PATIENCE)
    assert [(entry["event"], entry["folder"]) for entry in logs] == [("recording failed", str(tmp_path / "rec"))]


def test_that_it_records_again_is_told_with_what_was_lost(tmp_path: Path) -> None:
    blocked = tmp_path / "rec"
    blocked.write_text("a file where the folder should be")
    with structlog.testing.capture_logs() as logs:
        recorder = Recorder(settings(tmp_path))
        recorder.offer(*exchange("lost"), draw=0.0)
        deadline = time.monotonic() + PATIENCE
        while not recorder.failed and time.monotonic() < deadline:
            time.sleep(0.01)
        blocked.unlink()
        recorder.offer(*exchange("kept"), draw=0.0)
        recorder.offer(*exchange("kept too"), draw=0.0)
        recorder.close(PATIENCE)
    assert (recorder.written, recorder.failed) == (2, 1)
    assert [entry["event"] for entry in logs] == ["recording failed", "recording again"]
    assert (logs[1]["folder"], logs[1]["lost"]) == (str(blocked), 1)


def test_after_trouble_it_goes_on_and_would_tell_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(settings(tmp_path))
    failing = [True, True, False, True]
    write = RotatingFile.write

    def sometimes(self: RotatingFile, line: bytes) -> None:
        if failing.pop(0):
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, line)

    monkeypatch.setattr(RotatingFile, "write", sometimes)
    with structlog.testing.capture_logs() as logs:
        for number in range(4):
            recorder.offer(*exchange(f"r{number}"), draw=0.0)
        recorder.close(PATIENCE)
    assert (recorder.written, recorder.failed) == (1, 3)
    assert [entry["event"] for entry in logs] == ["recording failed", "recording again", "recording failed"]
    assert names(tmp_path / "rec" / "exchanges.jsonl") == ["r2"]


def test_a_defect_in_a_line_does_not_end_the_recorder(tmp_path: Path) -> None:
    recorder = Recorder(settings(tmp_path, text="full"))
    record, tapes = exchange("lone surrogate")
    recorder.offer(record, [(tapes[0][0], [Sample(0, ((Channel.CONTENT, "\ud800"),), 1)])], draw=0.0)
    recorder.offer(*exchange("fine"), draw=0.0)
    recorder.close(PATIENCE)
    assert (recorder.written, recorder.failed) == (1, 1)


def test_closing_twice_or_offering_late_harms_nobody(tmp_path: Path) -> None:
    recorder = Recorder(settings(tmp_path, queue=1))
    recorder.close(PATIENCE)
    recorder.offer(*exchange(), draw=0.0)
    recorder.offer(*exchange(), draw=0.0)
    recorder.close(timeout=0.01)
    assert recorder.dropped == 1


def test_files_rotate_by_size_and_count(tmp_path: Path) -> None:
    file = RotatingFile(settings(tmp_path, max_file_bytes=25, max_files=3, name="w0"))
    for number in range(10):
        file.write(b"line number %d\n" % number)  # 14 bytes: one a file
    file.close()
    found = {path.name: path.read_bytes() for path in (tmp_path / "rec").iterdir()}
    assert found == {
        "w0.jsonl": b"line number 9\n",
        "w0.1.jsonl": b"line number 8\n",
        "w0.2.jsonl": b"line number 7\n",
    }
    assert all(mode(path) == 0o600 for path in (tmp_path / "rec").iterdir())


def test_a_file_that_somebody_removes_is_made_anew(tmp_path: Path) -> None:
    file, path = RotatingFile(settings(tmp_path)), tmp_path / "rec" / "exchanges.jsonl"
    file.write(b"one\n")
    path.unlink()
    file.write(b"two\n")
    path.unlink()
    path.parent.rmdir()
    file.write(b"three\n")
    file.close()
    assert path.read_bytes() == b"three\n"


def test_one_file_only_starts_afresh(tmp_path: Path) -> None:
    file = RotatingFile(settings(tmp_path, max_file_bytes=25, max_files=1))
    for number in range(3):
        file.write(b"line number %d\n" % number)
    file.close()
    assert [path.read_bytes() for path in (tmp_path / "rec").iterdir()] == [b"line number 2\n"]


def test_a_restart_goes_on_where_it_stopped(tmp_path: Path) -> None:
    made = settings(tmp_path, max_file_bytes=40)
    folder = tmp_path / "rec"
    path = folder / "exchanges.jsonl"
    folder.mkdir()
    path.write_bytes(b"whole\n" + b"half a li" * 10_000)  # what a crash left
    path.chmod(0o644)
    file = RotatingFile(made)
    file.write(b"next\n")
    file.close()
    # A line that is none would keep `guard backtest` from reading all the others.
    assert path.read_bytes() == b"whole\nnext\n"
    assert mode(path) == 0o600
    again = RotatingFile(made)
    again.write(b"x" * 30 + b"\n")
    again.close()
    assert (folder / "exchanges.1.jsonl").read_bytes().endswith(b"next\n")


@pytest.mark.parametrize(
    ("left", "then"),
    [
        (b"", b"next\n"),
        (b'{"id": "a", "chu', b"next\n"),
        (b'{"id": "a"}', b'{"id": "a"}\nnext\n'),  # whole, but for its end
        (b'{"id": "a"}\n{"id": 1}\n', b'{"id": "a"}\n{"id": 1}\nnext\n'),
        (b'{"id": "a"}\n{', b'{"id": "a"}\nnext\n'),
    ],
)
def test_only_what_is_no_line_is_cut_off(left: bytes, then: bytes, tmp_path: Path) -> None:
    made = settings(tmp_path)
    path = tmp_path / "rec" / "exchanges.jsonl"
    path.parent.mkdir()
    path.write_bytes(left)
    file = RotatingFile(made)
    file.write(b"next\n")
    file.close()
    assert path.read_bytes() == then


def test_half_a_line_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = RotatingFile(settings(tmp_path))
    file.write(b"first\n")
    real = os.write
    left = [3]

    def short(handle: int, data: bytes) -> int:
        if not left:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(handle, bytes(data)[: left.pop()])

    monkeypatch.setattr(module.os, "write", short)
    with pytest.raises(OSError, match="No space"):
        file.write(b"second\n")
    monkeypatch.undo()
    file.write(b"third\n")
    file.close()
    assert (tmp_path / "rec" / "exchanges.jsonl").read_bytes() == b"first\nthird\n"


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    made = settings(tmp_path)
    folder = tmp_path / "rec"
    folder.mkdir()
    (tmp_path / "target").write_text("precious")
    (folder / "exchanges.jsonl").symlink_to(tmp_path / "target")
    with pytest.raises(OSError, match=r"symbolic links|Too many levels"):
        RotatingFile(made).write(b"x\n")
    assert (tmp_path / "target").read_text() == "precious"
