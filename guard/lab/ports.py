"""Ports for what is started later and told where to listen."""

from __future__ import annotations

import contextlib
import random
import socket
from pathlib import Path

_DEALT_OUT = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST, _TRIES = 10_000, 100


def free_port() -> int:
    """
    A loopback port that nobody has now, below those that the kernel deals out.

    One of the kernel's own would be free now too, and a client or another server may be given it before ours, which may
    take a minute to start, listens there.

    Returns:
        The port.
    """
    end = max(_first_dealt_out(), 2 * _LOWEST)
    for _ in range(_TRIES):
        port = random.randrange(_LOWEST, end)
        with contextlib.suppress(OSError):
            return _taken_for_a_moment(port)
    return _taken_for_a_moment(0)


def _first_dealt_out() -> int:
    try:
        return int(_DEALT_OUT.read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        # Linux's default; others begin higher.
        return 32_768


def _taken_for_a_moment(port: int) -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", port))
        taken: int = trial.getsockname()[1]
        return taken
