"""Effects are values."""

from __future__ import annotations

from guard.backend.kv.effects import Freed, Lost, Send
from guard.backend.kv.ids import BlockId, Owner, Party
from guard.backend.kv.messages import Abort


def test_effects_compare_by_what_they_say() -> None:
    assert Freed((BlockId(1),)) == Freed((BlockId(1),))
    assert Send(Party("P"), Abort("R", 1)) != Send(Party("P", 1), Abort("R", 1))
    assert Lost(Owner("R", 1), "timeout") != Lost(Owner("R", 2), "timeout")
