"""Every event and command is a frozen value; every event is legal somewhere."""

from __future__ import annotations

from typing import get_args

import pytest

from guard.core.events import Event, Finish, SendBody
from guard.core.exchange import LEGAL, Phase


def test_every_event_is_legal_in_some_phase_and_every_phase_is_listed() -> None:
    assert set(LEGAL) == set(Phase)
    assert frozenset().union(*LEGAL.values()) == frozenset(get_args(Event))


def test_commands_are_frozen() -> None:
    with pytest.raises(AttributeError):
        SendBody(b"x").data = b"y"  # type: ignore[misc]
    assert Finish().whole
