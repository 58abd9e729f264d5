"""guard.lab.files: checksums read once, atomic replacement, locks."""

import contextlib
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from guard.errors import ConfigError
from guard.lab.files import cache_dir, exclusive, has_sha256, replacing, sha256_of, write_whole

DIGEST = hashlib.sha256(b"model").hexdigest()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"model")
    return path


def test_the_cache_folder_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "specdec-guard"
    assert cache_dir().is_dir()
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_dir() == tmp_path / "home" / ".cache" / "specdec-guard"


def test_a_checksum_reports_its_progress(model: Path) -> None:
    seen: list[int] = []
    assert sha256_of(model, seen.append) == DIGEST
    assert sum(seen) == 5


def test_a_checked_file_is_not_read_again(model: Path, tmp_path: Path) -> None:
    reads: list[int] = []
    for _ in range(2):
        assert has_sha256(model, DIGEST, tmp_path / "stamps", reads.append)
    assert reads == [5]


def test_a_changed_file_is_read_again(model: Path, tmp_path: Path) -> None:
    assert has_sha256(model, DIGEST, tmp_path / "stamps")
    model.write_bytes(b"other")
    os.utime(model, ns=(1, 1))
    assert not has_sha256(model, DIGEST, tmp_path / "stamps")


def test_a_spoiled_stamp_is_ignored(model: Path, tmp_path: Path) -> None:
    assert has_sha256(model, DIGEST, tmp_path / "stamps")
    for stamp in (tmp_path / "stamps").iterdir():
        stamp.write_text("{")
    assert has_sha256(model, DIGEST, tmp_path / "stamps")


def test_a_file_is_replaced_whole_or_not_at_all(model: Path) -> None:
    with contextlib.suppress(RuntimeError), replacing(model) as temporary:
        temporary.write_bytes(b"half")
        raise RuntimeError
    assert model.read_bytes() == b"model"
    with replacing(model) as temporary:
        temporary.write_bytes(b"whole")
    assert model.read_bytes() == b"whole"
    assert list(model.parent.iterdir()) == [model]


def test_a_device_is_written_to_and_a_link_followed(tmp_path: Path) -> None:
    pipe, link, file = tmp_path / "pipe", tmp_path / "link", tmp_path / "file"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with replacing(pipe) as temporary:
        temporary.write_bytes(b"said")
    assert os.read(reader, 9) == b"said"
    os.close(reader)
    assert pipe.is_fifo()
    file.write_bytes(b"old")
    link.symlink_to(file.name)
    with replacing(link) as temporary:
        temporary.write_bytes(b"new")
    assert link.is_symlink()
    assert file.read_bytes() == b"new"
    assert {path.name for path in tmp_path.iterdir()} == {"pipe", "link", "file"}


def test_a_second_process_waits_for_the_lock(tmp_path: Path) -> None:
    lock = tmp_path / "folder" / ".lock"
    code = f"import fcntl; f = open({str(lock)!r}, 'a'); fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)"
    with exclusive(lock):
        held = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
        assert b"BlockingIOError" in held.stderr
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_file_that_was_asked_for_has_its_folder_made_or_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "out"
    write_whole(path, b"one")
    write_whole(path, b"two")
    assert path.read_bytes() == b"two"
    with pytest.raises(ConfigError, match=r"out/c: cannot be written: "):
        write_whole(path / "c", b"")
