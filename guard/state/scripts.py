"""The store's Lua scripts."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import Any

from redis.exceptions import NoScriptError

from guard.state.connect import Client


class Script:
    """
    One script, run under its digest; a server that does not know it yet gets its text.

    Args:
        name: Name of its file in `lua`, without the ending.
    """

    def __init__(self, name: str) -> None:
        self._text = (files("guard.state") / "lua" / f"{name}.lua").read_text(encoding="utf-8")
        self._digest = hashlib.sha1(self._text.encode(), usedforsecurity=False).hexdigest()

    async def run(self, client: Client, key: str, *arguments: str | int | float) -> list[Any]:
        """
        Run it: one round trip, two the first time.

        Args:
            client: Where.
            key: The one key that it uses.
            arguments: Its arguments.
        """
        given = [str(argument) for argument in arguments]
        try:
            return await client.evalsha(self._digest, 1, key, *given)
        except NoScriptError:
            return await client.eval(self._text, 1, key, *given)
