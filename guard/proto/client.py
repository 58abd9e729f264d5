"""A client's request, as every family reads it."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, TypeGuard

import msgspec

from guard.errors import RequestError

if TYPE_CHECKING:
    from guard.proto.family import Family


class ClientRequest(msgspec.Struct, frozen=True, kw_only=True):
    """
    What a client asked for.

    Args:
        family: Whose form the request has.
        route: Path it was sent to.
        raw: The body as it came.
        body: The body decoded.
        stream: Whether the client wants server-sent events.
        model: Model name; empty when the client left it to the backend.
        n: Choices asked for, over all prompts.
        timings_per_token: Whether the client itself asked for llama.cpp's timings in each chunk.
        return_token_ids: Whether the client itself asked for vLLM's token ids.
        max_tokens: Most tokens the client wants; None without a limit. Unit: tokens.
        resume_hazards: Why continuing a partial answer would be unsafe, one clause each.
        prefill: Text with which the client itself begins the assistant's turn; empty when it does not.
    """

    family: Family
    route: str
    raw: bytes
    body: dict[str, Any]
    stream: bool
    model: str
    n: int = 1
    timings_per_token: bool = False
    return_token_ids: bool = False
    max_tokens: int | None = None
    resume_hazards: tuple[str, ...] = ()
    prefill: str = ""


#: Most lists and objects of a body. Twenty million empty ones, in 60 MB, took 7 s and 1.2 GB to read, and no stream
#: moved meanwhile; no prompt has as many brackets.
MOST_PARTS = 1_000_000


def decode_object(body: bytes) -> dict[str, Any]:
    """
    Read a body that must be one JSON object.

    Raises:
        RequestError: It is not, or is made to be slow to read.
    """
    if len(body) > 2 * MOST_PARTS and body.count(b"[") + body.count(b"{") > MOST_PARTS:
        raise RequestError(f"the body has more than {MOST_PARTS} lists and objects", status=413)
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


def wants_stream(fields: dict[str, Any]) -> bool:
    """
    Whether a body asks for server-sent events.

    Raises:
        RequestError: `stream` is no boolean, nor what vLLM takes for one.
    """
    stream = fields.get("stream")
    asked = asked_bool(stream)
    if stream is not None and asked is None:
        raise RequestError("stream must be true or false", param="stream", code="invalid_type")
    return asked is True


def is_int(value: object) -> TypeGuard[int]:
    """Whether a JSON value is a whole number; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool)


#: What is read as true and as false besides the two, in any case of letters.
_YES = frozenset({"1", "true", "t", "yes", "y", "on"})
_NO = frozenset({"0", "false", "f", "no", "n", "off"})


def asked_bool(value: object) -> bool | None:
    """
    What a client asks for with a switch; None for what is no switch.

    vLLM takes 1 and "true" for true (pydantic's lax mode). llama.cpp takes nothing but a boolean, and its default for
    all else: it is sent a boolean.
    """
    if isinstance(value, bool):
        return value
    if isinstance(value, (int, float)):
        return bool(value) if value in (0, 1) else None
    if isinstance(value, str):
        word = value.lower()
        return True if word in _YES else False if word in _NO else None
    return None


_WHOLE = re.compile(r"\+?(\d{1,18})(?:\.0*)?")


def asked_int(value: object) -> int | None:
    """
    A number that a client asks for, as the engines read it; None for what is none.

    vLLM takes "2" and 2.0 for 2 (pydantic's lax mode), llama.cpp cuts 2.5 down to 2: what is more to them than 1 must
    not be 1 here.
    """
    if is_int(value):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return int(value)
    found = _WHOLE.fullmatch(value.strip()) if isinstance(value, str) else None
    return int(found[1]) if found else None


def text_or_empty(value: object) -> str:
    """A JSON value if it is a text, else the empty one."""
    return value if isinstance(value, str) else ""
