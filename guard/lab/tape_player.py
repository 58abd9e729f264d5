"""
An upstream that plays a recording: the chunks of a case as vLLM with the guard's plugin sends them
(those of a case without speculation as a server without any signal does), or the events of a captured
stream as they are.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import msgspec
from aiohttp import web

from guard.errors import ConfigError, ProtocolError, SetupError
from guard.lab.cases import Case, CaseChunk, read_cases
from guard.proto.openai import Route, decode_chunk, is_done
from guard.proto.sse import SseParser


class Recorded(NamedTuple):
    """
    A stream that can be played.

    Args:
        name: For the report.
        route: Path it is served on.
        engine: Signal adapter that reads it.
        case: The case it is; None for a captured stream.
        events: Its server-sent events; of a case, made when it is played.
        num_speculative_tokens: Draft depth; None when unknown. Unit: tokens.
    """

    name: str
    route: str
    engine: str
    case: Case | None
    events: tuple[bytes, ...]
    num_speculative_tokens: int | None


class Play(NamedTuple):
    """
    One request that the upstream served.

    Args:
        seconds: How long.
        tokens: Tokens sent, as far as a case tells; else events.
        whole: Whether the stream ended by itself; False when the guard hung up.
    """

    seconds: float
    tokens: int
    whole: bool


def load(path: Path) -> list[Recorded]:
    """
    Recordings of a file: cases, or one captured stream if its name ends in `.sse` or it begins as one.

    Raises:
        ConfigError: It cannot be read, or is neither.
    """
    if path.suffix != ".sse" and not _begins_as_stream(path):
        return [of_case(case) for case in read_cases(path)]
    try:
        return [of_sse(path.name, path.read_bytes())]
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", path=str(path)) from error
    except ProtocolError as error:
        raise ConfigError(f"not a captured stream: {error}", path=str(path)) from error


def _begins_as_stream(path: Path) -> bool:
    """Whether a file is what curl wrote of a stream, whatever it is called; a pipe can be read once only."""
    with contextlib.suppress(OSError):
        if path.is_file():
            with path.open("rb") as file:
                return file.read(64).lstrip().startswith((b"data:", b"event:", b"id:", b": "))
    return False


def of_case(case: Case) -> Recorded:
    """A case as a recording on the chat route."""
    depth = case.num_speculative_tokens
    return Recorded(case.id, Route.CHAT.value, "vllm" if depth else "text", case, (), depth or None)


def of_sse(name: str, data: bytes) -> Recorded:
    """
    A captured stream as a recording; route and engine are read off its chunks.

    Raises:
        ProtocolError: It holds no chunk of either route.
    """
    parser = SseParser()
    events = [*parser.feed(data), *parser.finish()]
    chunks = [decode_chunk(event.data) for event in events if event.data is not None and not is_done(event.data)]
    choices = [choice for chunk in chunks for choice in chunk.choices]
    if not choices:
        raise ProtocolError("no chunk of an answer in it")
    engine = "text"
    if any(chunk.timings is not None for chunk in chunks):
        engine = "llama.cpp"
    elif any(choice.token_ids is not None for choice in choices) or any(chunk.metrics is not None for chunk in chunks):
        engine = "vllm"
    route = Route.COMPLETIONS if all(choice.delta is None for choice in choices) else Route.CHAT
    return Recorded(name, route.value, engine, None, tuple(event.raw for event in events), None)


class TapePlayer:
    """
    Serves the recording that `load` put in, on loopback only, for as long as its context lasts.

    Args:
        port: Port; 0 takes a free one.
        tokens_per_second: Pace; 0 plays as fast as it is read.
        heals: Whether attempts after the first play only what came before the fault. Otherwise every
            attempt goes wrong in the same way, as a greedy one on the same cache does.
    """

    def __init__(self, *, port: int = 0, tokens_per_second: float = 0.0, heals: bool = False) -> None:
        self.url = ""
        self.plays: list[Play] = []
        self._port = port
        self._pace = tokens_per_second
        self._heals = heals
        self._recorded: Recorded | None = None
        self._runner: web.AppRunner | None = None

    def insert(self, recorded: Recorded) -> None:
        """Play this from now on, and count its plays anew."""
        self._recorded = recorded
        self.plays = []

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=64 << 20)
        for route in Route:
            app.router.add_post(route.value, self._serve)
        # What a guard asks to find out the engine.
        app.router.add_get("/version", self._version)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1.0, access_log=None)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        except OSError as error:
            await self._runner.cleanup()
            raise SetupError(f"cannot listen on 127.0.0.1:{self._port}: {error.strerror}") from error
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _version(self, _request: web.Request) -> web.Response:
        if self._recorded is not None and self._recorded.engine != "vllm":
            raise web.HTTPNotFound
        return web.json_response({"version": "replay"})

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        recorded = self._recorded
        if recorded is None or request.path != recorded.route:
            return web.json_response({"error": {"message": "nothing to play on this route"}}, status=404)
        body: object = msgspec.json.decode(await request.read())
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        started, sent, whole = time.monotonic(), 0, False
        number = len(self.plays)
        self.plays.append(Play(0.0, 0, False))
        events = self._events(recorded, body, number)
        try:
            async with contextlib.aclosing(events):
                async for data, tokens in events:
                    await response.write(data)
                    sent += tokens
            whole = True
        except ConnectionError:
            # The guard hung up: its way to abort.
            pass
        finally:
            self.plays[number] = Play(time.monotonic() - started, sent, whole)
        return response

    async def _events(self, recorded: Recorded, body: object, number: int) -> AsyncGenerator[tuple[bytes, int], None]:
        """The events of one play with the tokens each brings, at the set pace."""
        played = _case_events(recorded, body, heal=self._heals and number > 0)
        for data, tokens in played:
            if self._pace > 0:
                await asyncio.sleep(tokens / self._pace)
            else:
                # Otherwise the whole answer is in the sockets before the guard can hang up.
                await asyncio.sleep(0)
            yield data, tokens


def _case_events(recorded: Recorded, body: object, *, heal: bool) -> list[tuple[bytes, int]]:
    case = recorded.case
    if case is None:
        return [(event, 1) for event in recorded.events]
    chunks: Sequence[CaseChunk] = case.chunks
    if heal and case.first_bad_token is not None:
        chunks = _before(chunks, case.first_bad_token)
    asked = isinstance(body, dict) and body.get("logprobs") is True
    return chat_events(case, _without(chunks, continued_text(body)), logprobs=asked)


def _before(chunks: Sequence[CaseChunk], token: int) -> list[CaseChunk]:
    """The chunks that are over by a token."""
    kept, tokens = [], 0
    for chunk in chunks:
        tokens += chunk.tokens
        if tokens > token:
            break
        kept.append(chunk)
    return kept


def continued_text(body: object) -> str:
    """The assistant's text that a chat request asks to continue; empty when it does not."""
    if not isinstance(body, dict) or not body.get("continue_final_message"):
        return ""
    messages = body.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else None
    content = last.get("content") if isinstance(last, dict) else None
    return content if isinstance(content, str) else ""


def _without(chunks: Sequence[CaseChunk], text: str) -> list[CaseChunk]:
    """The chunks less the text that the client already has."""
    left, kept = len(text), []
    for chunk in chunks:
        if left >= len(chunk.text) and left:
            left -= len(chunk.text)
            continue
        kept.append(chunk._replace(text=chunk.text[left:]))
        left = 0
    return kept


def chat_events(case: Case, chunks: Sequence[CaseChunk], *, logprobs: bool = False) -> list[tuple[bytes, int]]:
    """
    Chunks as server-sent events of the chat route, each with its tokens.

    With speculation they have vLLM's token ids and the plugin's field; without, only a running count.

    Args:
        case: Where they come from.
        chunks: What to say.
        logprobs: Tell log-probabilities, where the case has them.
    """
    events = [(_event(case, {"role": "assistant", "content": ""}), 0)]
    token = 0
    for chunk in chunks:
        extra: dict[str, Any] = {}
        ids = list(range(token, token + chunk.tokens)) if case.num_speculative_tokens else None
        token += chunk.tokens
        if ids is None:
            extra["usage"] = {"prompt_tokens": 0, "completion_tokens": token, "total_tokens": token}
        elif chunk.accepted is not None:
            step = {"per_step_accepted": [chunk.accepted], "per_step_drafted": [chunk.drafted]}
            extra["metrics"] = {"speculative_decoding": step}
        told = chunk.logprobs if logprobs else ()
        events.append((_event(case, {"content": chunk.text}, token_ids=ids, told=told, extra=extra), chunk.tokens))
    events.append((_event(case, {}, finish="stop"), 0))
    return [*events, (b"data: [DONE]\n\n", 0)]


def _event(
    case: Case,
    delta: dict[str, str],
    *,
    token_ids: list[int] | None = None,
    finish: str | None = None,
    told: Sequence[float] = (),
    extra: dict[str, Any] | None = None,
) -> bytes:
    choice: dict[str, Any] = {"index": 0, "delta": delta}
    if told:
        empty: dict[str, Any] = {"token": "", "bytes": None, "top_logprobs": []}
        choice["logprobs"] = {"content": [{**empty, "logprob": value} for value in told]}
    choice["finish_reason"] = finish
    if token_ids is not None:
        choice["token_ids"] = token_ids
    chunk = {"id": f"replay-{case.id}", "object": "chat.completion.chunk", "created": 0, "model": "replay"}
    return b"data: " + msgspec.json.encode({**chunk, "choices": [choice], **(extra or {})}) + b"\n\n"
