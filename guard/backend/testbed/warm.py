"""
Processes of vLLM that start in no time: forked from one that has imported vLLM already and done nothing else.

On the CPU vLLM gives its engine and each of its workers a fresh interpreter, and each imports torch and vLLM anew: ten
seconds of a core and more, most of a start. Here they come from a fork server (`multiprocessing.forkserver`) that is
itself forked once the imports are done. It has one thread, no engine and no open connection; what a process is to do is
sent to it as before. vLLM asks for the start method `spawn`: `take_the_place_of_spawn` puts this one under that name.
"""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing.context
import os
import socket
from collections.abc import Sequence
from multiprocessing import forkserver, resource_tracker, util
from pathlib import Path
from typing import Any

#: What the API server, the engine and a worker import.
MODULES = (
    "vllm.entrypoints.cli.serve",
    "vllm.v1.engine.async_llm",
    "vllm.v1.engine.core",
    "vllm.v1.engine.coordinator",
    "vllm.v1.executor.multiproc_executor",
    "vllm.v1.worker.cpu_worker",
    "vllm.v1.spec_decode.eagle",
    "vllm.model_executor.models.llama",
)


#: What gives a server several front ends: the second asks for as many as it asks for engines.
_SEVERAL = ("--api-server-count", "--data-parallel-size", "-asc", "-dp")


def one_front_end(arguments: Sequence[str]) -> bool:
    """
    Whether a server may have been forked after its imports.

    Several front ends count together, and prometheus_client decides that as it is imported, by a variable that vLLM
    sets only before it starts them: forked ones would each tell their own counts alone.

    Args:
        arguments: Of `vllm serve`.
    """
    return not any(word.replace("_", "-").startswith(_SEVERAL) for word in arguments)


class WarmProcess(multiprocessing.context.ForkServerProcess):
    """A process from the fork server, with the environment of the one that starts it, as if spawned."""

    _environ: dict[str, str]

    def start(self) -> None:
        """Start it. Its environment is that of now, not that of when the fork server began."""
        self._environ = dict(os.environ)
        super().start()

    def run(self) -> None:
        """In the child: do what it is for."""
        os.environ.clear()
        os.environ.update(self._environ)
        super().run()


class WarmContext(multiprocessing.context.ForkServerContext):
    """What `multiprocessing.get_context` gives; `Process` is the only thing that differs."""

    Process = WarmProcess


def import_all(modules: tuple[str, ...] = MODULES) -> None:
    """Import what the processes need; a module that another vLLM has not is imported by who needs it."""
    for name in modules:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def take_the_place_of_spawn() -> None:
    """
    Fork the fork server, and have all that asks for `spawn` in this process and in those it starts use it.

    To be called while the process has one thread. The fork server ends when the last process that may use it has.
    """
    server: Any = forkserver._forkserver
    contexts: Any = vars(multiprocessing.context)["_concrete_contexts"]
    resource_tracker.ensure_running()
    # In a folder of this user's alone: whoever reaches it can have any code run (CVE-2022-42919).
    address = str(Path(util.get_temp_dir()) / f"vllm-{os.urandom(8).hex()}")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    alive_read, alive_write = os.pipe()
    server._forkserver_address = address
    server._forkserver_alive_fd = alive_write
    # Processes that it forked find it running as well, though it is no child of theirs.
    server.ensure_running = resource_tracker.ensure_running
    contexts["spawn"] = WarmContext()
    if os.fork():
        listener.close()
        os.close(alive_read)
        return
    os.close(alive_write)
    try:
        forkserver.main(listener.detach(), alive_read, [])
    finally:
        os._exit(0)
