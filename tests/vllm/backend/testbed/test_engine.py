"""guard.backend.testbed.engine: an engine that is stepped by hand, and leaves no block behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from guard.backend.testbed.configurations import tiny
from guard.backend.testbed.engine import InprocessEngine, engine_arguments, inprocess_engine
from guard.backend.testbed.server import ServerOptions

PROMPT = {"prompt_token_ids": list(range(300, 380))}


@pytest.fixture(scope="module")
def engine() -> Iterator[InprocessEngine]:
    with inprocess_engine(tiny("draft")) as engine:
        yield engine


def parameters(**settings: Any) -> Any:
    from vllm import SamplingParams  # noqa: PLC0415

    return SamplingParams(temperature=0, ignore_eos=True, **settings)


def test_a_command_line_is_refused() -> None:
    with pytest.raises(ValueError, match="--stream-interval"):
        engine_arguments(ServerOptions(model=Path("m"), args=("--stream-interval", "8")))


def test_requests_run_to_their_end_step_by_step(engine: InprocessEngine) -> None:
    free = engine.free_blocks()
    for number in range(3):
        engine.engine.add_request(f"r{number}", PROMPT, parameters(max_tokens=20 + number))
    outputs = engine.finish()
    last = {output.request_id: output.outputs[0] for output in outputs if output.finished}
    assert {name: len(output.token_ids) for name, output in last.items()} == {"r0": 20, "r1": 21, "r2": 22}
    assert last["r2"].token_ids[:20] == last["r0"].token_ids
    assert engine.free_blocks() == free
    assert len(engine.model_runner.kv_cache_config.kv_cache_groups) >= 1


def test_an_abort_gives_the_blocks_back(engine: InprocessEngine) -> None:
    free = engine.free_blocks()
    engine.engine.add_request("gone", PROMPT, parameters(max_tokens=400))
    for _ in range(5):
        engine.engine.step()
    assert engine.free_blocks() < free
    engine.engine.abort_request(["gone"])
    engine.finish()
    assert engine.free_blocks() == free
    assert not engine.scheduler.requests


def test_an_endless_run_is_noticed(engine: InprocessEngine) -> None:
    engine.engine.add_request("long", PROMPT, parameters(max_tokens=400))
    with pytest.raises(RuntimeError, match="after 2 steps"):
        engine.finish(limit=2)
    engine.engine.abort_request(["long"])
    engine.finish()
