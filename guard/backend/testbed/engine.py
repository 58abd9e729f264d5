"""
vLLM's engine inside this process, its scheduler at hand: for tests that step it themselves.

Only one can be had at a time, and one with n-gram drafting must be the process's last: vLLM 0.32 fails to start another
once numba is loaded. vLLM reads much of its environment when it is imported: the variables are set here before that.
"""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Iterator, Mapping
from typing import Any

from guard.backend.testbed.server import ENVIRONMENT, ServerOptions


class InprocessEngine:
    """
    An engine that does a step when told to.

    Args:
        llm: vLLM's `LLM`.
    """

    def __init__(self, llm: Any) -> None:
        self.llm = llm

    @property
    def engine(self) -> Any:
        """vLLM's `LLMEngine`: `add_request`, `step`, `abort_request`."""
        return self.llm.llm_engine

    @property
    def scheduler(self) -> Any:
        """vLLM's `Scheduler`."""
        return self.engine.engine_core.engine_core.scheduler

    @property
    def model_runner(self) -> Any:
        """vLLM's model runner, of the only worker."""
        return self.engine.engine_core.engine_core.model_executor.driver_worker.worker.model_runner

    def free_blocks(self) -> int:
        """Cache blocks that no request holds."""
        free: int = self.scheduler.kv_cache_manager.block_pool.get_num_free_blocks()
        return free

    def finish(self, limit: int = 10_000) -> list[Any]:
        """
        Step until no request is left.

        Args:
            limit: Most steps.

        Returns:
            All outputs, in order.

        Raises:
            RuntimeError: Requests are left after that many steps.
        """
        outputs: list[Any] = []
        for _ in range(limit):
            if not self.engine.has_unfinished_requests():
                return outputs
            outputs += self.engine.step()
        raise RuntimeError(f"requests are left after {limit} steps")


def engine_arguments(options: ServerOptions) -> dict[str, Any]:
    """
    Arguments of vLLM's `LLM` for what a server would be started with.

    Raises:
        ValueError: The options have command line words, which an engine does not take.
    """
    if options.args:
        raise ValueError(f"an engine in this process takes no command line: {' '.join(options.args)}")
    arguments: dict[str, Any] = {
        "model": str(options.model),
        "dtype": options.dtype,
        "max_model_len": options.max_model_len,
        "max_num_seqs": options.max_num_seqs,
        "block_size": options.block_size,
        "enforce_eager": True,
        "distributed_executor_backend": "uni",
        "disable_log_stats": False,
    }
    if options.speculative is not None:
        arguments |= {
            "speculative_config": dict(options.speculative),
            "per_request_spec_decode_metrics": "detailed",
        }
    return arguments


@contextlib.contextmanager
def inprocess_engine(options: ServerOptions, **arguments: Any) -> Iterator[InprocessEngine]:
    """
    An engine in this process; ended and its memory given back afterwards.

    Args:
        options: As for a server; its environment is set for the time being.
        arguments: Further arguments of vLLM's `LLM`, or others in place of those.

    Raises:
        ValueError: The options are not for an engine in this process.
    """
    wanted = {**engine_arguments(options), **arguments}
    variables: dict[str, str | None] = {**ENVIRONMENT, **options.env, "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
    if "kv_cache_memory_bytes" in arguments:
        # vLLM would take the variable, in whole GiB, rather than the argument.
        variables["VLLM_CPU_KVCACHE_SPACE"] = None
    with changed_environment(variables):
        from vllm import LLM  # noqa: PLC0415 - only in the vLLM environment
        from vllm.distributed.parallel_state import cleanup_dist_env_and_memory  # noqa: PLC0415

        engine = InprocessEngine(LLM(**wanted))
        try:
            yield engine
        finally:
            engine.engine.engine_core.shutdown()
            del engine.llm
            cleanup_dist_env_and_memory()
            gc.collect()


@contextlib.contextmanager
def changed_environment(variables: Mapping[str, str | None]) -> Iterator[None]:
    """This process's environment with these variables, None: without; as it was afterwards."""
    before = {name: os.environ.get(name) for name in variables}
    _set(variables)
    try:
        yield
    finally:
        _set(before)


def _set(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
