"""
What a whole answer says, in the pieces that a judge of streams reads.

An answer that only the backend can give whole is judged when it is there. Its tokens are only counted, not told one by
one: each piece stands for a few of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from guard.errors import ProtocolError
from guard.proto.client import is_int
from guard.types import MOST_TOKENS, Channel, Sample

#: Tokens of one piece: enough of them that a long answer is judged in a few milliseconds. Unit: tokens.
_PIECE = 8
#: Where no count is told. Unit: characters.
_PER_TOKEN = 4
Texts = list[tuple[int, Channel, str]]


def decoded(body: bytes) -> Any:  # noqa: ANN401 - any JSON value
    """
    The answer as JSON.

    Raises:
        ProtocolError: It is none.
    """
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(f"the answer is not JSON: {error}") from error


def samples(texts: Texts, tokens: object) -> list[Sample]:
    """
    The texts of an answer, piece by piece.

    Args:
        texts: Choice, channel and text, in their order.
        tokens: All of the answer's, spread over the texts by their length; anything but a number where it is not told.
            Unit: tokens.
    """
    length = sum(len(text) for _, _, text in texts)
    total = tokens if is_int(tokens) and 0 < tokens <= MOST_TOKENS else max(length // _PER_TOKEN, 1)
    out: list[Sample] = []
    for choice, channel, text in texts:
        if not text:
            continue
        share = max(total * len(text) // length, 1)
        count = min(-(-share // _PIECE), len(text))
        for number in range(count):
            piece = text[len(text) * number // count : len(text) * (number + 1) // count]
            held = share * (number + 1) // count - share * number // count
            out.append(Sample(choice, ((channel, piece),), held))
    return out


def objects(value: object) -> Iterable[dict[str, Any]]:
    """The objects in a JSON list; none where it is no list."""
    return (part for part in value if isinstance(part, dict)) if isinstance(value, list) else ()


def text_of(fields: dict[str, Any], *names: str) -> str:
    """The first of these fields that is a text and not empty."""
    return next((value for name in names if isinstance(value := fields.get(name), str) and value), "")


def number_of(fields: object, name: str) -> object:
    """A field of an object; None where there is no object."""
    return fields.get(name) if isinstance(fields, dict) else None
