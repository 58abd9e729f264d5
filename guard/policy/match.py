"""Which requests a policy is for."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from guard.policy.schema import Match, Span

#: Where the prompt was not counted in tokens, so many of its characters count as one.
CHARACTERS_PER_TOKEN = 4


class RequestFacts(msgspec.Struct, frozen=True, kw_only=True):
    """
    What is known of a request before it is sent on.

    Args:
        model: Model it names; empty when it names none.
        route: Its path.
        headers: Its headers, names in lower case.
        prompt_characters: Size of its prompt. Unit: characters.
        prompt_tokens: Size of its prompt, where it is known (a prompt of token ids). Unit: tokens.
    """

    model: str = ""
    route: str = ""
    headers: Mapping[str, str] = {}
    prompt_characters: int = 0
    prompt_tokens: int | None = None


def matches(match: Match, facts: RequestFacts) -> bool:
    """Whether everything that `match` asks for holds for a request."""
    if match.model and not any(fits(glob, facts.model) for glob in match.model):
        return False
    if match.route and not any(fits(glob, facts.route) for glob in match.route):
        return False
    for name, glob in match.header:
        value = facts.headers.get(name)
        if value is None or not fits(glob, value):
            return False
    tokens = facts.prompt_tokens
    if tokens is None:
        tokens = -(-facts.prompt_characters // CHARACTERS_PER_TOKEN)
    return _within(match.prompt_tokens, tokens) and _within(match.prompt_characters, facts.prompt_characters)


def _within(span: Span | None, value: int) -> bool:
    if span is None:
        return True
    return (span.above is None or value > span.above) and (span.below is None or value < span.below)


def fits(glob: str, text: str) -> bool:
    """
    Whether a glob fits the whole of a text, upper and lower case told apart.

    `*` stands for any run of characters, `?` for one. Time grows with the product of both lengths at
    most, whatever they are: on a mismatch only the latest `*` is tried again.
    """
    at = index = 0
    star, resume = -1, 0
    while index < len(text):
        if at < len(glob) and glob[at] == "*":
            star, resume = at, index
            at += 1
        elif at < len(glob) and glob[at] in ("?", text[index]):
            at += 1
            index += 1
        elif star >= 0:
            resume += 1
            at, index = star + 1, resume
        else:
            return False
    return all(rest == "*" for rest in glob[at:])
