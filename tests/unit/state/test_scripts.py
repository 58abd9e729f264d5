"""A script is run by its digest; its text is sent only to a server that does not know it."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import Any

import pytest
from redis.exceptions import NoScriptError

from guard.state.scripts import Script

NAMES = ["retries", "quality", "ejections", "means", "verdicts"]


class Server:
    """Keeps scripts as Redis does, and runs none."""

    def __init__(self) -> None:
        self.known: set[str] = set()
        self.calls: list[str] = []

    async def evalsha(self, sha: str, numkeys: int, *given: str) -> list[Any]:
        self.calls.append("evalsha")
        if sha not in self.known:
            raise NoScriptError("NOSCRIPT No matching script")
        return [numkeys, *given]

    async def eval(self, script: str, numkeys: int, *given: str) -> list[Any]:
        self.calls.append("eval")
        self.known.add(hashlib.sha1(script.encode()).hexdigest())
        return [numkeys, *given]

    async def xrevrange(self, name: str, count: int) -> list[Any]:
        raise AssertionError(name, count)

    async def aclose(self) -> None:
        raise AssertionError


async def test_two_round_trips_the_first_time_one_from_then_on() -> None:
    server, script = Server(), Script("means")
    assert await script.run(server, "key", 1, 0.5, "x") == [1, "key", "1", "0.5", "x"]
    assert server.calls == ["evalsha", "eval"]
    await script.run(server, "key")
    assert server.calls == ["evalsha", "eval", "evalsha"]


@pytest.mark.parametrize("name", NAMES)
def test_every_script_uses_one_key_and_gives_it_a_time_to_live(name: str) -> None:
    text = (files("guard.state") / "lua" / f"{name}.lua").read_text()
    assert "PEXPIRE" in text
    assert "KEYS[2]" not in text


def test_all_scripts_are_in_the_package() -> None:
    found = {entry.name for entry in (files("guard.state") / "lua").iterdir()}
    assert found == {f"{name}.lua" for name in NAMES}
