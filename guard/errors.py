"""Every error the guard raises on purpose.

An error names the place and the fix: a person who reads only the message knows what to change.
"""

from __future__ import annotations

import errno
import os


class GuardError(Exception):
    """Base of all declared errors. Anything else that escapes is a defect."""


class ConfigError(GuardError):
    """
    A configuration or policy file is wrong.

    Args:
        message: What is wrong and what would be right.
        path: File in which it stands, if it came from a file.
        line: 1-based line in that file, if known.
        where: Dotted path of the setting inside the document.
    """

    def __init__(self, message: str, *, path: str | None = None, line: int | None = None, where: str = "") -> None:
        self.message = message
        self.path = path
        self.line = line
        self.where = where
        super().__init__(str(self))

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.path, self.line) if part is not None)
        parts = [part for part in (place, self.where, self.message) if part]
        return ": ".join(parts)


class ProtocolError(GuardError):
    """The upstream's stream does not follow its protocol; `where` names the event or byte."""

    def __init__(self, message: str, *, where: str = "") -> None:
        self.message = message
        self.where = where
        super().__init__(f"{where}: {message}" if where else message)


class EventTooLarge(ProtocolError):
    """One server-sent event grew past the configured cap before it ended."""


class RequestError(GuardError):
    """
    The client's request cannot be guarded as it stands.

    Args:
        message: What is wrong with it.
        status: HTTP status to answer with.
        param: Name of the request field at fault, as OpenAI's error form has it.
        code: Machine-readable code.
    """

    def __init__(self, message: str, *, status: int = 400, param: str | None = None, code: str | None = None) -> None:
        self.message = message
        self.status = status
        self.param = param
        self.code = code
        super().__init__(message)


#: What this machine has too little of, whichever backend is asked: files, memory.
_OWN_LACK = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})


def system_words(error: OSError) -> str:
    """Why a call failed, as the system says it: event loops put the addresses of backends into errors of theirs."""
    if error.errno is not None and error.errno > 0 and not hasattr(error, "library"):  # OpenSSL has its own numbers
        return os.strerror(error.errno)
    return error.strerror or str(error)


def is_own_lack(error: BaseException) -> bool:
    """Whether a connection failed for what this machine lacks, which says nothing about the backend."""
    return isinstance(error, OSError) and error.errno in _OWN_LACK


class UpstreamError(GuardError):
    """
    The upstream could not be reached or broke off.

    Args:
        kind: One of UPSTREAM_FAULTS.
        message: For the client and the record.
        own: Whether it is this machine's own lack: the replica is not charged with it.
        status: HTTP status of its answer, where that is the fault; else 0.
    """

    def __init__(self, kind: str, message: str, *, own: bool = False, status: int = 0) -> None:
        if kind not in UPSTREAM_FAULTS:
            raise ValueError(f"unknown upstream fault {kind!r}; one of {sorted(UPSTREAM_FAULTS)}")
        self.kind = kind
        self.message = message
        self.own = own
        self.status = status
        super().__init__(f"{kind}: {message}")


#: What can go wrong with one upstream attempt, as logged and counted; "unavailable" means that nobody was asked, since
#: at the moment there is no replica to ask.
UPSTREAM_FAULTS = frozenset({"connect", "timeout", "reset", "protocol", "status", "truncated", "unavailable"})


class SetupError(GuardError):
    """Something the lab needs (a model, a package, a port) is missing; the message says how to get it."""
