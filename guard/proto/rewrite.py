"""
Turns an engine's chunks into what the client would have got from it without the guard.

The guard's switches make chunks carry more than the client asked for; that is taken out here. All
other values keep their exact bytes, and a chunk in which nothing changes is passed on as it came.
The common cases are cut out of the bytes without decoding; everything else goes through one
decode of the top level into raw values (such a chunk comes out compact, member names respelled).

Whether llama.cpp's `timings` belong to a chunk beside a stop word is told by the event after it: `guard.proto.ahead`.

Source:
    llama.cpp tools/server/server-task.cpp (`to_json_oaicompat*`): stock `timings` stand in the
    last chunk only. vLLM 0.32 vllm/entrypoints/openai/{chat_completion,completion}/serving.py:
    stock `token_ids` and `prompt_token_ids` are null; a chat delta the parsers hold back is sent
    empty when token ids are asked, and not at all otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from guard.proto.chunks import LastChunk, decode_event
from guard.proto.client import ClientRequest
from guard.proto.cuts import cut_bytes, cut_metrics, cut_step, delta_says_something, has_token_ids
from guard.proto.family import Continuation, Identity, Stopped
from guard.proto.frame import one_line, reframe
from guard.proto.sse import SseEvent
from guard.types import StepAcceptance
from guard.wire import Chunk

_NULL: Final = msgspec.Raw(b"null")
_TOP: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ANY: Final = msgspec.json.Decoder()
_LIST: Final = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])
_encode = msgspec.json.Encoder().encode

#: Inside a JSON string its quotes would be escaped, so it can only be the key.
_VERBOSE: Final = b'"__verbose"'


class ChunkRewriter:
    """
    Rewrites the chunks of one attempt, in order.

    Args:
        request: The client's request: what it asked for itself stays.
        engine: Engine name, which says what the guard's switches added.
        annotate: Add a `guard` object with the steps' counts to chunks that complete steps.
        continuation: For an attempt whose chunks follow those of an earlier one.
    """

    def __init__(
        self,
        request: ClientRequest,
        *,
        engine: str,
        annotate: bool = False,
        continuation: Continuation | None = None,
    ) -> None:
        # A gatherer needs the counters itself, and its answer takes the last ones only.
        self._cut_timings = engine == "llama.cpp" and request.stream and not request.timings_per_token
        self._ahead: Stopped | None = None
        #: The engine's object for debugging: whether it goes out whole, and else what of it the guard asked for.
        self._cut_verbose = self._cut_timings and request.body.get("verbose") is not True
        self._has_verbose = self._cut_timings and not self._cut_verbose
        # With an echo the guard does not ask for token ids, and vLLM's streams have the prompt's unasked.
        echo = request.stream and bool(request.body.get("echo"))
        self._cut_tokens = engine == "vllm" and request.stream and not (request.return_token_ids or echo)
        self._cut_metrics = cuts_metrics(request, engine)
        told = request.body.get("logprobs")
        self._cut_logprobs = engine == "vllm" and (told is None or told is False)
        self._annotate = annotate
        #: Whether a step of vLLM's has its token ids and the plugin's counts cut, and nothing else is done to it.
        self._cuts_steps = self._cut_tokens and self._cut_metrics and not annotate and continuation is None
        self._untold: list[StepAcceptance] = []  # steps of chunks the client got nothing of
        self._continuation = continuation
        #: Of this attempt's first chunk with an id; None before it.
        self.identity: Identity | None = None

    @property
    def plain(self) -> bool:
        """See Rewriter."""
        return self._cuts_steps

    def look_ahead(self, ahead: Stopped) -> None:
        """See Rewriter. The guard has asked for the object for debugging then."""
        self._ahead = ahead
        self._has_verbose = self._cut_timings

    def apply(self, event: SseEvent, chunk: Chunk, steps: Sequence[StepAcceptance] = ()) -> bytes:
        """
        Bytes for the client.

        Args:
            event: The event as parsed.
            chunk: Its data, decoded.
            steps: Verify steps this chunk completes, for `annotate`.

        Returns:
            The event's own bytes when nothing changes; empty when the client gets nothing of it.
        """
        if event.data is None:
            return event.raw
        if isinstance(chunk, LastChunk):
            return without_metrics(event) if self._cut_metrics and chunk.metrics is not None else event.raw
        if self.identity is None:
            if chunk.id is not None:
                self.identity = identity_of(event.data)
        elif self._cuts_steps and (quick := cut_step(event, chunk)) is not None:
            return quick
        stopped = self._ahead is not None and self._ahead.stopped
        timings = self._cut_timings and chunk.timings is not None and not stopped and _midway(chunk)
        if self._has_verbose and event.data.find(_VERBOSE) >= 0:
            event = _less_verbose(event, whole=self._cut_verbose, timings=timings)
        return self._rewrite(event, chunk, steps, timings=timings)

    def _leave_untold(self, steps: Sequence[StepAcceptance]) -> None:
        if self._annotate:
            self._untold.extend(steps)

    def _rewrite(self, event: SseEvent, chunk: Chunk, steps: Sequence[StepAcceptance], *, timings: bool) -> bytes:
        """One chunk, with its timings cut or not."""
        assert event.data is not None
        tokens = metrics = logprobs = False
        if self._cut_metrics and chunk.choices:
            tokens = self._cut_tokens and has_token_ids(event.raw, chunk)
            metrics = chunk.metrics is not None
        if self._cut_logprobs:
            logprobs = any(choice.logprobs and choice.logprobs != _NULL for choice in chunk.choices)
        annotate = self._annotate and bool(steps or self._untold)
        if (self._continuation is None and not annotate) or event.data.strip() == b"null":
            if not (timings or tokens or metrics or logprobs):
                return event.raw
            quick = cut_bytes(event, chunk, timings=timings, tokens=tokens, metrics=metrics, logprobs=logprobs)
            if quick is not None:
                return quick
        elif self._continuation is not None and self._continuation.role_sent and _only_role(chunk):
            return b""
        fields: dict[str, Any] = _TOP.decode(event.data)
        if timings:
            del fields["timings"]
        if logprobs:
            _blank_logprobs(fields)
        if tokens and not _blank_tokens(fields):
            self._leave_untold(steps)
            return b""
        if metrics:
            _drop_metrics(fields)
        if self._continuation is not None:
            _continue(fields, self._continuation)
        if annotate:
            fields["guard"] = steps_object([*self._untold, *steps])
            self._untold.clear()
        return reframe(event, _encode(fields))


def cuts_metrics(request: ClientRequest, engine: str) -> bool:
    """Whether the plugin's steps go out of what this client gets: unless it asked for them itself."""
    asked = request.body.get("vllm_xargs")
    return engine == "vllm" and not (isinstance(asked, dict) and asked.get("guard_acceptance"))


def for_plugin(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Of the fields that turn a signal on, the one that vLLM's plugin reads on every route."""
    return {name: value for name, value in wanted.items() if name == "vllm_xargs"}


def without_metrics(event: SseEvent, steps: Sequence[StepAcceptance] = (), *, cut: bool = True) -> bytes:
    """
    An event's bytes with nothing changed but what stands at its top.

    Args:
        event: One with data.
        steps: To be told under the name `guard`; none: no such object.
        cut: Take the plugin's steps out; the event must have them.
    """
    assert event.data is not None
    if not steps:
        quick = cut_metrics(event.raw) if cut and one_line(event) else None
        if quick is not None or not cut:
            return quick or event.raw
    fields: dict[str, Any] = _TOP.decode(event.data)
    if cut:
        _drop_metrics(fields)
    if steps:
        fields["guard"] = steps_object(steps)
    return reframe(event, _encode(fields))


class _Identified(msgspec.Struct, gc=False):
    id: msgspec.Raw = msgspec.Raw()
    created: msgspec.Raw = msgspec.Raw()


_IDENTIFIED: Final = msgspec.json.Decoder(_Identified)


def identity_of(data: bytes) -> Identity:
    """Id and creation time of a chunk that has them at its top."""
    found = _IDENTIFIED.decode(data)
    return Identity(bytes(found.id) or None, bytes(found.created) or None)


def _midway(chunk: Chunk) -> bool:
    """A chunk of text: neither the one with the finish reason nor the closing one without choices."""
    for choice in chunk.choices:
        if choice.finish_reason is not None:
            return False
    return bool(chunk.choices)


def _only_role(chunk: Chunk) -> bool:
    return bool(chunk.choices) and all(
        choice.finish_reason is None
        and choice.delta is not None
        and choice.delta.role is not None
        and not delta_says_something(choice.delta)
        for choice in chunk.choices
    )


def _less_verbose(event: SseEvent, *, whole: bool, timings: bool) -> SseEvent:
    """
    An event without llama.cpp's object for debugging, or without what in it tells of the guard's switch.

    Args:
        event: One that has it.
        whole: Take it out whole.
        timings: Whether the chunk's own timings go.
    """
    fields = decode_event(_TOP, event.data or b"null") or {}
    told = fields.pop("__verbose", None) if whole else decode_event(_ANY, bytes(fields.get("__verbose", b"null")))
    if not whole and isinstance(told, dict):
        if timings:
            told.pop("timings", None)
        settings = told.get("generation_settings")
        if isinstance(settings, dict) and "timings_per_token" in settings:
            settings["timings_per_token"] = False
        fields["__verbose"] = msgspec.Raw(_encode(told))
    data = _encode(fields)
    return SseEvent(reframe(event, data), data, event.event, event.id)


def _blank_logprobs(fields: dict[str, Any]) -> None:
    """Null the log-probabilities everywhere."""
    choices = _LIST.decode(fields["choices"])
    for choice in choices:
        if "logprobs" in choice:
            choice["logprobs"] = _NULL
    fields["choices"] = msgspec.Raw(_encode(choices))


def _blank_tokens(fields: dict[str, Any]) -> bool:
    """
    Null the token ids everywhere.

    Returns:
        False when nothing is left that vLLM would have sent without them.
    """
    if "prompt_token_ids" in fields:
        fields["prompt_token_ids"] = _NULL
    choices = _LIST.decode(fields.get("choices", b"[]"))
    if not choices:
        return True
    left = False
    for choice in choices:
        if "prompt_token_ids" in choice:
            choice["prompt_token_ids"] = _NULL
        held_back = (
            bytes(choice.get("delta", _NULL)) == b"{}"
            and bytes(choice.get("finish_reason", _NULL)) == b"null"
            and bytes(choice.get("logprobs", _NULL)) == b"null"
        )
        left = left or not held_back
        if "token_ids" in choice:
            choice["token_ids"] = _NULL
    fields["choices"] = msgspec.Raw(_encode(choices))
    return left


def _untell_prompt(fields: dict[str, Any]) -> None:
    """Null the prompt's token ids: the client has had them, and here they have those of released text after them."""
    if "prompt_token_ids" in fields:
        fields["prompt_token_ids"] = _NULL
    if b'"prompt_token_ids"' not in bytes(fields.get("choices", b"")):
        return
    choices = _LIST.decode(fields["choices"])
    for choice in choices:
        if "prompt_token_ids" in choice:
            choice["prompt_token_ids"] = _NULL
    fields["choices"] = msgspec.Raw(_encode(choices))


def _drop_metrics(fields: dict[str, Any]) -> None:
    metrics = _TOP.decode(fields["metrics"])
    metrics.pop("speculative_decoding", None)
    if metrics:
        fields["metrics"] = metrics
    else:
        del fields["metrics"]


def _continue(fields: dict[str, Any], continuation: Continuation) -> None:
    identity = continuation.identity
    for name, value in (("id", identity.id), ("created", identity.created)):
        if value is not None and name in fields:
            fields[name] = msgspec.Raw(value)
    if continuation.text:
        _untell_prompt(fields)
    if not (continuation.prompt_tokens or continuation.completion_tokens) or "usage" not in fields:
        return
    usage = decode_event(_ANY, bytes(fields["usage"]))
    if not isinstance(usage, dict):
        return
    added = {
        "prompt_tokens": continuation.prompt_tokens,
        "completion_tokens": continuation.completion_tokens,
        "total_tokens": continuation.prompt_tokens + continuation.completion_tokens,
    }
    for name, tokens in added.items():
        if isinstance(usage.get(name), int):
            usage[name] = max(usage[name] + tokens, 0)
    fields["usage"] = usage


def steps_object(steps: Sequence[StepAcceptance]) -> dict[str, list[int]]:
    """What `annotate` adds to a chunk under the name `guard`."""
    return {"accepted": [step.accepted for step in steps], "drafted": [step.drafted for step in steps]}
