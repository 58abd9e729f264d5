"""
Real engines with forked tensor-parallel workers, and a load that meets everything LayerSplit has to bear.

vLLM spawns its workers on the CPU; forked from a process that has imported everything, they start in seconds, and what
is replaced here beforehand is replaced in them. A process that has computed with several threads cannot be forked: this
is for programs that do nothing else (`scenarios`, the benchmark).
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import sys
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from guard.backend.testbed.engine import InprocessEngine, inprocess_engine
from guard.backend.testbed.server import ServerOptions
from guard.backend.testbed.tiny import TinyShape, ensure_tiny
from guard.backend.vllm.layer_split.settings import CHECK, PREFETCH, TIMEOUT, VARIABLE
from guard.backend.vllm.plugin import install_layer_split, install_race_free

RACE_FREE = "GUARD_VLLM_RACE_FREE"
#: Bytes of a block of 32 rows in one layer: one head, 32 wide, keys and values in float32.
PAGE = 32 * 1 * 32 * 2 * 4


@contextlib.contextmanager
def engine(
    *,
    split: bool,
    layers: int = 8,
    ranks: int = 2,
    speculative: bool = True,
    prefetch: bool = True,
    check: bool = False,
    memory: int = 8 << 20,
    model_len: int = 768,
    seqs: int = 8,
    batched: int = 256,
    shape: TinyShape | dict[str, Any] | None = None,
    race_free: bool = False,
    **arguments: Any,
) -> Iterator[InprocessEngine]:
    """An engine of the tiny model with one KV head; ended afterwards."""
    import vllm  # noqa: PLC0415
    from vllm.distributed.device_communicators import shm_broadcast  # noqa: PLC0415
    from vllm.distributed.device_communicators.cpu_communicator import CpuCommunicator  # noqa: PLC0415
    from vllm.v1.executor import multiproc_executor  # noqa: PLC0415

    multiproc_executor.get_mp_context = lambda: multiprocessing.get_context("fork")
    # vLLM's other way: over gloo ranks sleep until the other one comes. In shared memory they spin, and on a machine
    # with more to do than cores a rank then spins away the time that the other one needs.
    CpuCommunicator._all_group_ranks_share_shm_group_name = lambda self: False
    # The same for whoever waits for work: an idle engine's workers would spin for a second of the other one's turn.
    shm_broadcast.SpinCondition.__init__.__defaults__ = (0.002,)
    os.environ[VARIABLE] = "1"
    if not _installed:
        assert install_layer_split(vllm.__version__)
        assert install_race_free(lambda: vllm.__version__, environ={RACE_FREE: "1"})
        _installed.append(True)
    if not isinstance(shape, TinyShape):
        shape = TinyShape(**{"num_layers": layers, "num_kv_heads": 1, **(shape or {})})
    maker = multiprocessing.get_context("fork").Process(target=ensure_tiny, args=(shape,))
    maker.start()
    maker.join()
    models = ensure_tiny(shape)
    eagle = {"method": "eagle", "model": str(models.eagle), "num_speculative_tokens": 3}
    environment = {
        VARIABLE: str(int(split)),
        PREFETCH: str(int(prefetch)),
        CHECK: str(int(check)),
        TIMEOUT: "20",
        RACE_FREE: str(int(race_free)),
    }
    options = ServerOptions(
        model=models.target,
        speculative=eagle if speculative else None,
        max_model_len=model_len,
        max_num_seqs=seqs,
        env=environment,
    )
    wanted = {
        "tensor_parallel_size": ranks,
        "distributed_executor_backend": "mp",
        "kv_cache_memory_bytes": memory,
        "max_num_batched_tokens": batched,
        **arguments,
    }
    with inprocess_engine(options, **wanted) as made:
        yield made


_installed: list[bool] = []


def transfer(name: str, role: str, **extra: Any) -> Any:
    """A KVTransferConfig of the push connector, for one half."""
    from vllm.config import KVTransferConfig  # noqa: PLC0415 - after the environment

    return KVTransferConfig(
        kv_connector="PushConnector",
        kv_connector_module_path="guard.backend.vllm.push.connector",
        kv_role=role,
        kv_load_failure_policy="recompute",
        kv_connector_extra_config={"name": name, **extra},
    )


def blocks(made: InprocessEngine) -> int:
    """Blocks of the cache."""
    count: int = made.engine.vllm_config.cache_config.num_gpu_blocks
    return count


class Ask(msgspec.Struct, frozen=True):
    """A request: token ids, tokens wanted, and after how many steps the client goes away (0: never)."""

    prompt: tuple[int, ...]
    tokens: int
    leaves: int = 0


def load(count: int, seed: int, longest: int = 700) -> list[Ask]:
    """Prompts short and long, most on one of a few prefixes; some clients go away."""
    dice = random.Random(seed)

    def words(number: int) -> tuple[int, ...]:
        return tuple(dice.randrange(260, 900) for _ in range(number))

    prefixes = [words(dice.randrange(64, longest - 200)) for _ in range(6)]
    asks = []
    for number in range(count):
        prompt = dice.choice(prefixes) + words(dice.randrange(1, 60)) if dice.random() < 0.7 else ()
        prompt = prompt or words(dice.choice([5, 40, 200, longest - 100, longest]))
        asks.append(Ask(prompt, dice.randrange(4, 24), dice.randrange(1, 6) if number % 12 == 5 else 0))
    return asks


class Answers(msgspec.Struct):
    """Token ids by request, and what was met on the way."""

    tokens: dict[int, tuple[int, ...]] = {}
    gone: set[int] = set()
    steps: int = 0
    cached: int = 0
    chunked: int = 0
    preempted: int = 0


def serve(made: InprocessEngine, asks: list[Ask], at_once: int = 12) -> Answers:
    """Answer all requests, some at a time; clients that go away are aborted."""
    from vllm import SamplingParams  # noqa: PLC0415

    found = Answers()
    waiting = list(enumerate(asks))
    ages: dict[int, int] = {}
    made.scheduler._preempt_request = counting(made.scheduler._preempt_request, found)
    while waiting or ages:
        if found.steps % 20 == 0:
            print(f"{len(waiting)} requests wait, {len(ages)} run", file=sys.stderr, flush=True)
        while waiting and len(ages) < at_once:
            number, ask = waiting.pop(0)
            wanted = SamplingParams(temperature=0, max_tokens=ask.tokens, ignore_eos=True)
            made.engine.add_request(str(number), {"prompt_token_ids": list(ask.prompt)}, wanted)
            ages[number] = 0
            found.chunked += len(ask.prompt) > made.scheduler.max_num_scheduled_tokens
        found.steps += 1
        for output in made.engine.step():
            number = int(output.request_id)
            found.tokens[number] = tuple(output.outputs[0].token_ids)
            if output.finished:
                ages.pop(number, None)
                found.cached += (output.num_cached_tokens or 0) > 0
        for number in list(ages):
            ages[number] += 1
            if asks[number].leaves and ages[number] >= asks[number].leaves:
                made.engine.abort_request([str(number)])
                found.gone.add(number)
                del ages[number]
    return found


def counting(original: Callable[..., Any], found: Answers) -> Callable[..., Any]:
    """The scheduler's preemption, counted."""

    def preempt(*arguments: Any, **named: Any) -> Any:
        found.preempted += 1
        return original(*arguments, **named)

    return preempt


def differing(left: Answers, right: Answers) -> list[int]:
    """Requests that both answered wholly, and differently."""
    both = set(left.tokens) & set(right.tokens) - left.gone - right.gone
    return sorted(number for number in both if left.tokens[number] != right.tokens[number])
