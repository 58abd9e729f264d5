"""The body of an upstream request: the client's, with what the guard needs set in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from guard.proto.client import ClientRequest

#: What JSON allows after a document.
_BLANKS: Final = b" \t\r\n"


def upstream_body(
    request: ClientRequest,
    *,
    switches: Mapping[str, Any],
    changes: Mapping[str, Any],
    resume_text: str | None = None,
    released_tokens: int = 0,
    engine: str,
    whole: bool = False,
) -> bytes:
    """
    Make the body of one attempt.

    Streaming is forced on when the client wants one body, so that a bad answer can be cut early, and spelled out when
    it asks for it in another way than with true. A
    resume makes the engine continue `resume_text`. All values the guard does not touch keep their
    exact bytes; a body that needs no change is the client's own.

    Args:
        request: The client's request.
        switches: Fields that turn the engine's acceptance signal on.
        changes: Fields that a retry changes.
        resume_text: Text of the answer already released; None to start from the beginning.
        released_tokens: Tokens of that text, taken off the client's limits. Unit: tokens.
        engine: Engine name.
        whole: Leave a request for one body one.

    Returns:
        JSON.

    Raises:
        ValueError: A resume was asked although `request.resume_hazards` rules it out.
    """
    family = request.family
    wanted: dict[str, Any] = {} if whole else {"stream": True} if request.stream else family.stream_fields(request)
    wanted.update(family.switches(request, engine, switches))
    if changes:
        wanted.update(family.changes(request, engine, changes))
    if resume_text is not None:
        wanted.update(family.resume_fields(request, resume_text, released_tokens, engine))
    body = request.body
    wanted = {name: _merged(body.get(name), value) for name, value in wanted.items()}
    edits = {name: value for name, value in wanted.items() if name not in body or not _same(body[name], value)}
    if not edits:
        return request.raw
    if body and body.keys().isdisjoint(edits):
        # Put in before the closing brace, nothing of a long prompt is written anew.
        return b"%b,%b" % (request.raw.rstrip(_BLANKS)[:-1], msgspec.json.encode(edits)[1:])
    fields: dict[str, Any] = msgspec.json.decode(request.raw, type=dict[str, msgspec.Raw])
    fields.update(edits)
    return msgspec.json.encode(fields)


def stream_hazards(request: ClientRequest, engine: str) -> tuple[str, ...]:
    """
    Why a request for one body must not be turned into a stream: the assembled answer would not be
    the engine's own.

    Args:
        request: The client's request.
        engine: Engine name.

    Returns:
        One clause each; empty when it may, and always for a request that is streamed anyway.
    """
    return () if request.stream else request.family.stream_hazards(request, engine)


def _merged(have: object, want: object) -> object:
    """An object of the client's keeps its own entries besides those of the guard."""
    return {**have, **want} if isinstance(have, dict) and isinstance(want, dict) else want


def _same(have: object, want: object) -> bool:
    return type(have) is type(want) and have == want
