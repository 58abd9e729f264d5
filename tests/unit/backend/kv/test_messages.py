"""The wire form of the handshake."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from guard.backend import kv
from guard.backend.kv.ids import BlockId, Owner, Party
from guard.backend.kv.messages import (
    Abort,
    Destination,
    Done,
    Drained,
    Hello,
    LayerDone,
    Message,
    ReadDone,
    decode,
    encode,
)

MESSAGES: list[Message] = [
    Destination("R1", 7, (BlockId(4), BlockId(2)), floor=5, epoch=3),
    Abort("R1", 7, floor=5, epoch=3),
    LayerDone("R1", 7, "P1", 1, 3, layer=12),
    Done("R1", 7, "P1", 1, 3),
    Drained("R1", 7, "P1", 1, 3),
    ReadDone("R1", 7, "D", 0, 1),
    Hello("P1", 1, 3),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: type(m).__name__)
def test_what_is_sent_is_what_arrives(message: Message) -> None:
    assert decode(encode(message)) == message


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: type(m).__name__)
def test_the_readme_shows_every_message(message: Message) -> None:
    readme = (Path(kv.__file__).parent / "README.md").read_text(encoding="utf-8")
    shown = [json.loads(line) for line in readme.splitlines() if line.startswith('{"type"')]
    assert json.loads(msgspec.json.encode(message)) in shown


def test_keys_of_a_later_version_are_ignored() -> None:
    data = msgspec.msgpack.encode({"type": "abort", "request": "R", "generation": 1, "reason": "new in version 2"})
    assert decode(data) == Abort("R", 1)


@pytest.mark.parametrize(
    "data",
    [b"", b"\xc1", msgspec.msgpack.encode({"type": "free"}), msgspec.msgpack.encode({"type": "done", "request": 1})],
)
def test_anything_else_is_an_error(data: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode(data)


def test_a_notice_names_its_room_and_its_sender() -> None:
    notice = Drained("R1", 7, "P1", 1, 3)
    assert notice.owner == Owner("R1", 7)
    assert notice.party == Party("P1", 1, 3)
