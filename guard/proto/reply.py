"""The guard's account at the end of a stream."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


def guard_comment(summary: Mapping[str, object]) -> bytes:
    """
    The account that ends a guarded stream, as a comment: clients skip it, people can read it.

    Args:
        summary: JSON object to show.

    Returns:
        `: guard {...}` with its blank line. JSON escapes line breaks, so it stays one line.
    """
    return b": guard " + msgspec.json.encode(summary) + b"\n\n"
