"""
The child process of `server.py`: vLLM's own command line, ended with the process that started it.

`python -m guard.backend.testbed.launch MODEL ...` is `vllm serve MODEL ...`.
"""

from __future__ import annotations

import ctypes
import signal
import sys
from collections.abc import Sequence

from guard.backend.testbed import warm

_PR_SET_PDEATHSIG = 1
_SPIN_SECONDS = 0.002


def die_with_parent() -> None:
    """Ask the kernel for SIGTERM when the parent dies, so that no engine is left behind; Linux only."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def spin_briefly() -> None:
    """
    Have the engine and its workers sleep while they wait for each other.

    They would look for each other's messages in shared memory for a second after each without a pause: the engine takes
    a whole core while its worker computes. Where there are fewer cores than processes, that is the core that they need.
    """
    from vllm.distributed.device_communicators import shm_broadcast  # noqa: PLC0415 - only in the vLLM environment

    shm_broadcast.SpinCondition.__init__.__defaults__ = (_SPIN_SECONDS,)


def serve(arguments: Sequence[str]) -> None:
    """
    Be `vllm serve` with these arguments, until it ends.

    Args:
        arguments: The command line after `serve`.
    """
    die_with_parent()
    if warm.one_front_end(arguments):
        warm.import_all()
        warm.take_the_place_of_spawn()
    spin_briefly()
    from vllm.entrypoints.cli.main import main as vllm_main  # noqa: PLC0415 - only in the vLLM environment

    sys.argv = ["vllm", "serve", *arguments]
    vllm_main()


if __name__ == "__main__":
    serve(sys.argv[1:])
