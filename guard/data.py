"""Where the data folders are that ship beside the code, and how text files are read."""

from __future__ import annotations

import codecs
import contextlib
import stat
from pathlib import Path
from typing import Literal

from guard.errors import ConfigError

_PACKAGE = Path(__file__).resolve().parent

#: Largest text file read, keys of many clients included. Unit: bytes.
MAX_TEXT = 16 * 1024 * 1024


def data_dir(name: Literal["policies", "draft_models"]) -> Path:
    """
    A data folder: beside the package in a checkout, inside it in an installed wheel.

    Args:
        name: Which folder.
    """
    beside = _PACKAGE.parent / name
    inside = _PACKAGE / "_data" / name
    return inside if inside.is_dir() else beside


def check_regular(path: Path) -> None:
    """
    See that a file can be read again without waiting for somebody to write it.

    Args:
        path: One that is there or not: what is missing is found out by reading it.

    Raises:
        ConfigError: It is a pipe, a device, a folder.
    """
    with contextlib.suppress(OSError):
        if not stat.S_ISREG(path.stat().st_mode):
            raise ConfigError("cannot be read again: it is no regular file", path=str(path))


def looked_for(path: str | Path) -> str:
    """
    Where a file that was not found was looked for, to be added to a message; empty where its path says so itself.

    Paths in a configuration are relative to the folder in which the guard was started, which is not always known to
    who reads the message.
    """
    with contextlib.suppress(OSError):  # the folder itself may be gone
        if not Path(path).is_absolute():
            return f" (looked for at {Path.cwd() / path})"
    return ""


def unreadable(path: str | Path, error: OSError, where: str = "") -> ConfigError:
    """
    What a file that cannot be read comes to.

    Args:
        path: As it was given.
        error: What the system says.
        where: Setting that names the file.
    """
    return ConfigError(f"cannot be read: {error.strerror}{looked_for(path)}", path=str(path), where=where)


def read_text(path: Path, where: str = "") -> str:
    """
    A text file's content.

    Args:
        path: The file.
        where: Setting that names it, for the error.

    Raises:
        ConfigError: It cannot be read, is not UTF-8, or is larger than any such file: a model, a device.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_TEXT + 1)
    except OSError as error:
        raise unreadable(path, error, where) from error
    except ValueError as error:  # no path has a NUL
        raise ConfigError(f"cannot be read: {error}", path=repr(str(path)), where=where) from error
    if len(data) > MAX_TEXT:
        raise ConfigError(f"larger than {MAX_TEXT} bytes; is this the right file?", path=str(path), where=where)
    try:
        # As text files are read: each kind of line end is one.
        return data.decode().replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        found = "it is UTF-16" if wide else f"not UTF-8: there is a byte 0x{data[error.start]:02x} in it"
        line = None if wide else data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{found}; save it as UTF-8", path=str(path), line=line, where=where) from error
