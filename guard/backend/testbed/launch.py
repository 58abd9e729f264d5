"""
The child process of `server.py`: vLLM's own command line, ended with the process that started it.

`python -m guard.backend.testbed.launch MODEL ...` is `vllm serve MODEL ...`.
"""

from __future__ import annotations

import ctypes
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Ask the kernel for SIGTERM when the parent dies, so that no engine is left behind; Linux only."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def main() -> None:
    """Entry point: hand the rest of the command line to `vllm serve`."""
    die_with_parent()
    from vllm.entrypoints.cli.main import main as vllm_main  # noqa: PLC0415 - only in the vLLM environment

    sys.argv = ["vllm", "serve", *sys.argv[1:]]
    vllm_main()


if __name__ == "__main__":
    main()
