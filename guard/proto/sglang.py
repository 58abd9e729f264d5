"""
SGLang's own generation route.

A chunk holds the whole text and all token ids so far, or, on a server started for incremental
streaming, only what is new; `meta_info.completion_tokens` counts all in both. `meta_info.finish_reason`
is an object in the last chunk of a choice; `index` names the choice where there are several. `[DONE]`
ends the stream, also after an error.

Source:
    SGLang 0.5.23 python/sglang/srt/entrypoints/http_server.py (`serve_generate_request`),
    python/sglang/srt/managers/tokenizer_manager.py (`_wait_one_response`, `_coalesce_streaming_chunks`,
    `_stream_batch_responses`), python/sglang/srt/managers/io_struct.py (`GenerateReqInput`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from guard.errors import ProtocolError
from guard.proto.chunks import LastChunk, decode_event, is_done
from guard.proto.client import ClientRequest, asked_int, decode_object, is_int, wants_stream
from guard.proto.family import Continuation, Family, Identity, Notice, Stopped
from guard.proto.frame import event_of
from guard.proto.sse import SseEvent
from guard.proto.whole import Texts, decoded, number_of, objects, samples, text_of
from guard.types import Channel, Sample, StepAcceptance
from guard.wire import Choice, Chunk

#: Lists in `meta_info` that an incremental stream has in pieces.
_PIECEWISE = (
    "output_token_logprobs",
    "output_top_logprobs",
    "output_token_ids_logprobs",
    "output_token_sampling_mask",
    "output_token_sampling_logprobs",
)
#: A retry's changes, as this route names them.
_SAMPLING = {"temperature": "temperature", "seed": "sampling_seed", "frequency_penalty": "frequency_penalty"}
_TOP = {"cache_salt": "extra_key"}

Object = dict[str, Any]


class _Meta(msgspec.Struct, gc=False):
    id: str | None = None
    finish_reason: Any = None
    completion_tokens: int | None = None
    output_token_logprobs: msgspec.Raw = msgspec.Raw()


class _Event(msgspec.Struct, gc=False):
    """`text` is absent where the server runs without its tokenizer."""

    text: str | None = None
    output_ids: list[int] | None = None
    meta_info: _Meta | None = None
    index: int = 0
    error: Any = None


_DECODER = msgspec.json.Decoder(_Event)
_FIELDS = msgspec.json.Decoder(dict[str, Any])
#: Log-probability, id and text of each token.
_TOKENS = msgspec.json.Decoder(list[list[msgspec.Raw]] | None)
_encode = msgspec.json.encode


class Progress:
    """
    What one choice has said so far, whichever way its server streams.

    `text` is all of it; `tokens` counts it, `logprobs` those of them whose log-probability was read. Unit: tokens.
    """

    __slots__ = ("logprobs", "text", "tokens")

    def __init__(self) -> None:
        self.text = ""
        self.tokens = 0
        self.logprobs = 0

    def is_whole(self, event: _Event) -> bool:
        """Whether the event holds all that was said, not only what is new."""
        total = event.meta_info.completion_tokens if event.meta_info is not None else None
        if event.output_ids is not None and total is not None:
            return len(event.output_ids) == total
        return event.text is None or event.text.startswith(self.text)

    def advance(self, event: _Event) -> tuple[str, list[int] | None]:
        """Text and token ids that the event adds; None where it tells no ids."""
        ids, text = event.output_ids, event.text or ""
        if not self.is_whole(event):
            self.tokens += len(ids or ())
            self.text += text
            return text, ids
        # A character that was cut in half before may read otherwise now.
        same = len(self.text) if text.startswith(self.text) else _common(self.text, text)
        fresh = None if ids is None else ids[self.tokens :]
        self.text, self.tokens = text, len(ids or ())
        return text[same:], fresh


def _common(one: str, other: str) -> int:
    """Length of the common start of two texts."""
    length = min(len(one), len(other))
    return next((at for at in range(length) if one[at] != other[at]), length)


class GenerateReader:
    """Reads chunks of either kind."""

    def __init__(self) -> None:
        self._choices: dict[int, Progress] = {}

    def read(self, event: SseEvent) -> Chunk:
        """See Reader."""
        assert event.data is not None
        if is_done(event.data):
            return LastChunk()
        said = decode_event(_DECODER, event.data)
        if said is None:
            return Chunk()
        if said.error is not None:
            return Chunk(error=said.error)
        progress, meta = self._choices.setdefault(said.index, Progress()), said.meta_info
        told = meta.output_token_logprobs if meta is not None else msgspec.Raw()
        # Before the event moves on what it is held against.
        whole = bool(told) and progress.is_whole(said)
        text, ids = progress.advance(said)
        reason = meta.finish_reason if meta is not None else None
        choice = Choice(said.index, text=text, token_ids=ids, finish_reason=_reason(reason))
        if told:
            choice.logprobs = _fresh_logprobs(told, progress, whole=whole)
        return Chunk(id=meta.id if meta is not None else None, choices=[choice])


def _fresh_logprobs(raw: msgspec.Raw, progress: Progress, *, whole: bool) -> msgspec.Raw:
    """What the event adds to the log-probabilities, in the form of OpenAI's completions; empty if not understood."""
    try:
        values = [token[0] for token in _TOKENS.decode(raw) or ()]
    except (msgspec.DecodeError, IndexError):
        return msgspec.Raw()
    before, progress.logprobs = progress.logprobs, len(values) + (0 if whole else progress.logprobs)
    return msgspec.Raw(_encode({"token_logprobs": values[before:] if whole else values}))


def _reason(reason: object) -> str | None:
    if isinstance(reason, dict):
        return str(reason.get("type") or "stop")
    return reason if isinstance(reason, str) else None


class GenerateRewriter:
    """Passes chunks as they came: nothing is switched on here, and nothing continued."""

    plain = False

    def __init__(self) -> None:
        self.identity: Identity | None = None

    def look_ahead(self, ahead: Stopped) -> None:
        """See Rewriter: there are no timings."""

    def apply(self, event: SseEvent, chunk: Chunk, steps: Sequence[StepAcceptance] = ()) -> bytes:
        """See Rewriter."""
        return event.raw


class GenerateAssembler:
    """Keeps the last chunk of each choice, joined with those before where the stream is incremental."""

    #: A stream says all that a whole answer does; what it does not is never streamed.
    unsure = ""

    def __init__(self) -> None:
        self._progress: dict[int, Progress] = {}
        self._answers: dict[int, Object] = {}
        self._numbered = False

    def add(self, data: bytes) -> None:
        """See Gatherer."""
        if is_done(data):
            return
        said, fields = decode_event(_DECODER, data), decode_event(_FIELDS, data)
        if said is None or fields is None:
            return
        self._numbered = self._numbered or "index" in fields
        progress = self._progress.setdefault(said.index, Progress())
        whole = progress.is_whole(said)
        progress.advance(said)
        before = self._answers.get(said.index)
        if not whole and before is not None:
            fields = _joined(before, fields)
        self._answers[said.index] = fields

    def result(self) -> bytes:
        """See Gatherer: a list where several were asked for, else one object."""
        if not self._answers:
            raise ProtocolError("the stream ended without a chunk")
        for fields in self._answers.values():
            fields.pop("index", None)
        answers = [self._answers[index] for index in sorted(self._answers)]
        return _encode(answers if self._numbered else answers[0])


def _joined(before: Object, fields: Object) -> Object:
    out = {**before, **fields}
    if "text" in fields:
        out["text"] = (before.get("text") or "") + (fields["text"] or "")
    if "output_ids" in fields:
        out["output_ids"] = [*(before.get("output_ids") or ()), *(fields["output_ids"] or ())]
    old, new = before.get("meta_info"), fields.get("meta_info")
    if isinstance(old, dict) and isinstance(new, dict):
        for name in _PIECEWISE:
            if isinstance(old.get(name), list) and isinstance(new.get(name), list):
                new[name] = [*old[name], *new[name]]
    return out


class GenerateFamily(Family):
    """The one route, which takes PUT as well."""

    paths = ("/generate",)
    methods = frozenset({"POST", "PUT"})

    def parse(self, path: str, body: bytes) -> ClientRequest:
        """See Family."""
        fields = decode_object(body)
        sampling = fields.get("sampling_params")
        sampling = sampling if isinstance(sampling, dict) else {}
        n = asked_int(sampling.get("n"))
        return ClientRequest(
            family=self,
            route=path,
            raw=body,
            body=fields,
            stream=wants_stream(fields),
            model="",
            n=(1 if n is None else n) * _prompts(fields),
            max_tokens=asked_int(sampling.get("max_new_tokens")),
            resume_hazards=("this route is not known to continue a text",),
        )

    def reader(self) -> GenerateReader:
        """See Family."""
        return GenerateReader()

    def rewriter(
        self, request: ClientRequest, *, engine: str, annotate: bool, continuation: Continuation | None
    ) -> GenerateRewriter:
        """See Family."""
        return GenerateRewriter()

    def gatherer(self, request: ClientRequest, engine: str) -> GenerateAssembler:
        """See Family."""
        return GenerateAssembler()

    def said(self, body: bytes) -> list[Sample]:
        """See Family."""
        answer = decoded(body)
        answers = list(objects(answer if isinstance(answer, list) else [answer]))
        texts: Texts = [(at, Channel.CONTENT, text_of(one, "text")) for at, one in enumerate(answers)]
        counts = [number_of(one.get("meta_info"), "completion_tokens") for one in answers]
        return samples(texts, sum(count for count in counts if is_int(count)))

    def prompt(self, request: ClientRequest) -> object:
        """See Family."""
        return request.body.get("text")

    def error_body(self, notice: Notice) -> bytes:
        """See Family."""
        return _encode(_error(notice))

    def error_event(self, notice: Notice, sent: bytes = b"") -> bytes:
        """See Family."""
        return event_of(_error(notice))

    def stream_hazards(self, request: ClientRequest, engine: str) -> tuple[str, ...]:
        """See Family. Some results come with a whole answer only, or are not streamed in pieces."""
        names = ("return_hidden_states", "return_flat_raw_output_top_logprobs", "return_routed_experts")
        return tuple(f"{name} is set" for name in names if request.body.get(name))

    def switches(self, request: ClientRequest, engine: str, wanted: Mapping[str, Any]) -> Mapping[str, Any]:
        """See Family: only the request id."""
        return {name: value for name, value in wanted.items() if name == "rid"}

    def sampling(self, request: ClientRequest) -> Mapping[str, Any]:
        """See Family."""
        params = request.body.get("sampling_params")
        known = params if isinstance(params, dict) else {}
        return {name: known[field] for name, field in _SAMPLING.items() if field in known}

    def changes(self, request: ClientRequest, engine: str, wanted: Mapping[str, Any]) -> Object:
        """See Family. One set of parameters for each prompt is left alone."""
        fields = {_TOP[name]: value for name, value in wanted.items() if name in _TOP}
        params = request.body.get("sampling_params")
        sampled = {_SAMPLING[name]: value for name, value in wanted.items() if name in _SAMPLING}
        if sampled and not isinstance(params, list):
            fields["sampling_params"] = {**(params if isinstance(params, dict) else {}), **sampled}
        return fields

    def rid_field(self, request: ClientRequest) -> str:
        """See Family."""
        return "rid"


GENERATE = GenerateFamily()


def _prompts(fields: Object) -> int:
    text, ids = fields.get("text"), fields.get("input_ids")
    if isinstance(text, list):
        return max(len(text), 1)
    if isinstance(ids, list) and ids and isinstance(ids[0], list):
        return len(ids)
    return 1


def _error(notice: Notice) -> Object:
    error = {"message": notice.message, "type": notice.kind, "code": notice.status, "retryable": False}
    return {"error": {**error, "reason": notice.code} if notice.code else error}
