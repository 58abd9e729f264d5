"""Files that several processes share: checksums with a memory, locks, atomic replacement."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from guard.errors import ConfigError

_PIECE_BYTES = 1 << 20


def cache_dir() -> Path:
    """The user's cache folder of this project; made when absent."""
    base = os.environ.get("XDG_CACHE_HOME") or ""
    root = Path(base) if base and Path(base).is_absolute() else Path.home() / ".cache"
    folder = root / "specdec-guard"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def sha256_of(path: Path, on_bytes: Callable[[int], None] | None = None) -> str:
    """
    Checksum of a file.

    Args:
        path: The file.
        on_bytes: Called with the number of bytes read by each piece.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
            if on_bytes is not None:
                on_bytes(len(piece))
    return digest.hexdigest()


def has_sha256(path: Path, sha256: str, stamps: Path, on_bytes: Callable[[int], None] | None = None) -> bool:
    """
    Whether a file has this checksum, read only once as long as its size and time stay.

    Args:
        path: The file.
        sha256: Hexadecimal digest it should have.
        stamps: Folder in which checked files are remembered.
        on_bytes: Called with the number of bytes read by each piece, when it is read.
    """
    with contextlib.suppress(OSError, ValueError):
        if json.loads(_stamp(path, stamps).read_text()) == _seen(path, sha256):
            return True
    if sha256_of(path, on_bytes) != sha256:
        return False
    remember_sha256(path, sha256, stamps)
    return True


def remember_sha256(path: Path, sha256: str, stamps: Path) -> None:
    """Note that a file was checked, for `has_sha256`."""
    stamps.mkdir(parents=True, exist_ok=True)
    with replacing(_stamp(path, stamps)) as temporary:
        temporary.write_text(json.dumps(_seen(path, sha256)))


def _stamp(path: Path, stamps: Path) -> Path:
    return stamps / (hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:24] + ".json")


def _seen(path: Path, sha256: str) -> dict[str, object]:
    stat = path.stat()
    return {
        "path": str(path.resolve()),
        "size": stat.st_size,
        "mtime_ns": stat.st_mtime_ns,
        "sha256": sha256,
    }


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """
    Write a file so that others see the old one or the whole new one, never a part.

    What a link points to is replaced, not the link. A device or a pipe (`/dev/stdout`) is written to: a file in its
    place would be no device any more, for anyone on the machine.

    Yields:
        A temporary path beside it, moved over `path` when the block ends well, else removed.
    """
    target = path.resolve() if path.is_symlink() else path
    if path.exists() and not (path.is_file() or path.is_dir()):
        yield path
        return
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def write_whole(path: Path, data: bytes) -> None:
    """
    Write a file that a command was told to make, as `replacing`; its folder is made when absent.

    Raises:
        ConfigError: It cannot be written.
    """
    write_pieces(path, (data,))


def write_pieces(path: Path, pieces: Iterable[bytes]) -> None:
    """
    As `write_whole`, of a file that need not be in memory as a whole.

    Raises:
        ConfigError: It cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary, temporary.open("wb") as file:
            file.writelines(pieces)
    except OSError as error:
        raise ConfigError(f"cannot be written: {error.strerror}", path=str(path)) from error


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold a lock file; processes that want it too wait. It goes away with the process."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
