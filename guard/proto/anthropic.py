"""
Anthropic's messages, as vLLM, SGLang and llama.cpp serve them.

A stream is `message_start`, then for each content block `content_block_start`, its deltas and
`content_block_stop`, then `message_delta` with the stop reason and `message_stop`; `ping` may stand
anywhere, `error` ends it. vLLM's plugin puts `metrics` beside a delta of text and into `message_delta`;
other engines tell no acceptance here: text is all there is to watch.

Source:
    vLLM 0.32 vllm/entrypoints/anthropic/{protocol,serving}.py (`message_stream_converter`,
    `messages_full_converter`); SGLang 0.5.23 python/sglang/srt/entrypoints/anthropic/serving.py
    (`_generate_anthropic_stream`, `_convert_response`); llama.cpp tools/server/server-task.cpp
    (`to_json_anthropic*`) and tools/server/server-context.cpp for its error event, whose data is
    the bare error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from guard.errors import ProtocolError
from guard.proto.blocks import MessageAssembler
from guard.proto.chunks import LastChunk, decode_event
from guard.proto.client import ClientRequest, asked_int, decode_object, is_int, text_or_empty, wants_stream
from guard.proto.family import Continuation, Family, Identity, Notice, Stopped
from guard.proto.frame import event_of, reframe
from guard.proto.rewrite import cuts_metrics, for_plugin, without_metrics
from guard.proto.sse import SseEvent
from guard.proto.whole import Texts, decoded, number_of, objects, samples, text_of
from guard.types import Channel, Sample, StepAcceptance
from guard.wire import Choice, Chunk, Delta, FunctionDelta, Metrics, ToolCallDelta

#: Anthropic's own names of errors by HTTP status; others are "api_error".
_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    415: "invalid_request_error",
    429: "rate_limit_error",
    503: "overloaded_error",
}
#: Engines that continue a last message of the assistant's; vLLM and SGLang begin a new turn.
_RESUMABLE = frozenset({"llama.cpp"})
#: Stands for a stop reason that vLLM leaves null.
UNNAMED = "unnamed"


class _Message(msgspec.Struct, gc=False):
    id: str | None = None


class _Delta(msgspec.Struct, gc=False):
    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None
    stop_reason: str | None = None


class _Event(msgspec.Struct, gc=False):
    type: str = ""
    delta: _Delta | None = None
    message: _Message | None = None
    metrics: Metrics | None = None
    error: Any = None


_DECODER = msgspec.json.Decoder(_Event)
_FIELDS = msgspec.json.Decoder(dict[str, Any])
_NOTHING = Chunk()


class MessagesReader:
    """Reads events by the type in their data; llama.cpp's errors only have it in the event's name."""

    def read(self, event: SseEvent) -> Chunk:
        """See Reader."""
        assert event.data is not None
        if event.event == "error":
            return Chunk(error=event.data.decode("utf-8", "replace"))
        said = decode_event(_DECODER, event.data)
        if said is None:
            return _NOTHING
        if said.type == "content_block_delta" and said.delta is not None:
            return _block_delta(said.delta, said.metrics)
        if said.type == "message_delta" and said.delta is not None:
            end = Choice(delta=Delta(), finish_reason=said.delta.stop_reason or UNNAMED)
            return Chunk(choices=[end], metrics=said.metrics)
        if said.type == "message_stop":
            return LastChunk()
        if said.type == "message_start" and said.message is not None:
            return Chunk(id=said.message.id)
        if said.type == "error" or said.error is not None:
            return Chunk(error=said.error or said.type)
        return _NOTHING


def _block_delta(delta: _Delta, metrics: Metrics | None) -> Chunk:
    if delta.text:
        said = Delta(content=delta.text)
    elif delta.thinking:
        said = Delta(reasoning_content=delta.thinking)
    elif delta.partial_json:
        said = Delta(tool_calls=[ToolCallDelta(function=FunctionDelta(arguments=delta.partial_json))])
    elif metrics is None:
        return _NOTHING
    else:
        said = Delta()
    return Chunk(choices=[Choice(delta=said)], metrics=metrics)


class MessagesRewriter:
    """
    Passes events as they came; makes those of a continuation follow what the client has.

    Args:
        continuation: For an attempt whose events follow those of an earlier one: the client has the
            start of the message and an open block of text, number 0.
        cut_metrics: Take the plugin's steps out.
        annotate: Add a `guard` object with the steps' counts to events that complete steps.
    """

    plain = False

    def __init__(
        self, continuation: Continuation | None = None, *, cut_metrics: bool = False, annotate: bool = False
    ) -> None:
        self._continuation = continuation
        self._cut_metrics = cut_metrics
        self._annotate = annotate
        self._open = continuation is not None
        self.identity: Identity | None = None

    def look_ahead(self, ahead: Stopped) -> None:
        """See Rewriter: there are no timings."""

    def apply(self, event: SseEvent, chunk: Chunk, steps: Sequence[StepAcceptance] = ()) -> bytes:
        """See Rewriter."""
        if event.data is None or chunk.error is not None:
            return event.raw
        if self.identity is None and chunk.id is not None:
            self.identity = Identity(msgspec.json.encode(chunk.id), None)
        if self._continuation is not None:
            return self._follow(event, event.data, self._continuation)
        if chunk.metrics is None:
            return event.raw
        return without_metrics(event, steps if self._annotate else (), cut=self._cut_metrics)

    def _follow(self, event: SseEvent, data: bytes, continuation: Continuation) -> bytes:
        fields = decode_event(_FIELDS, data)
        if fields is None:
            return event.raw
        kind = fields.get("type")
        if kind == "message_start":
            return b""
        if kind == "content_block_start" and fields.get("index") == 0:
            if number_of(fields.get("content_block"), "type") == "text":
                return b""
            raise ProtocolError("the continuation does not begin with text", where="$.content_block.type")
        if kind == "content_block_stop" and fields.get("index") == 0:
            self._open = False
        if kind != "message_delta":
            return event.raw
        usage = fields.get("usage")
        for name, added in (
            ("input_tokens", continuation.prompt_tokens),
            ("output_tokens", continuation.completion_tokens),
        ):
            if isinstance(usage, dict) and is_int(usage.get(name)):
                usage[name] = max(usage[name] + added, 0)
        return self._close() + reframe(event, msgspec.json.encode(fields))

    def _close(self) -> bytes:
        """The end of the block, where the continuation had nothing to add and so never spoke of it."""
        if not self._open:
            return b""
        self._open = False
        return event_of({"type": "content_block_stop", "index": 0}, "content_block_stop")


class MessagesFamily(Family):
    """The one route; `/v1/messages/count_tokens` generates nothing and passes through."""

    paths = ("/v1/messages",)

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
            max_tokens=asked_int(fields.get("max_tokens")),
            resume_hazards=tuple(_resume_hazards(fields)),
            prefill=_prefill(fields),
        )

    def reader(self) -> MessagesReader:
        """See Family."""
        return MessagesReader()

    def rewriter(
        self, request: ClientRequest, *, engine: str, annotate: bool, continuation: Continuation | None
    ) -> MessagesRewriter:
        """See Family."""
        return MessagesRewriter(continuation, cut_metrics=cuts_metrics(request, engine), annotate=annotate)

    def gatherer(self, request: ClientRequest, engine: str) -> MessageAssembler:
        """See Family."""
        choice = request.body.get("tool_choice")
        refused = isinstance(choice, dict) and choice.get("type") == "none"
        return MessageAssembler(engine, request.prefill, tools=bool(request.body.get("tools")) and not refused)

    def said(self, body: bytes) -> list[Sample]:
        """See Family."""
        answer = decoded(body)
        texts: Texts = []
        for block in objects(number_of(answer, "content")):
            texts.append((0, Channel.REASONING, text_of(block, "thinking")))
            texts.append((0, Channel.CONTENT, text_of(block, "text")))
            if block.get("input"):
                texts.append((0, Channel.TOOL, msgspec.json.encode(block["input"]).decode()))
        return samples(texts, number_of(number_of(answer, "usage"), "output_tokens"))

    def prompt(self, request: ClientRequest) -> object:
        """See Family."""
        return [request.body.get("system"), request.body.get("messages")]

    def error_body(self, notice: Notice) -> bytes:
        """See Family."""
        return msgspec.json.encode(_error(notice))

    def error_event(self, notice: Notice, sent: bytes = b"") -> bytes:
        """See Family."""
        return event_of(_error(notice), "error")

    def switches(self, request: ClientRequest, engine: str, wanted: Mapping[str, Any]) -> Mapping[str, Any]:
        """See Family: only vLLM's plugin puts steps into these events."""
        return for_plugin(wanted)

    def resume_blocker(self, engine: str) -> str:
        """See Family."""
        return "" if engine in _RESUMABLE else f"{engine} backends do not continue a message"

    def resume_fields(self, request: ClientRequest, text: str, released: int, engine: str) -> dict[str, Any]:
        """See Family. A text the client itself began is joined: two messages would be two turns."""
        messages = request.body.get("messages")
        if not isinstance(messages, list) or not messages:
            raise ValueError("there are no messages to resume")
        last = messages[-1]
        begun = isinstance(last, dict) and last.get("role") == "assistant"
        if begun and not isinstance(last.get("content"), str):
            raise ValueError("the last message has no plain text to continue")
        known = [*messages[:-1], {**last, "content": last["content"] + text}] if begun else None
        fields: dict[str, Any] = {"messages": known or [*messages, {"role": "assistant", "content": text}]}
        if request.max_tokens is not None:
            fields["max_tokens"] = max(request.max_tokens - released, 1)
        return fields


MESSAGES = MessagesFamily()


def _error(notice: Notice) -> dict[str, Any]:
    error: dict[str, Any] = {"type": _ERROR_TYPES.get(notice.status, "api_error"), "message": notice.message}
    if notice.code is not None:
        error["code"] = notice.code
    return {"type": "error", "error": error}


def _prefill(fields: dict[str, Any]) -> str:
    messages = fields.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else None
    if not isinstance(last, dict) or last.get("role") != "assistant":
        return ""
    return text_or_empty(last.get("content"))


def _resume_hazards(fields: dict[str, Any]) -> list[str]:
    hazards: list[str] = []
    if fields.get("tools"):
        hazards.append("tools are offered")
    output = fields.get("output_config")
    if isinstance(output, dict) and output.get("format"):
        hazards.append("output_config.format is set")
    thinking = fields.get("thinking")
    if isinstance(thinking, dict) and thinking.get("type") != "disabled":
        hazards.append("thinking is on")
    messages = fields.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else None
    plain = isinstance(last, dict) and (last.get("role") != "assistant" or isinstance(last.get("content"), str))
    if not plain:
        hazards.append("the last message cannot be continued as text")
    return hazards
