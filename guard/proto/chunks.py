"""
OpenAI's streamed chunks, which are also the form that every other family's events are read into.

Source:
    vLLM 0.32 vllm/entrypoints/openai/{chat_completion,completion}/protocol.py; SGLang 0.5.23
    python/sglang/srt/entrypoints/openai/protocol.py; llama.cpp tools/server/server-task.cpp.
"""

from __future__ import annotations

import contextlib
import enum
from typing import TypeVar

import msgspec

from guard.errors import ProtocolError
from guard.types import Channel
from guard.wire import Choice, Chunk

T = TypeVar("T")


class Route(enum.Enum):
    """One of OpenAI's older routes; the value is its path."""

    CHAT = "/v1/chat/completions"
    COMPLETIONS = "/v1/completions"


class LastChunk(Chunk, gc=False):
    """The chunk with which a family ends its stream."""


def decode_chunk(data: bytes) -> Chunk:
    """
    Decode one event's data.

    Args:
        data: JSON of one chunk; not `[DONE]`.

    Returns:
        The fields the guard looks at. JSON's null, with which llama.cpp opens some streams, is a
        chunk that says nothing.

    Raises:
        ProtocolError: As of `decode_event`.
    """
    if data.isascii():
        try:
            return _decode(data)
        except (msgspec.DecodeError, RecursionError):
            pass  # what is wrong is said below
    chunk = decode_event(_DECODER, data)
    return Chunk() if chunk is None else chunk


def decode_event(decoder: msgspec.json.Decoder[T], data: bytes) -> T | None:
    """
    Decode one event's data with a family's own decoder.

    Args:
        decoder: For the fields the guard looks at.
        data: JSON of one event.

    Returns:
        The fields; None for JSON's null. A field that is null is as good as one that is not there.

    Raises:
        ProtocolError: Not UTF-8, not JSON, or not shaped like an event; `where` names the byte or
            the path inside it.
    """
    try:
        if not data.isascii():
            data.decode()
        return decoder.decode(data)
    except UnicodeDecodeError as error:
        raise ProtocolError("the chunk is not UTF-8", where=f"byte {error.start}") from error
    except msgspec.ValidationError as error:
        if data.strip() == b"null":
            return None
        with contextlib.suppress(msgspec.DecodeError, RecursionError):
            return decoder.decode(msgspec.json.encode(_less_nulls(msgspec.json.decode(data))))
        what, _, path = str(error).rpartition(" - at ")
        raise ProtocolError(f"not a chunk: {what or path}", where=path.strip("`") if what else "$") from error
    except (msgspec.DecodeError, RecursionError) as error:
        what, where = _place(error)
        raise ProtocolError(f"the chunk is not JSON: {what}", where=where) from error


def is_done(data: bytes) -> bool:
    """Whether the data is the marker that ends a stream."""
    return data.strip() == b"[DONE]"


def sample_texts(choice: Choice) -> tuple[tuple[Channel, str], ...]:
    """
    Texts of one choice by channel; empty texts are left out.

    A refusal counts as content. Of `reasoning` and `reasoning_content`, which some servers send
    both with the same text, the first counts.
    """
    delta = choice.delta
    if delta is None:
        return ((Channel.CONTENT, choice.text),) if choice.text else ()
    reasoning = delta.reasoning or delta.reasoning_content
    if delta.content and not reasoning and delta.tool_calls is None and delta.refusal is None:
        return ((Channel.CONTENT, delta.content),)  # nearly every chunk there is
    texts: list[tuple[Channel, str]] = []
    if reasoning:
        texts.append((Channel.REASONING, reasoning))
    if delta.content:
        texts.append((Channel.CONTENT, delta.content))
    if delta.refusal:
        texts.append((Channel.CONTENT, delta.refusal))
    for call in delta.tool_calls or ():
        if call.function is not None and call.function.arguments:
            texts.append((Channel.TOOL, call.function.arguments))
    return tuple(texts)


def _less_nulls(value: object) -> object:
    """A JSON value whose objects have no nulls: some servers write one where others leave the field out."""
    if isinstance(value, dict):
        return {name: _less_nulls(part) for name, part in value.items() if part is not None}
    return [_less_nulls(part) for part in value] if isinstance(value, list) else value


_DECODER = msgspec.json.Decoder(Chunk)
_decode = _DECODER.decode


def _place(error: Exception) -> tuple[str, str]:
    """Split msgspec's "... (byte 12)" into what and where."""
    what, mark, byte = str(error).rpartition(" (byte ")
    return (what, f"byte {byte.rstrip(')')}") if mark else (str(error), "end")
