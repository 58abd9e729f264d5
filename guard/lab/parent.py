"""A process that ends with the one that started it, however that one ends."""

from __future__ import annotations

import ctypes
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """
    Ask the kernel to end this process with its parent, also while native code keeps it busy.

    Linux only, nothing elsewhere. To be called in the child: it holds over an `exec`, not for children of its own.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
