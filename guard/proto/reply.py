"""What the guard itself says to a client: errors in OpenAI's form, and the closing comment."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


def error_body(message: str, *, code: str | None = None, kind: str = "guard_error", param: str | None = None) -> bytes:
    """
    A JSON error body in OpenAI's form.

    Args:
        message: For people.
        code: Machine-readable code.
        kind: OpenAI's `type`.
        param: Request field at fault.

    Returns:
        `{"error": {"message", "type", "param", "code"}}`, encoded.
    """
    return msgspec.json.encode({"error": {"message": message, "type": kind, "param": param, "code": code}})


def error_event(message: str, *, code: str | None = None, kind: str = "guard_error", param: str | None = None) -> bytes:
    """The same as one server-sent event, for an answer that fails after its head was sent."""
    return b"data: " + error_body(message, code=code, kind=kind, param=param) + b"\n\n"


def guard_comment(summary: Mapping[str, object]) -> bytes:
    """
    The account that ends a guarded stream, as a comment: clients skip it, people can read it.

    Args:
        summary: JSON object to show.

    Returns:
        `: guard {...}` with its blank line. JSON escapes line breaks, so it stays one line.
    """
    return b": guard " + msgspec.json.encode(summary) + b"\n\n"
