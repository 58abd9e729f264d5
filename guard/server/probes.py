"""
Questions put to a live backend that prove what it can do. Nothing is believed that was not tried.

Each probe is a short real generation; all together they cost a backend a few hundred tokens. What speaks HTTP is
handed in, so that the doctor and the guard ask the same questions.

Source:
    Fields and gauges: vLLM 0.32 vllm/entrypoints/openai, vllm/v1/metrics/loggers.py; llama.cpp tools/server;
    SGLang python/sglang/srt/metrics/collector.py.
"""

from __future__ import annotations

import asyncio
import enum
import math
import re
import uuid
from collections.abc import Mapping
from typing import Any, Protocol

import msgspec

from guard.proto.openai import CHAT, COMPLETIONS, decode_chunk, is_done, sample_texts
from guard.signals.registry import adapter_for
from guard.types import StepAcceptance

#: Tokens of the generation whose continuation is tried. Unit: tokens.
TOKENS = 32
#: A backend that runs an aborted request longer than this does not stop it. Unit: seconds.
ABORT_SECONDS = 5.0
#: Characters that a continuation must share with the whole answer, if it is as long.
SAME_CHARACTERS = 12
#: Largest difference between a log-probability as emitted and as computed again that a healthy backend may show.
HEALTHY_DIFFERENCE = 1.0

_PROMPT = "Explain in a few sentences how a lighthouse works, and why ships still need one."
LONG_PROMPT = "The keeper climbed the stairs and lit the lamp before the storm came in. " * 24  # fills blocks
#: Drafters that look the draft up in the text so far have none for an answer that repeats nothing.
COPY_PROMPT = f"Say this once more, to the letter: {LONG_PROMPT}"
#: Gauge of requests that run, by engine.
_RUNNING = {
    "vllm": "vllm:num_requests_running",
    "llama.cpp": "llamacpp:requests_processing",
    "sglang": "sglang:num_running_reqs",
}
_HITS = "vllm:prefix_cache_hits_total"
_METRICS_REMEDY = {
    "llama.cpp": "start llama-server with --metrics",
    "sglang": "start SGLang with --enable-metrics",
}


class Asker(Protocol):
    """Speaks HTTP with one backend. Raises OSError when it cannot be reached."""

    async def get(self, path: str) -> tuple[int, bytes]:
        """Status and body."""
        ...

    async def post(self, path: str, body: Mapping[str, Any]) -> tuple[int, bytes]:
        """Status and body of a JSON request."""
        ...

    async def stream(self, path: str, body: Mapping[str, Any], events: int) -> list[bytes]:
        """Data of the first so many server-sent events; then the connection is closed."""
        ...


class State(enum.StrEnum):
    """What a probe came to."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


class Check(msgspec.Struct, frozen=True):
    """
    One capability.

    Args:
        name: Which.
        state: Whether it was proven.
        detail: What was seen.
        remedy: What to do where it is not there; empty where nothing can be done or needs to be.
    """

    name: str
    state: State
    detail: str
    remedy: str = ""


class Backend(msgspec.Struct, frozen=True):
    """
    Who answers.

    Args:
        engine: "vllm", "llama.cpp", "sglang", or "text" for any other.
        version: As it tells it; empty where it does not.
        model: First model it serves; empty where it does not tell.
        max_tokens: Longest context it tells; 0 where it does not. Unit: tokens.
    """

    engine: str
    version: str
    model: str = ""
    max_tokens: int = 0


async def identify(asker: Asker) -> Backend:
    """Ask which engine it is, of which version, with which model."""
    engine, version = await engine_and_version(asker)
    _, models = await _json(asker, "/v1/models")
    served = models.get("data") or [{}]
    first = served[0] if isinstance(served, list) and isinstance(served[0], dict) else {}
    longest = first.get("max_model_len")
    if engine == "llama.cpp":
        _, props = await _json(asker, "/props")
        settings = props.get("default_generation_settings")
        longest = settings.get("n_ctx") if isinstance(settings, dict) else None
    return Backend(engine, version, str(first.get("id", "")), longest if isinstance(longest, int) else 0)


async def engine_and_version(asker: Asker, known: str = "") -> tuple[str, str]:
    """
    The cheap part of `identify`, asked again from time to time.

    Args:
        asker: Speaks with the backend.
        known: Engine it was before: asked first, so that it is not asked for routes it has never had.
    """
    for engine in sorted(_VERSIONS, key=lambda engine: engine != known):
        route, key, version_route, version_key = _VERSIONS[engine]
        status, answer = await _json(asker, route)
        if status == 200 and key in answer:
            if version_route != route:
                _, answer = await _json(asker, version_route)
            return engine, str(answer.get(version_key, ""))
    return "text", ""


#: By engine: a route that only it has and a key of its answer; where its version is told, and under which key.
_VERSIONS = {
    "llama.cpp": ("/props", "default_generation_settings", "/props", "build_info"),
    "sglang": ("/get_model_info", "model_path", "/get_server_info", "version"),
    "vllm": ("/version", "version", "/version", "version"),
}


async def check_signal(asker: Asker, backend: Backend) -> Check:
    """Whether acceptance comes while a stream runs, read with the guard's own adapter."""
    name = "signal"
    steps = await _steps(asker, backend, _PROMPT)
    if not any(step.drafted > 0 or step.accepted > 0 for step in steps):
        steps = await _steps(asker, backend, COPY_PROMPT)
    if exact := [step for step in steps if step.exact and step.drafted > 0]:
        drafted, accepted = sum(step.drafted for step in exact), sum(step.accepted for step in exact)
        return Check(name, State.YES, f"exact in each chunk: {accepted} of {drafted} drafted tokens were accepted")
    if any(step.drafted < 0 and step.accepted > 0 for step in steps):
        remedy = "install this package beside vLLM and set GUARD_VLLM_ACCEPTANCE=1 for exact counts"
        return Check(name, State.YES, "inferred from the number of tokens in a chunk", remedy)
    known = {
        "vllm": "start vLLM with --speculative-config, and this package's plugin for exact counts",
        "llama.cpp": "start llama-server with a draft model (-md) or --spec-type",
        "sglang": "SGLang tells acceptance only at the end of an answer: text is judged, acceptance is not",
    }
    remedy = known.get(backend.engine, "no acceptance is known of this engine: policies judge its text alone")
    return Check(name, State.NO, "no verify step with a draft was seen", remedy)


async def _steps(asker: Asker, backend: Backend, content: str) -> list[StepAcceptance]:
    adapter = adapter_for(backend.engine, None)
    body = chat_body(backend, max_tokens=TOKENS, stream=True, content=content) | dict(adapter.switches())
    chunks = [data for data in await asker.stream("/v1/chat/completions", body, 4 * TOKENS) if not is_done(data)]
    return [step for data in chunks for one in adapter.observe(decode_chunk(data), sample_texts) for step in one.steps]


async def check_abort(asker: Asker, backend: Backend) -> Check:
    """Whether closing the connection ends the generation: the gauge of running requests must fall again."""
    name, engine = "abort", backend.engine
    before = await running_requests(asker, engine)
    if before is None:
        remedy = _METRICS_REMEDY.get(engine, "")
        return Check(name, State.UNKNOWN, "the backend has no gauge of running requests", remedy)
    most = max(min(backend.max_tokens or 4096, 8192) - 256, 64)
    body = chat_body(backend, max_tokens=most, stream=True) | {"ignore_eos": True}
    if not await asker.stream("/v1/chat/completions", body, 4):
        return Check(name, State.UNKNOWN, "the backend sent no stream that could be closed")
    began = asyncio.get_running_loop().time()
    while (seconds := asyncio.get_running_loop().time() - began) < ABORT_SECONDS:
        now = await running_requests(asker, engine)
        if now is not None and now <= before:
            return Check(name, State.YES, f"the gauge was back at {now:g} after {seconds:.2f} s")
        await asyncio.sleep(0.05)
    remedy = "aborted answers go on using the backend; look for a proxy in between that buffers or keeps connections"
    return Check(name, State.NO, f"a closed stream still ran after {ABORT_SECONDS:g} s", remedy)


async def check_resume(asker: Asker, backend: Backend, *, chat: bool) -> Check:
    """Whether a partial answer is continued where it stopped, by the greedy text it must continue with."""
    family = CHAT if chat else COMPLETIONS
    name = "resume_chat" if chat else "resume_completions"
    blocker = family.resume_blocker(backend.engine)
    if blocker:
        return Check(name, State.NO, blocker, "bad answers are restarted only before any text left, else cut")
    path = family.paths[0]
    body = chat_body(backend, max_tokens=TOKENS) if chat else _completion(backend, max_tokens=TOKENS)
    whole = await _streamed_text(asker, path, body)
    half = _word_boundary(whole)
    if not half:
        return Check(name, State.UNKNOWN, f"no answer to continue: {whole[:24]!r}")
    request = family.parse(path, msgspec.json.encode(body))
    fields = family.resume_fields(request, whole[:half], TOKENS // 2, backend.engine)
    rest = await _streamed_text(asker, path, body | fields)
    wanted = whole[half:]
    shared = _shared(rest, wanted)
    if shared >= min(SAME_CHARACTERS, len(wanted)):
        return Check(name, State.YES, f"continued in the middle of a sentence, {shared} characters as without a break")
    return Check(name, State.NO, f"continued with {rest[:24]!r} where {wanted[:24]!r} was due", _RESUME_REMEDY)


_RESUME_REMEDY = "a bad answer of which text has left is then cut; hold more back (hold_back) so that it can restart"


async def check_rescore(asker: Asker, backend: Backend) -> Check:
    """Whether emitted tokens can be scored again: the log-probabilities of a prompt must match those told before."""
    name, engine = "rescoring", backend.engine
    remedy = "leave confirm and audit out of policy and configuration: they would only ever be undecided"
    if engine != "vllm":
        return Check(name, State.NO, await _refusal(asker, backend), remedy)
    # Sampled, so that a server that tells log-probabilities after temperature and penalties is found out.
    sampling = {"temperature": 0.5, "seed": 1, "frequency_penalty": 0.5}
    body = _completion(backend, max_tokens=TOKENS) | sampling | {"logprobs": 0, "return_token_ids": True}
    status, answer = await _post(asker, "/v1/completions", body)
    try:
        choice = answer["choices"][0]
        prompt, emitted = choice["prompt_token_ids"], choice["token_ids"]
        told = choice["logprobs"]["token_logprobs"]
        again = await score_tokens(asker, backend.model, prompt, emitted)
        worst = max(abs(a - b) for a, b in zip(told, again, strict=True))
    except (KeyError, IndexError, TypeError, ValueError) as error:
        return Check(name, State.NO, f"status {status}, {type(error).__name__}: {error}", remedy)
    detail = f"{len(again)} tokens scored again, largest difference {worst:.4f}"
    if worst <= HEALTHY_DIFFERENCE:
        return Check(name, State.YES, detail)
    return Check(name, State.NO, detail, _DISAGREES)


async def _refusal(asker: Asker, backend: Backend) -> str:
    """Why not, with what the backend answered when it was asked as OpenAI's route has it."""
    body = _completion(backend, max_tokens=1) | {"echo": True, "logprobs": 1}
    status, answer = await _post(asker, "/v1/completions", body)
    told = msgspec.json.encode(answer.get("choices")).count(b'"logprob":')
    reason = REFUSALS.get(backend.engine, REFUSALS["text"])
    return f"{reason} (asked with echo: status {status}, {min(told, 1)} of more than 20 told)"


_DISAGREES = "start vLLM with --logprobs-mode raw_logprobs (its default); else its cache or its hardware is at fault"

#: Why emitted tokens cannot be scored again, by engine.
REFUSALS = {
    "llama.cpp": "its server tells no log-probability of a prompt's tokens, and none of accepted draft tokens",
    "sglang": "its OpenAI routes tell no token ids",
    "text": "only vLLM is known to tell the log-probabilities of a prompt",
}


def score_request(model: str, prompt: list[int], emitted: list[int], salt: str) -> dict[str, Any]:
    """
    The body that has vLLM compute emitted tokens again, on a cache that nothing was in before.

    Args:
        model: Served name; empty where there is only one.
        prompt: Token ids of the prompt.
        emitted: Token ids of the answer.
        salt: Never used before.
    """
    body = {"prompt": [*prompt, *emitted], "max_tokens": 1, "temperature": 0, "prompt_logprobs": 0, "cache_salt": salt}
    return body | ({"model": model} if model else {})


def read_scores(body: bytes, prompt: list[int], emitted: list[int]) -> list[float]:
    """
    Log-probabilities of the emitted tokens from the backend's answer.

    Raises:
        ValueError: It does not tell one for each.
    """
    try:
        told = msgspec.json.decode(body)["choices"][0]["prompt_logprobs"]
        return [float(told[place][str(token)]["logprob"]) for place, token in enumerate(emitted, start=len(prompt))]
    except (msgspec.DecodeError, RecursionError, KeyError, IndexError, TypeError) as error:
        raise ValueError(f"no log-probabilities of the prompt ({type(error).__name__}: {error})") from error


async def score_tokens(asker: Asker, model: str, prompt: list[int], emitted: list[int]) -> list[float]:
    """Ask for and read them. Raises ValueError when the backend does not tell them."""
    status, body = await asker.post("/v1/completions", score_request(model, prompt, emitted, uuid.uuid4().hex))
    if status != 200:
        raise ValueError(f"refused with status {status}: {body[:200]!r}")
    return read_scores(body, prompt, emitted)


async def running_requests(asker: Asker, engine: str) -> float | None:
    """Requests that the backend runs now; None where it does not tell."""
    return await _gauge(asker, _RUNNING[engine]) if engine in _RUNNING else None


async def _gauge(asker: Asker, name: str) -> float | None:
    status, body = await asker.get("/metrics")
    if status != 200:
        return None
    found = re.findall(rf"^{re.escape(name)}(?:\{{[^}}]*\}})? (\S+)$", body.decode(errors="replace"), re.MULTILINE)
    try:
        total = sum(map(float, found))
    except ValueError:
        return None
    return total if found and math.isfinite(total) else None


async def cached_tokens(asker: Asker, engine: str, body: Mapping[str, Any]) -> int | None:
    """How much of the prompt came from the cache. Unit: tokens."""
    before = await _gauge(asker, _HITS) if engine == "vllm" else None
    _, answer = await _post(asker, "/v1/chat/completions", body)
    timings = answer.get("timings")
    if isinstance(timings, dict) and isinstance(timings.get("cache_n"), int):
        return int(timings["cache_n"])
    usage = answer.get("usage")
    details = usage.get("prompt_tokens_details") if isinstance(usage, dict) else None
    if isinstance(details, dict) and isinstance(details.get("cached_tokens"), int):
        return int(details["cached_tokens"])
    after = await _gauge(asker, _HITS) if before is not None else None
    return None if before is None or after is None else round(after - before)


def chat_body(backend: Backend, *, max_tokens: int, stream: bool = False, content: str = _PROMPT) -> dict[str, Any]:
    """A greedy request of the chat route. Unit of `max_tokens`: tokens."""
    body = {"messages": [{"role": "user", "content": content}], "max_tokens": max_tokens, "temperature": 0}
    return _named(backend, body | ({"stream": True} if stream else {}))


def _completion(backend: Backend, *, max_tokens: int) -> dict[str, Any]:
    return _named(backend, {"prompt": f"{_PROMPT}\n\nA lighthouse", "max_tokens": max_tokens, "temperature": 0})


def _named(backend: Backend, body: dict[str, Any]) -> dict[str, Any]:
    return body | ({"model": backend.model} if backend.model else {})


async def _streamed_text(asker: Asker, path: str, body: dict[str, Any]) -> str:
    """Streamed as the guard does it: llama.cpp's whole answers begin with the text that they continue."""
    chunks = [
        decode_chunk(data)
        for data in await asker.stream(path, body | {"stream": True}, 4 * TOKENS)
        if not is_done(data)
    ]
    return "".join(text for chunk in chunks for choice in chunk.choices for _, text in sample_texts(choice))


def _word_boundary(text: str) -> int:
    """Before a space near the middle, where hardly any tokenizer joins what was apart; 0 where there is none."""
    after = text.find(" ", len(text) // 2)
    return after if 0 < after < len(text) - 1 else 0


def _shared(a: str, b: str) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


async def _json(asker: Asker, path: str) -> tuple[int, dict[str, Any]]:
    return _object(*await asker.get(path))


async def _post(asker: Asker, path: str, body: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
    return _object(*await asker.post(path, body))


def _object(status: int, body: bytes) -> tuple[int, dict[str, Any]]:
    try:
        answer = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return status, {}
    return status, answer if isinstance(answer, dict) else {}
