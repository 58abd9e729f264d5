"""
llama.cpp's own completion route.

A stream is one chunk a token, then for each prompt or choice a closing one with `stop: true`; no
marker follows. Every chunk stands for one choice, named by `index`.

Source:
    llama.cpp tools/server/server-task.cpp (`to_json_non_oaicompat`), tools/server/server-context.cpp
    (`handle_completions_impl`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from guard.errors import ProtocolError
from guard.proto.chunks import decode_event
from guard.proto.client import ClientRequest, asked_int, decode_object, is_int, text_or_empty, wants_stream
from guard.proto.family import Continuation, Family, Identity, Notice, Stopped, StopTold
from guard.proto.frame import event_of, reframe
from guard.proto.rewrite import ChunkRewriter
from guard.proto.sse import SseEvent
from guard.proto.unsaid import HALF, KEPT_BACK, Unsaid
from guard.proto.whole import Texts, decoded, objects, samples, text_of
from guard.types import Channel, Sample, StepAcceptance
from guard.wire import Choice, Chunk, Timings

_GRAMMAR_FIELDS = ("grammar", "json_schema")
#: Limits a resume lowers by the tokens already released.
_LIMITS = ("n_predict", "max_tokens")
_STOP_TYPES = {"limit": "length", "eos": "eos"}


class _Event(msgspec.Struct, gc=False):
    """A closing chunk may lack `stop` and `index`, when the client chose its fields (`response_fields`)."""

    index: int | None = None
    content: str = ""
    stop: bool = True
    stop_type: str = ""
    timings: Timings | None = None
    completion_probabilities: msgspec.Raw = msgspec.Raw()
    error: Any = None


#: Why an answer put together may differ from the backend's own.
UNTOLD_TOKENS = "the stream left out tokens of a character"

_DECODER = msgspec.json.Decoder(_Event)
_FIELDS = msgspec.json.Decoder(dict[str, Any])
_encode = msgspec.json.encode


class CompletionReader:
    """Reads chunks; the last one is told by the end of the body alone."""

    def __init__(self) -> None:
        self._open: set[int] = set()  # choices that have begun, and are not known to have ended
        self._ended = 0  # of them, without it being told which

    def read(self, event: SseEvent) -> Chunk:
        """See Reader."""
        assert event.data is not None
        said = decode_event(_DECODER, event.data)
        if said is None:
            return Chunk()
        if said.error is not None:
            return Chunk(error=said.error)
        finish = _STOP_TYPES.get(said.stop_type, "stop") if said.stop else None
        if said.index is None:
            return self._end_of_some(said, finish)
        if finish is None:
            self._open.add(said.index)
        else:
            self._open.discard(said.index)
        choice = Choice(said.index, text=said.content, finish_reason=finish)
        if said.completion_probabilities and finish is None:
            choice.logprobs = msgspec.Raw(b'{"content":%b}' % bytes(said.completion_probabilities))
        return Chunk(choices=[choice], timings=said.timings)

    def _end_of_some(self, said: _Event, finish: str | None) -> Chunk:
        """A closing chunk that does not tell of which choice: once all have ended it is the end of each."""
        self._ended += 1
        if self._ended < len(self._open):
            return Chunk(timings=said.timings)
        choices = [Choice(index, finish_reason=finish) for index in sorted(self._open or {0})]
        choices[0].text = said.content
        self._open.clear()
        self._ended = 0
        return Chunk(choices=choices, timings=said.timings)


class CompletionRewriter:
    """
    Takes the guard's switch out of the chunks, and out of the settings that the closing one repeats.

    Args:
        request: The client's request.
        engine: Engine name, which says what the guard's switches added.
        annotate: Add a `guard` object with the steps' counts.
        continuation: For an attempt whose chunks follow those of an earlier one.
    """

    plain = False

    def __init__(
        self, request: ClientRequest, *, engine: str, annotate: bool, continuation: Continuation | None
    ) -> None:
        self._request = request
        self._continuation = continuation
        self._chunks = ChunkRewriter(request, engine=engine, annotate=annotate)
        #: Chunks have nothing that would tell attempts apart.
        self.identity: Identity | None = Identity(None, None)

    def look_ahead(self, ahead: Stopped) -> None:
        """See Rewriter."""
        self._chunks.look_ahead(ahead)

    def apply(self, event: SseEvent, chunk: Chunk, steps: Sequence[StepAcceptance] = ()) -> bytes:
        """See Rewriter."""
        closing = any(choice.finish_reason is not None for choice in chunk.choices)
        if event.data is not None and (closing or self._continuation is not None):
            data = self._edited(event.data)
            if data is not None:
                event = SseEvent(reframe(event, data), data, event.event, event.id)
        return self._chunks.apply(event, chunk, steps)

    def _edited(self, data: bytes) -> bytes | None:
        """None when nothing changes."""
        fields = decode_event(_FIELDS, data)
        if fields is None:
            return None
        settings = fields.get("generation_settings")
        changed = self._continuation is not None and self._continue(fields, settings, self._continuation)
        if isinstance(settings, dict) and settings.get("timings_per_token") is not self._request.timings_per_token:
            settings["timings_per_token"] = self._request.timings_per_token
            changed = True
        return _encode(fields) if changed else None

    def _continue(self, fields: dict[str, Any], settings: object, continuation: Continuation) -> bool:
        for name, added in (
            ("tokens_predicted", continuation.completion_tokens),
            ("tokens_evaluated", continuation.prompt_tokens),
        ):
            if is_int(fields.get(name)):
                fields[name] = max(fields[name] + added, 0)
        if "prompt" in fields:
            fields["prompt"] = self._request.body.get("prompt")
        for name in _LIMITS:
            if isinstance(settings, dict) and is_int(settings.get(name)) and settings[name] > 0:
                settings[name] += continuation.completion_tokens
        return True


class CompletionAssembler:
    """
    Collects the chunks of one answer: the closing chunk of each choice with the whole content.

    Args:
        request: The client's request, whose settings the answer repeats.
    """

    def __init__(self, request: ClientRequest) -> None:
        self._request = request
        self._pieces: dict[int, list[str]] = {}
        self._tokens: dict[int, list[Any]] = {}
        self._closing: dict[int, dict[str, Any]] = {}
        self._unsaid = Unsaid()

    def add(self, data: bytes) -> None:
        """See Gatherer."""
        said, fields = decode_event(_DECODER, data), decode_event(_FIELDS, data)
        if said is None or fields is None:
            return
        index = said.index or 0
        self._pieces.setdefault(index, []).append(said.content)
        if isinstance(fields.get("tokens"), list):
            self._tokens.setdefault(index, []).extend(fields["tokens"])
        if said.timings is not None:
            self._unsaid.count(index, said.timings.predicted_n, last=said.stop, text=bool(said.content))
        elif said.content:
            self._unsaid.void()
        if said.stop:
            self._closing[index] = fields

    @property
    def unsure(self) -> str:
        """
        See Gatherer.

        A stream tells one token of a character that several make, and at the token limit nothing of those that might
        have become a stop word.
        """
        if self._request.body.get("stop") and any(
            fields.get("stop_type") == "limit" and self._unsaid.kept_back(at) for at, fields in self._closing.items()
        ):
            return KEPT_BACK
        if self._request.body.get("return_tokens") is not True:
            return ""
        told = [(len(self._tokens.get(at, ())), fields.get("tokens_predicted")) for at, fields in self._closing.items()]
        return "" if all(count == known for known, count in told) else UNTOLD_TOKENS

    def result(self) -> bytes:
        """See Gatherer: one object, or a list of them where several were asked for."""
        if not self._closing or set(self._closing) != set(self._pieces):
            raise ProtocolError("the stream ended without a closing chunk")
        answers = [self._whole(index) for index in sorted(self._closing)]
        return _encode(answers[0] if len(answers) == 1 else answers)

    def _whole(self, index: int) -> dict[str, Any]:
        fields = self._closing[index]
        fields["content"] = "".join(self._pieces[index]) + (HALF if self._unsaid.of(index) else "")
        if self._request.body.get("return_tokens") is True:
            fields["tokens"] = self._tokens.get(index, [])
        settings = fields.get("generation_settings")
        if isinstance(settings, dict) and "stream" in settings:
            settings["stream"] = False
        return fields


class CompletionFamily(Family):
    """`/completion`. Its other name `/completions` means other things elsewhere and passes through."""

    paths = ("/completion",)
    stop_told: StopTold | None = "itself"

    def parse(self, path: str, body: bytes) -> ClientRequest:
        """See Family."""
        fields = decode_object(body)
        prompt = fields.get("prompt")
        n = next((found for name in ("n_cmpl", "n") if (found := asked_int(fields.get(name))) is not None), 1)
        limit = next((found for name in _LIMITS if (found := asked_int(fields.get(name))) is not None), -1)
        several = isinstance(prompt, list) and any(isinstance(part, (list, dict)) for part in prompt)
        several = several or (isinstance(prompt, list) and all(isinstance(part, str) for part in prompt))
        return ClientRequest(
            family=self,
            route=path,
            raw=body,
            body=fields,
            stream=wants_stream(fields),
            model=text_or_empty(fields.get("model")),
            n=n * (len(prompt) if several and prompt else 1),
            timings_per_token=fields.get("timings_per_token") is True,
            max_tokens=limit if limit >= 0 else None,
            resume_hazards=tuple(_resume_hazards(fields, n)),
        )

    def reader(self) -> CompletionReader:
        """See Family."""
        return CompletionReader()

    def rewriter(
        self, request: ClientRequest, *, engine: str, annotate: bool, continuation: Continuation | None
    ) -> CompletionRewriter:
        """See Family."""
        return CompletionRewriter(request, engine=engine, annotate=annotate, continuation=continuation)

    def gatherer(self, request: ClientRequest, engine: str) -> CompletionAssembler:
        """See Family."""
        return CompletionAssembler(request)

    def said(self, body: bytes) -> list[Sample]:
        """See Family."""
        answer = decoded(body)
        answers = list(objects(answer if isinstance(answer, list) else [answer]))
        texts: Texts = [(at, Channel.CONTENT, text_of(one, "content")) for at, one in enumerate(answers)]
        counts = [one["tokens_predicted"] for one in answers if is_int(one.get("tokens_predicted"))]
        return samples(texts, sum(counts))

    def prompt(self, request: ClientRequest) -> object:
        """See Family."""
        prompt = request.body.get("prompt")
        return prompt.get("prompt_string") if isinstance(prompt, dict) else prompt

    def error_body(self, notice: Notice) -> bytes:
        """See Family."""
        return _encode(_error(notice))

    def error_event(self, notice: Notice, sent: bytes = b"") -> bytes:
        """See Family."""
        return event_of(_error(notice))

    def stream_hazards(self, request: ClientRequest, engine: str) -> tuple[str, ...]:
        """See Family. Streams leave out the probabilities of accepted draft tokens."""
        return tuple(f"{name} is set" for name in ("n_probs", "response_fields") if request.body.get(name))

    def switches(self, request: ClientRequest, engine: str, wanted: Mapping[str, Any]) -> Mapping[str, Any]:
        """See Family."""
        return wanted if engine == "llama.cpp" else {}

    def resume_blocker(self, engine: str) -> str:
        """See Family."""
        return "" if engine == "llama.cpp" else f"{engine} backends have no such route"

    def resume_fields(self, request: ClientRequest, text: str, released: int, engine: str) -> dict[str, Any]:
        """See Family."""
        if request.resume_hazards:
            raise ValueError(f"it cannot be resumed: {request.resume_hazards[0]}")
        fields: dict[str, Any] = {"prompt": request.body["prompt"] + text}
        for name in _LIMITS:
            limit = asked_int(request.body.get(name))
            if limit is not None and limit >= 0:
                fields[name] = max(limit - released, 1)
        return fields


COMPLETION = CompletionFamily()


def _error(notice: Notice) -> dict[str, Any]:
    error = {"code": notice.status, "message": notice.message, "type": notice.code or notice.kind}
    return {"error": error}


def _resume_hazards(fields: dict[str, Any], n: int) -> list[str]:
    hazards = [f"{name} is set" for name in _GRAMMAR_FIELDS if fields.get(name)]
    if n > 1:
        hazards.append("n > 1")
    if fields.get("n_probs"):
        hazards.append("n_probs is set")
    if fields.get("response_fields"):
        hazards.append("response_fields is set")
    if not isinstance(fields.get("prompt"), str):
        hazards.append("the prompt is not one string")
    return hazards
