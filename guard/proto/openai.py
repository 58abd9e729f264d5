"""OpenAI's chat and completions routes: the client's request, and the backend's chunks."""

from __future__ import annotations

import enum
from typing import Any, TypeGuard

import msgspec

from guard.errors import ProtocolError, RequestError
from guard.types import Channel
from guard.wire import Choice, Chunk


class Route(enum.Enum):
    """A guarded route; the value is its path."""

    CHAT = "/v1/chat/completions"
    COMPLETIONS = "/v1/completions"


_ROUTES = {route.value: route for route in Route}

#: Fields that bind the text to a grammar, which a continued answer would start afresh.
_GRAMMAR_FIELDS = (
    "grammar",
    "json_schema",
    "structured_outputs",
    "guided_json",
    "guided_regex",
    "guided_choice",
    "guided_grammar",
    "regex",
    "ebnf",
)


class ClientRequest(msgspec.Struct, frozen=True):
    """
    What a client asked for.

    Args:
        route: Where.
        raw: The body as it came.
        body: The body decoded.
        stream: Whether the client wants server-sent events.
        model: Model name; empty when the client left it to the backend.
        n: Choices asked for.
        include_usage: Whether the client asked for the usage chunk of a stream.
        timings_per_token: Whether the client itself asked for llama.cpp's timings in each chunk.
        return_token_ids: Whether the client itself asked for vLLM's token ids.
        max_tokens: Most tokens the client wants; None without a limit. Unit: tokens.
        resume_hazards: Why continuing a partial answer would be unsafe, one clause each.
        prefill: Text with which the client itself begins the assistant's turn; empty when it does not.
    """

    route: Route
    raw: bytes
    body: dict[str, Any]
    stream: bool
    model: str
    n: int
    include_usage: bool
    timings_per_token: bool
    return_token_ids: bool
    max_tokens: int | None
    resume_hazards: tuple[str, ...]
    prefill: str


def route_of(path: str) -> Route | None:
    """
    The guarded route at a path.

    Args:
        path: URL path, without the query.

    Returns:
        None for every path the guard only passes through.
    """
    return _ROUTES.get(path)


def parse_request(route: Route, body: bytes) -> ClientRequest:
    """
    Read a client's request. What the guard does not need is left to the backend to judge.

    Args:
        route: Where it was sent.
        body: Its bytes.

    Returns:
        The request.

    Raises:
        RequestError: The body is no JSON object, or `stream` is no boolean.
    """
    fields = _decode_object(body)
    stream = fields.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise RequestError("stream must be true or false", param="stream", code="invalid_type")
    options = fields.get("stream_options")
    model = fields.get("model")
    n = fields.get("n")
    return ClientRequest(
        route=route,
        raw=body,
        body=fields,
        stream=stream is True,
        model=model if isinstance(model, str) else "",
        n=n if _is_int(n) else 1,
        include_usage=isinstance(options, dict) and options.get("include_usage") is True,
        timings_per_token=fields.get("timings_per_token") is True,
        return_token_ids=fields.get("return_token_ids") is True,
        max_tokens=_max_tokens(fields),
        resume_hazards=tuple(_resume_hazards(route, fields)),
        prefill=_prefill(route, fields),
    )


def decode_chunk(data: bytes) -> Chunk:
    """
    Decode one event's data.

    Args:
        data: JSON of one chunk; not `[DONE]`.

    Returns:
        The fields the guard looks at. JSON's null, with which llama.cpp opens some streams, is a
        chunk that says nothing.

    Raises:
        ProtocolError: Not UTF-8, not JSON, or not shaped like a chunk; `where` names the byte or
            the path inside the chunk.
    """
    try:
        if not data.isascii():
            data.decode()
        return _DECODER.decode(data)
    except UnicodeDecodeError as error:
        raise ProtocolError("the chunk is not UTF-8", where=f"byte {error.start}") from error
    except msgspec.ValidationError as error:
        if data.strip() == b"null":
            return Chunk()
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


_DECODER = msgspec.json.Decoder(Chunk)


def _decode_object(body: bytes) -> dict[str, Any]:
    try:
        if not body.isascii():
            body.decode()
        fields = msgspec.json.decode(body)
    except UnicodeDecodeError as error:
        raise RequestError(f"the body is not UTF-8 (byte {error.start})", code="invalid_json") from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise RequestError(f"the body is not JSON: {error}", code="invalid_json") from error
    if not isinstance(fields, dict):
        raise RequestError("the body must be a JSON object", code="invalid_json")
    return fields


def _place(error: Exception) -> tuple[str, str]:
    """Split msgspec's "... (byte 12)" into what and where."""
    what, mark, byte = str(error).rpartition(" (byte ")
    return (what, f"byte {byte.rstrip(')')}") if mark else (str(error), "end")


def _is_int(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _max_tokens(fields: dict[str, Any]) -> int | None:
    limits = [fields.get(name) for name in ("max_completion_tokens", "max_tokens")]
    return next((limit for limit in limits if _is_int(limit)), None)


def _resume_hazards(route: Route, fields: dict[str, Any]) -> list[str]:
    hazards: list[str] = []
    if fields.get("tools") or fields.get("functions"):
        hazards.append("tools are offered")
    response_format = fields.get("response_format")
    if isinstance(response_format, dict) and response_format.get("type") != "text":
        hazards.append("response_format is set")
    hazards.extend(f"{name} is set" for name in _GRAMMAR_FIELDS if fields.get(name))
    for name in ("n", "best_of"):
        value = fields.get(name)
        if _is_int(value) and value > 1:
            hazards.append(f"{name} > 1")
    logprobs = fields.get("logprobs")
    if logprobs is not None and logprobs is not False:
        hazards.append("logprobs are asked")
    if fields.get("echo"):
        hazards.append("echo is set")
    if route is Route.COMPLETIONS:
        if not isinstance(fields.get("prompt"), str):
            hazards.append("the prompt is not one string")
        if fields.get("suffix"):
            hazards.append("suffix is set")
    elif not _messages_extend(fields.get("messages")):
        hazards.append("the last message cannot be continued as text")
    return hazards


def _prefill(route: Route, fields: dict[str, Any]) -> str:
    messages = fields.get("messages")
    last = messages[-1] if route is Route.CHAT and isinstance(messages, list) and messages else None
    if not isinstance(last, dict) or last.get("role") != "assistant":
        return ""
    content = last.get("content")
    return content if isinstance(content, str) else ""


def _messages_extend(messages: object) -> bool:
    """Whether text can follow: a list whose last message, if the assistant's, has plain text."""
    if not isinstance(messages, list) or not messages:
        return False
    last = messages[-1]
    if not isinstance(last, dict):
        return False
    return last.get("role") != "assistant" or isinstance(last.get("content"), str)
