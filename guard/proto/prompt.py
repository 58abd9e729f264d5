"""What the user asked, as plain text: context for the detectors, never logged, recorded only where that is set."""

from __future__ import annotations

from collections.abc import Iterator

from guard.proto.client import ClientRequest

#: Most of a prompt that is kept, its end first: what was asked last says most. Unit: characters.
MAX_CHARACTERS = 65_536


def prompt_text(request: ClientRequest) -> str:
    """
    The text of a request's prompt or messages, in order, one piece a line.

    Args:
        request: The parsed request; parts that are not text (images, token ids) are left out.

    Returns:
        At most MAX_CHARACTERS, taken from the end.
    """
    pieces: list[str] = []
    size = 0
    for piece in _from_the_end(request.family.prompt(request)):
        pieces.append(piece)
        size += len(piece) + 1
        if size > MAX_CHARACTERS:
            break
    return "\n".join(reversed(pieces))[-MAX_CHARACTERS:]


def prompt_beginning(request: ClientRequest, characters: int) -> str:
    """
    How a request's prompt begins: what prompts that share a cached prefix have in common.

    Args:
        request: The parsed request; parts that are not text are left out.
        characters: Most that is returned. Unit: characters.
    """
    pieces: list[str] = []
    size = 0
    for piece in _from_the_start(request.family.prompt(request)):
        pieces.append(piece)
        size += len(piece) + 1
        if size > characters:
            break
    return "\n".join(pieces)[:characters]


def _from_the_start(value: object) -> Iterator[str]:
    """As `_from_the_end`, first first."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _from_the_start(item)
    elif isinstance(value, dict):
        yield from _from_the_start(value.get("text"))
        yield from _from_the_start(value.get("content"))


def _from_the_end(value: object) -> Iterator[str]:
    """Texts inside a prompt (text, or a list of texts) or a list of messages, last first."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in reversed(value):
            yield from _from_the_end(item)
    elif isinstance(value, dict):
        # A message has content; a part of a message has text.
        yield from _from_the_end(value.get("content"))
        yield from _from_the_end(value.get("text"))
