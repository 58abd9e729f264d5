"""Every command is a frozen value."""

from __future__ import annotations

import pytest

from guard.core.events import Finish, SendBody


def test_commands_are_frozen() -> None:
    with pytest.raises(AttributeError):
        SendBody(b"x").data = b"y"  # type: ignore[misc]
    assert Finish().whole
