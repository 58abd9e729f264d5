"""Every event is legal somewhere, and every phase says what may come."""

from __future__ import annotations

from typing import get_args

from guard.core.events import Event
from guard.core.phases import LEGAL, Phase


def test_every_event_is_legal_in_some_phase_and_every_phase_is_listed() -> None:
    assert set(LEGAL) == set(Phase)
    assert frozenset().union(*LEGAL.values()) == frozenset(get_args(Event))
