"""
Cuts what the guard asked for out of the bytes of the engines' own compact chunks, without decoding them.

Sound because inside a JSON string a quote is escaped: the bytes searched for, which hold bare quotes, can only
stand where a key stands. Whatever looks otherwise is left to `guard.proto.rewrite`, which decodes.
"""

from __future__ import annotations

import re

import msgspec

from guard.proto.frame import one_line
from guard.proto.sse import SseEvent
from guard.wire import Chunk, Delta

_NULL = msgspec.Raw(b"null")
_whole = msgspec.json.Decoder(msgspec.Raw).decode
_TIMINGS = b',"timings":{'
_TOKEN_IDS = b'"token_ids":['
_ANY_TOKEN_IDS = b'token_ids":['
_LOGPROBS = b',"logprobs":{'
_AFTER_LOGPROBS = b',"finish_reason":'
_PROMPT_KEY = b'"prompt_token_ids"'
_PROMPT_NULL = b'"prompt_token_ids":null'
_PROMPT_TOKEN_IDS = b'"prompt_token_ids":['
_PROMPT_SPACED = re.compile(rb'"prompt_token_ids"\s*:\s*\[')
_METRICS = b',"metrics":{"speculative_decoding":{'


def delta_says_something(delta: Delta) -> bool:
    """Whether a delta has anything for the client to read."""
    if delta.content or delta.reasoning_content or delta.tool_calls:
        return True
    return bool(delta.reasoning or delta.refusal)


def has_token_ids(raw: bytes, chunk: Chunk) -> bool:
    """Whether a chunk has token ids, of the answer or of the prompt, that are not null."""
    for choice in chunk.choices:
        if choice.token_ids is not None:
            return True
    # With `in`, bytes are first tried as a number, which fails at ten times the price of this.
    if raw.find(_PROMPT_KEY) < 0 or raw.find(_PROMPT_NULL) >= 0:
        return raw.find(_PROMPT_TOKEN_IDS) >= 0
    return _PROMPT_SPACED.search(raw) is not None


def cut_bytes(
    event: SseEvent, chunk: Chunk, *, timings: bool, tokens: bool, metrics: bool, logprobs: bool
) -> bytes | None:
    """
    Cut the engines' own compact form; None when it looks otherwise.

    Args:
        event: Its bytes.
        chunk: What it says.
        timings: Take llama.cpp's timings out.
        tokens: Null the token ids.
        metrics: Take the plugin's steps out.
        logprobs: Null the log-probabilities.
    """
    raw = event.raw
    if not one_line(event):
        return None
    if timings:
        return None if tokens or metrics or logprobs else _cut_timings(raw)
    if logprobs:
        cut = _cut_logprobs(raw)
        if cut is None or not (metrics or tokens):
            return cut
        raw = cut
    if metrics:
        cut = cut_metrics(raw)
        if cut is None or not tokens:
            return cut
        raw = cut
    return _cut_token_ids(raw, chunk)


def cut_step(event: SseEvent, chunk: Chunk) -> bytes | None:
    """
    What `cut_bytes` would make of the usual chunk of a vLLM with the plugin: text of one choice, whose token ids
    stand right before the counts; None for any other.
    """
    if chunk.metrics is None or len(chunk.choices) != 1 or not one_line(event):
        return None
    choice, raw = chunk.choices[0], event.raw
    if choice.token_ids is None or (choice.logprobs and choice.logprobs != _NULL):
        return None
    if not choice.text and (choice.delta is None or choice.delta.content is None):
        return None
    stop = raw.rfind(_METRICS)
    key = raw.rfind(_TOKEN_IDS, 0, max(stop, 0))
    start = key + len(_TOKEN_IDS) - 1
    if key < 0 or raw.find(b"]", start) != stop - 3 or raw[stop - 3 : stop] != b"]}]":
        return None
    if raw.find(b"}", stop) != len(raw) - 5 or not raw.endswith(b"}}}\n\n") or raw.rfind(_ANY_TOKEN_IDS, 0, key) >= 0:
        return None
    return raw[:start] + b"null}]}\n\n"


def _cut_logprobs(raw: bytes) -> bytes | None:
    """Null the one `logprobs` there is, when `finish_reason`, which nothing inside has, is its next sibling."""
    start = raw.find(_LOGPROBS) + len(_LOGPROBS) - 1
    end = raw.find(_AFTER_LOGPROBS, start)
    if start < len(_LOGPROBS) or end < 0 or raw.find(_LOGPROBS, start) >= 0:
        return None
    try:
        _whole(raw[start:end])
    except msgspec.DecodeError:  # another field stands between
        return None
    return raw[:start] + b"null" + raw[end:]


def _cut_timings(raw: bytes) -> bytes | None:
    """`timings` holds numbers only, so its first brace ends it; what follows must end the chunk."""
    start = raw.rfind(_TIMINGS)
    end = raw.find(b"}", start) + 1
    return raw[:start] + raw[end:] if start > 0 and raw[end:] == b"}\n\n" else None


def cut_metrics(raw: bytes) -> bytes | None:
    """Take out a `metrics` object at the end that holds nothing but flat `speculative_decoding`."""
    start = raw.rfind(_METRICS)
    end = raw.find(b"}", start) + 2
    return raw[:start] + raw[end:] if start > 0 and raw[end - 1 :] == b"}}\n\n" else None


def _cut_token_ids(raw: bytes, chunk: Chunk) -> bytes | None:
    """Null the one `token_ids` there is, when it ends the only choice."""
    if len(chunk.choices) != 1:
        return None
    delta = chunk.choices[0].delta
    if delta is not None and delta.content is None and not delta_says_something(delta):
        return None  # it may have to vanish
    key = raw.rfind(_TOKEN_IDS)
    if key < 0 and chunk.choices[0].token_ids is None:
        return _cut_prompt_ids(raw)
    start = key + len(_TOKEN_IDS) - 1
    end = raw.find(b"]", start) + 1
    # `prompt_token_ids` ends in the same bytes: it must not stand here either.
    if key < 0 or raw[end : end + 2] != b"}]" or raw.rfind(_ANY_TOKEN_IDS, 0, key) >= 0:
        return None
    return raw[:start] + b"null" + raw[end:]


def _cut_prompt_ids(raw: bytes) -> bytes | None:
    """Null the one `prompt_token_ids` there is: an answer's first chunk has them, as many as its prompt is long."""
    key = raw.find(_PROMPT_TOKEN_IDS)
    start = key + len(_PROMPT_TOKEN_IDS) - 1
    if key < 0 or raw.find(_PROMPT_KEY, start) >= 0 or raw.rfind(_PROMPT_KEY, 0, key) >= 0:
        return None
    return raw[:start] + b"null" + raw[raw.index(b"]", start) + 1 :]
