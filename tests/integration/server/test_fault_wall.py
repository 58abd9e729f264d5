"""What a client gets when its backend fails, on every guarded route: makes the table in guard/proto/README.md."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest

from guard.config import TimeoutSettings
from guard.proto.sse import SseParser
from tests.integration.server.conftest import guarded
from tests.integration.server.scripted import CHUNKED_SSE, OK_SSE, backend, chunked
from tests.unit.core.transcript import policy
from tests.unit.proto.streams import SGLANG_CUMULATIVE, SGLANG_ERROR, named, plain, recorded

README = Path(__file__).parents[3] / "guard" / "proto" / "README.md"
Script = list[bytes | float | None]


class Form(NamedTuple):
    """One route: how to ask, what a backend says, in events; and its own error event."""

    engine: str
    path: str
    body: dict[str, Any]
    stream: bytes
    error: bytes

    @property
    def events(self) -> list[bytes]:
        return [event.raw for event in SseParser().feed(self.stream)]

    @property
    def half(self) -> bytes:
        """All but the end, some text included."""
        return b"".join(self.events[: 2 * len(self.events) // 3])


FAILED = {"message": "boom", "type": "server_error", "code": 500}
ASK: dict[str, Any] = {"model": "m", "return_token_ids": True, "timings_per_token": True}
USER = [{"role": "user", "content": "hi"}]
DONE = b"data: [DONE]\n\n"
BOOM = plain({"error": FAILED}, done=False)
FORMS = [
    Form("vllm", "/v1/chat/completions", {**ASK, "messages": USER}, recorded("vllm_chat"), BOOM),
    Form("vllm", "/v1/completions", {**ASK, "prompt": "a"}, recorded("vllm_repetition"), BOOM),
    Form("vllm", "/v1/responses", {**ASK, "input": "hi"}, recorded("vllm_responses"),
         named({"type": "response.failed", "response": {"id": "r", "status": "failed", "error": FAILED}})),
    Form("vllm", "/v1/messages", {**ASK, "messages": USER, "max_tokens": 9}, recorded("vllm_messages"),
         named({"type": "error", "error": {"type": "internal_error", "message": "boom"}})),
    Form("sglang", "/generate", {"text": "a"}, SGLANG_CUMULATIVE, plain(SGLANG_ERROR, done=False)),
    Form("llama.cpp", "/completion", {**ASK, "prompt": "a"}, recorded("llama_completion"), BOOM),
]  # fmt: skip


def http(status: str, *headers: str, body: bytes = b"") -> bytes:
    lines = [f"HTTP/1.1 {status}", *headers, "Connection: close", f"Content-Length: {len(body)}"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


JSON = "Content-Type: application/json"
WRONG_LENGTH = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 999999\r\n\r\n"
#: What the backend does, by the name of the fault.
FAULTS: dict[str, Callable[[Form], Script]] = {
    "closes before its headers": lambda _: [],
    "closes after its headers": lambda _: [OK_SSE],
    "closes in the middle of an event": lambda form: [OK_SSE, form.half, form.events[-2][:-5]],
    "closes in the middle of a character": lambda form: [OK_SSE, form.half, b'data: {"a":"\xf0\x9f'],
    "breaks the chunked encoding": lambda form: [CHUNKED_SSE, chunked(form.half), 0.02, b"zz\r\n"],
    "closes after its last event but one": lambda form: [OK_SSE, b"".join(form.events[:-1])],
    "sends an error event after some text": lambda form: [OK_SSE, form.half, 0.05, form.error],
    "sends an error event, then `[DONE]`": lambda form: [OK_SSE, form.half, 0.05, form.error, 0.05, DONE],
    "sends an error event, then nothing more": lambda form: [OK_SSE, form.half, 0.05, form.error, 30.0],
    "sends no JSON": lambda form: [OK_SSE, form.half, b"data: {broken\n\n", None],
    "stalls after some text": lambda form: [OK_SSE, form.half, 30.0],
    "stalls before its headers": lambda _: [30.0],
    "trickles byte by byte": lambda form: [OK_SSE, *[form.stream[i : i + 1] for i in range(len(form.stream))]],
    "sends 103 first": lambda form: [b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + OK_SSE, form.stream],
    "redirects (307)": lambda _: [http("307 Temporary Redirect", "Location: /elsewhere")],
    "refuses (404)": lambda _: [http("404 Not Found", JSON, body=b'{"error":"no such model"}')],
    "fails (500)": lambda _: [http("500 Internal Server Error", JSON, body=b'{"error":"boom"}')],
    "answers 200 with JSON": lambda _: [http("200 OK", JSON, body=b'{"own": "answer"}')],
    "promises more bytes than it sends": lambda form: [WRONG_LENGTH, form.half],
}


async def told(form: Form, script: Script, *, stream: bool) -> str:
    """What the client got, in words."""
    timeouts = TimeoutSettings(idle=0.3 if 30.0 in script else 20.0, drain=0.2)
    async with (
        backend(lambda _: script) as upstream,
        guarded(upstream.url, policy=policy(attempts=1), engine=form.engine, timeouts=timeouts) as (running, client),
    ):
        asked = {**form.body, "stream": stream}
        async with client.post(running.url + form.path, json=asked, allow_redirects=False) as response:
            try:
                body = await response.read()
            except aiohttp.ClientError:
                return "broken off"
        await running.settled()
        (record,) = running.guard.records.latest(1)
    if record.outcome.value == "relayed":
        return f"{response.status}, as the backend said it"
    if response.content_type == "application/json":
        return whole(form, response.status, json.loads(body))
    return streamed(form, body)


def whole(form: Form, status: int, body: dict[str, Any]) -> str:
    if status == 200:
        return "the whole answer"
    error = body["error"]
    assert form.path != "/v1/messages" or body["type"] == "error"
    assert error["message"]
    return f"{status} with an error"


def streamed(form: Form, body: bytes) -> str:
    events = [event for event in SseParser().feed(body) if event.data is not None]
    last = events[-1]
    if body.endswith(form.error + DONE):
        return "the text, then the backend's error event and `[DONE]`"
    if body.endswith(form.error):
        return "the text, then the backend's error event"
    if events and last.raw == form.events[-1]:
        return "the whole answer"
    if b"error" not in last.raw:
        return "the answer without its last event"
    said = json.loads(last.data or b"")
    assert "[DONE]" not in body.decode()
    assert form.events[-1] not in body
    if form.path == "/v1/messages":
        assert (last.event, said["type"], said["error"]["type"]) == ("error", "error", "api_error")
    if form.path == "/v1/responses":
        assert (last.event, said["type"]) == ("error", "error")
    assert said["error"]["message"]
    return "the text, then an error event"


async def rows() -> list[str]:
    lines = ["| the backend | a streaming client gets | one that asked for one body |", "|---|---|---|"]
    for fault, script in FAULTS.items():
        cells = []
        for stream in (True, False):
            words: dict[str, list[str]] = {}
            # Most of it is waiting for deadlines: all forms at once, each with a guard and a backend of its own.
            said = await asyncio.gather(*[told(form, script(form), stream=stream) for form in FORMS])
            for form, word in zip(FORMS, said, strict=True):
                words.setdefault(word, []).append(f"`{form.path}`")
            cells.append(
                "; ".join(f"{word} ({', '.join(paths)})" if len(words) > 1 else word for word, paths in words.items())
            )
        lines.append(f"| {fault} | {cells[0]} | {cells[1]} |")
    return lines


@pytest.mark.timeout(300)
async def test_the_table_in_the_readme_is_what_happens() -> None:
    table = "\n".join(await rows())
    assert table in README.read_text(encoding="utf-8"), f"put this table there:\n{table}"
