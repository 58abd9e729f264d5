"""
OpenAI's responses, as vLLM, SGLang and llama.cpp serve them.

A stream is `response.created` and `response.in_progress`, then for each output item its `added`,
`delta` and `done` events, then the whole response once more in `response.completed`, `.incomplete` or
`.failed`. That last event is the answer that a request without a stream gets.

Source:
    vLLM 0.32 vllm/entrypoints/openai/responses/{serving,streaming_events,api_router}.py; SGLang 0.5.23
    python/sglang/srt/entrypoints/openai/serving_responses.py; llama.cpp
    tools/server/server-task.cpp (`to_json_oaicompat_resp*`), which also answers at `/responses`, puts
    `timings` beside the delta, and says an error as on its other routes. vLLM's plugin puts `metrics` there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from guard.errors import ProtocolError
from guard.proto.chunks import LastChunk, decode_event
from guard.proto.client import ClientRequest, asked_int, decode_object, is_int, text_or_empty, wants_stream
from guard.proto.family import Continuation, Family, Notice, StopTold
from guard.proto.frame import event_of
from guard.proto.rewrite import ChunkRewriter, for_plugin
from guard.proto.sse import SseEvent, SseParser
from guard.proto.unsaid import CUT_CHARACTER, HALF, KEPT_BACK, Unsaid
from guard.proto.whole import Texts, decoded, number_of, objects, samples, text_of
from guard.types import Channel, Sample
from guard.wire import Choice, Chunk, Delta, FunctionDelta, Metrics, Timings, ToolCallDelta

_CONTENT = frozenset({"response.output_text.delta", "response.refusal.delta"})
_REASONING = frozenset({"response.reasoning_text.delta", "response.reasoning_summary_text.delta"})
_TOOL = frozenset(
    {
        "response.function_call_arguments.delta",
        "response.custom_tool_call_input.delta",
        "response.mcp_call_arguments.delta",
        "response.code_interpreter_call_code.delta",
    }
)
#: Events that end a stream, and the finish reason they come to.
_ENDS = {
    "response.completed": "stop",
    "response.incomplete": "length",
    "response.cancelled": "cancelled",
}
_FAILED = "response.failed"
_NUMBER_KEY = "sequence_number"
_NUMBER = b'"sequence_number"'


class _Response(msgspec.Struct, gc=False):
    id: str | None = None
    error: Any = None


class _Event(msgspec.Struct, gc=False):
    type: str = ""
    delta: Any = None
    response: _Response | None = None
    timings: Timings | None = None
    metrics: Metrics | None = None
    error: Any = None


class _Numbered(msgspec.Struct, gc=False):
    sequence_number: Any = None


_DECODER = msgspec.json.Decoder(_Event)
_NUMBERED = msgspec.json.Decoder(_Numbered)
_TOP = msgspec.json.Decoder(dict[str, msgspec.Raw])
_NOTHING = Chunk()


class ResponsesReader:
    """Reads events by the type in their data."""

    def read(self, event: SseEvent) -> Chunk:
        """See Reader."""
        assert event.data is not None
        said = decode_event(_DECODER, event.data)
        if said is None:
            return _NOTHING
        if isinstance(said.delta, str):
            delta = _delta(said.type, said.delta)
            if delta is None and said.metrics is None:
                return _NOTHING
            return Chunk(choices=[Choice(delta=delta)], timings=said.timings, metrics=said.metrics)
        ident = said.response.id if said.response is not None else None
        if said.type in _ENDS:
            end = Choice(delta=Delta(), finish_reason=_ENDS[said.type])
            return LastChunk(id=ident, choices=[end], timings=said.timings, metrics=said.metrics)
        if said.type == _FAILED:
            return Chunk(error=(said.response.error if said.response is not None else None) or said.type)
        if said.type == "error" or said.error is not None:
            return Chunk(error=said.error or said.type)
        if said.timings is not None:
            # llama.cpp puts a token's timings into the last event it makes, be it one without text.
            return Chunk(id=ident, choices=[Choice(delta=Delta())], timings=said.timings)
        return _NOTHING if ident is None else Chunk(id=ident)


def _delta(kind: str, text: str) -> Delta | None:
    if kind in _CONTENT:
        return Delta(content=text)
    if kind in _REASONING:
        return Delta(reasoning_content=text)
    if kind in _TOOL:
        return Delta(tool_calls=[ToolCallDelta(function=FunctionDelta(arguments=text))])
    return None


class ResponseAssembler:
    """
    Takes the whole response out of the event that ends the stream.

    Args:
        engine: Engine name; llama.cpp's whole answers have a time of completion, its streams do not. Where half a
            character is all that the token limit left, they show it as U+FFFD.
        limit: Most tokens the client wants. Unit: tokens.
    """

    def __init__(self, engine: str = "", limit: int | None = None) -> None:
        self._limit = limit
        self._llama = engine == "llama.cpp"
        self._response: msgspec.Raw | None = None
        self._unsaid = Unsaid()

    def add(self, data: bytes) -> None:
        """See Gatherer."""
        if data.strip() == b"null":
            return
        try:
            fields = _TOP.decode(data)
            kind = msgspec.json.decode(fields["type"]) if "type" in fields else ""
            counted = msgspec.json.decode(fields["timings"]) if self._llama and "timings" in fields else None
        except (msgspec.DecodeError, RecursionError) as error:
            raise ProtocolError(f"the event is no JSON object: {error}") from error
        if isinstance(counted, dict):
            said = isinstance(kind, str) and kind.endswith(".delta")
            self._unsaid.count(0, counted.get("predicted_n"), last=kind in _ENDS, text=said)
        if kind in _ENDS and (response := fields.get("response")) is not None and bytes(response) != b"null":
            self._response = response.copy()

    @property
    def unsure(self) -> str:
        """
        See Gatherer.

        Streams of llama.cpp leave out the white space before half a character, and at the limit what might have become
        a stop word. Without a limit that is known, an answer that ends there may have ended by itself.
        """
        if self._unsaid.of(0, self._limit):
            return CUT_CHARACTER
        kept_back = self._limit is not None and self._unsaid.kept_back(0, self._limit)
        return KEPT_BACK if kept_back else ""

    def result(self) -> bytes:
        """See Gatherer."""
        if self._response is None:
            raise ProtocolError("the stream ended without its response")
        if not self._llama:
            return bytes(self._response)
        half = self._unsaid.of(0, self._limit)
        try:
            fields = _TOP.decode(self._response)
            half = half and msgspec.json.decode(fields.get("output", b"[]")) == []
        except (msgspec.DecodeError, RecursionError) as error:
            raise ProtocolError(f"the response is not JSON: {error}") from error
        if "created_at" in fields:
            fields.setdefault("completed_at", fields["created_at"])
        if half:
            fields["output"] = msgspec.Raw(msgspec.json.encode([_half(bytes(fields.get("id", b"")))]))
        return msgspec.json.encode(fields)


def _half(ident: bytes) -> dict[str, Any]:
    """llama.cpp's output item for half a character."""
    text = {"type": "output_text", "annotations": [], "logprobs": [], "text": HALF}
    own = "msg_" + ident.decode().strip('"').removeprefix("resp_")
    return {"content": [text], "id": own, "role": "assistant", "status": "completed", "type": "message"}


class ResponsesFamily(Family):
    """Making a response; retrieving and cancelling a stored one passes through."""

    paths = ("/v1/responses", "/responses")
    stop_told: StopTold | None = "never"

    def parse(self, path: str, body: bytes) -> ClientRequest:
        """See Family."""
        fields = decode_object(body)
        return ClientRequest(
            family=self,
            route=path,
            raw=body,
            body=fields,
            stream=wants_stream(fields),
            model=text_or_empty(fields.get("model")),
            timings_per_token=fields.get("timings_per_token") is True,
            max_tokens=asked_int(fields.get("max_output_tokens")),
            resume_hazards=("this route cannot continue a text",),
        )

    def reader(self) -> ResponsesReader:
        """See Family."""
        return ResponsesReader()

    def rewriter(
        self, request: ClientRequest, *, engine: str, annotate: bool, continuation: Continuation | None
    ) -> ChunkRewriter:
        """See Family. Nothing is continued here."""
        return ChunkRewriter(request, engine=engine, annotate=annotate)

    def gatherer(self, request: ClientRequest, engine: str) -> ResponseAssembler:
        """See Family."""
        return ResponseAssembler(engine, request.max_tokens)

    def said(self, body: bytes) -> list[Sample]:
        """See Family."""
        answer = decoded(body)
        texts: Texts = []
        for item in objects(number_of(answer, "output")):
            channel = Channel.REASONING if item.get("type") == "reasoning" else Channel.CONTENT
            for part in (*objects(item.get("summary")), *objects(item.get("content"))):
                texts.append((0, channel, text_of(part, "text", "refusal")))
            texts.append((0, Channel.TOOL, text_of(item, "arguments", "input")))
        return samples(texts, number_of(number_of(answer, "usage"), "output_tokens"))

    def prompt(self, request: ClientRequest) -> object:
        """See Family."""
        return [request.body.get("instructions"), request.body.get("input")]

    def error_body(self, notice: Notice) -> bytes:
        """See Family: as on OpenAI's other routes."""
        return msgspec.json.encode({"error": _error(notice)})

    def error_event(self, notice: Notice, sent: bytes = b"") -> bytes:
        """
        See Family. OpenAI's own fields, with the number after the last that the client has had (llama.cpp numbers
        no events; then this has none either), and the `error` by which the official SDK raises.
        """
        told: dict[str, Any] = {"code": notice.code, "message": notice.message, "param": notice.param}
        last = _last_number(sent)
        if last is not None:
            told[_NUMBER_KEY] = last + 1
        return event_of({"type": "error", **told, "error": _error(notice)}, "error")

    def stream_hazards(self, request: ClientRequest, engine: str) -> tuple[str, ...]:
        """See Family. A response made in the background is answered before it exists."""
        return ("background is set",) if request.body.get("background") else ()

    def switches(self, request: ClientRequest, engine: str, wanted: Mapping[str, Any]) -> Mapping[str, Any]:
        """See Family: llama.cpp's events take its signal, and vLLM's that of the plugin, but no token ids."""
        return wanted if engine == "llama.cpp" else for_plugin(wanted)


RESPONSES = ResponsesFamily()


def _last_number(sent: bytes) -> int | None:
    """`sequence_number` of the last of these events that has one."""
    for event in reversed(SseParser(max_event_bytes=len(sent) + 1).feed(sent)):
        if event.data is not None and event.data.find(_NUMBER) >= 0:
            try:
                said = decode_event(_NUMBERED, event.data)
            except ProtocolError:
                return None
            return said.sequence_number if said is not None and is_int(said.sequence_number) else None
    return None


def _error(notice: Notice) -> dict[str, Any]:
    return {"message": notice.message, "type": notice.kind, "param": notice.param, "code": notice.code}
