"""All families, and which one serves a path."""

from __future__ import annotations

import re

from guard.proto.anthropic import MESSAGES
from guard.proto.family import Family
from guard.proto.llama import COMPLETION
from guard.proto.openai import CHAT, COMPLETIONS
from guard.proto.responses import RESPONSES
from guard.proto.sglang import GENERATE

FAMILIES: tuple[Family, ...] = (CHAT, COMPLETIONS, RESPONSES, MESSAGES, GENERATE, COMPLETION)

_BY_PATH = {path: family for family in FAMILIES for path in family.paths}
_SLASHES = re.compile(r"/+")


def plain_path(path: str) -> str:
    """
    A path as the families spell theirs.

    What stands before a backend may take several slashes for one (nginx does), and frameworks one at the end for none:
    a request must not go past the guard by being spelled so.

    Args:
        path: URL path, decoded, without the query.

    Returns:
        The path of a family that is meant; any other path as it is.
    """
    if path in _BY_PATH:
        return path
    plain = _SLASHES.sub("/", path).rstrip("/")
    return plain if plain in _BY_PATH else path


def family_at(path: str, method: str = "POST") -> Family | None:
    """
    The family of a guarded request.

    Args:
        path: URL path, without the query.
        method: HTTP method.

    Returns:
        None for everything the guard only passes through.
    """
    family = _BY_PATH.get(path)
    return family if family is not None and method in family.methods else None


def family_near(path: str) -> Family:
    """The family whose form of error a client of this path expects; OpenAI's where none is near."""
    for known, family in _BY_PATH.items():
        if path == known or path.startswith(known + "/"):
            return family
    return CHAT
