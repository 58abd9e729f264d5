"""
Measure a draft on vLLM: acceptance and speed by depth and temperature, in the form of every draft's profile.

Sampling with speculation is repaired meanwhile (`repair.py`): without that nothing above temperature 0 would mean
anything.
"""

from __future__ import annotations

import importlib.metadata
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from guard.backend.testbed.configurations import smollm2
from guard.backend.testbed.drafts import ensure_draft
from guard.backend.testbed.engine import inprocess_engine
from guard.backend.testbed.server import ServerOptions, VllmServer
from guard.data import data_dir
from guard.lab.files import replacing
from guard.lab.measure import PROMPTS, TEMPERATURES
from guard.lab.profile import PlainRow, Profile, Row, Step, make_row
from guard.lab.progress import best_progress


@dataclass(frozen=True)
class Generation:
    """
    One answer.

    Args:
        text: What was said.
        steps: Its verify steps; empty without speculation.
        tokens: Tokens generated. Unit: tokens.
    """

    text: str
    steps: tuple[Step, ...]
    tokens: int


@dataclass(frozen=True)
class Batch:
    """
    Answers to all prompts, generated together.

    Args:
        temperature: Sampling temperature.
        generations: One a prompt.
        seconds: From the first request to the last answer.
    """

    temperature: float
    generations: tuple[Generation, ...]
    seconds: float

    @property
    def speed(self) -> float:
        """Tokens per second of all together, prompts included."""
        return sum(g.tokens for g in self.generations) / max(self.seconds, 1e-9)


def steps_of(metrics: Mapping[str, Any] | None) -> tuple[Step, ...]:
    """
    Verify steps of an answer, those without a draft left out.

    Args:
        metrics: The answer's `metrics`, as `--per-request-spec-decode-metrics detailed` gives them.
    """
    detail = (metrics or {}).get("speculative_decoding") or {}
    pairs = zip(detail.get("per_step_accepted", ()), detail.get("per_step_drafted", ()), strict=True)
    return tuple(Step(accepted, drafted) for accepted, drafted in pairs if drafted)


async def generate(
    server: VllmServer,
    prompt: str,
    *,
    temperature: float = 0.0,
    seed: int = 0,
    tokens: int = 128,
    extra: Mapping[str, Any] | None = None,
) -> Generation:
    """
    Ask a server one question, not streamed.

    Args:
        server: A running one.
        prompt: The user's message.
        temperature: Sampling temperature.
        seed: Sampling seed.
        tokens: Most tokens to generate. Unit: tokens.
        extra: Further fields of the request's body.
    """
    body = {
        "model": server.options.name,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": tokens,
        "temperature": temperature,
        "seed": seed,
        **(extra or {}),
    }
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=600)) as session,
        session.post(f"{server.url}/v1/chat/completions", json=body) as reply,
    ):
        reply.raise_for_status()
        answer = await reply.json()
    text = answer["choices"][0]["message"]["content"]
    return Generation(text, steps_of(answer.get("metrics")), answer["usage"]["completion_tokens"])


def measure_options(
    options: ServerOptions, temperatures: Sequence[float], prompts: Sequence[str], tokens: int
) -> list[Batch]:
    """
    Run all prompts together on an engine in this process, once for each temperature.

    Args:
        options: As for a server.
        temperatures: Sampling temperatures.
        prompts: User messages.
        tokens: Most tokens to generate for each. Unit: tokens.
    """
    with inprocess_engine(options) as engine:
        from vllm import SamplingParams  # noqa: PLC0415 - only in the vLLM environment

        chats = [[{"role": "user", "content": prompt}] for prompt in prompts]

        def batch(temperature: float, tokens: int) -> Batch:
            parameters = [
                SamplingParams(temperature=temperature, seed=seed, max_tokens=tokens)
                for seed in range(1, len(chats) + 1)
            ]
            started = time.monotonic()
            outputs = engine.llm.chat(chats, parameters, use_tqdm=False)
            seconds = time.monotonic() - started
            return Batch(temperature, tuple(_generation(output.outputs[0]) for output in outputs), seconds)

        # The first requests pay for what is touched for the first time; the prompts are in the cache from then on.
        batch(0.0, 2)
        return [batch(temperature, tokens) for temperature in temperatures]


def _generation(completion: Any) -> Generation:
    detail = completion.spec_decode_metrics
    found = detail and {"per_step_accepted": detail.per_step_accepted, "per_step_drafted": detail.per_step_drafted}
    return Generation(completion.text, steps_of({"speculative_decoding": found}), len(completion.token_ids))


def measure_draft(
    draft: str,
    *,
    depths: Sequence[int] = (2, 3, 4),
    temperatures: Sequence[float] = TEMPERATURES,
    prompts: Sequence[str] = PROMPTS,
    tokens: int = 128,
) -> Profile:
    """
    Measure one draft at several depths and temperatures.

    Args:
        draft: Name of its recipe.
        depths: Draft depths. Unit: tokens.
        temperatures: Sampling temperatures.
        prompts: User messages.
        tokens: Most tokens to generate for each. Unit: tokens.

    Raises:
        ConfigError: There is no such draft.
        SetupError: A model cannot be made.
    """
    progress = best_progress()
    ensure_draft(draft, progress)
    rows: list[Row] = []
    for depth in depths:
        progress.start(f"{draft} at depth {depth}")
        for batch in measure_options(smollm2(draft, depth=depth), temperatures, prompts, tokens):
            steps = [g.steps for g in batch.generations if g.steps]
            rows.append(make_row(steps, depth, batch.temperature, batch.speed))
    progress.start("without speculation")
    plain = measure_options(smollm2(""), temperatures, prompts, tokens)
    return Profile(
        draft=draft,
        engine=f"vLLM {importlib.metadata.version('vllm')}, sampling repaired",
        conditions=f"{platform.machine()}, 1 compute thread, {len(prompts)} requests at a time, float32",
        num_prompts=len(prompts),
        tokens_per_prompt=tokens,
        plain=tuple(PlainRow(batch.temperature, round(batch.speed, 1)) for batch in plain),
        rows=tuple(rows),
    )


def write_profile(profile: Profile, folder: Path | None = None) -> Path:
    """
    Write a draft's `profile.yaml`.

    Args:
        profile: What was measured.
        folder: Where drafts stand; the project's by default.

    Returns:
        The file.
    """
    path = (folder or data_dir("draft_models")) / profile.draft / "profile.yaml"
    with replacing(path) as temporary:
        head = b"# Written by `python -m guard.backend.testbed measure`; do not edit.\n"
        temporary.write_bytes(head + msgspec.yaml.encode(profile))
    return path
