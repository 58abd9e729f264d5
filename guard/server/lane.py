"""
Plain chunks from the backend's connection to the client's in one call each, where that is compiled (`_lane.c`).

The exchange decides when chunks may pass (`guard.core.passing`): it arms the lane with what they look like and how much
may pass, and drains it before it looks at anything else. What the lane does not take goes the usual way, byte by byte
to the same end; without the library nothing else changes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from guard.server._lane import Lane

    Maker = Callable[[object, object, object, object, Callable[[], float]], Lane]
else:
    try:
        from guard.server._lane import Lane
    except ImportError:
        Lane = None

#: Makes a lane: client's transport, its protocol, its heartbeat or None, the live feed, the clock. None: not compiled.
MAKE: Maker | None = Lane


class Quick(Protocol):
    """What the connection of an answer needs of a lane."""

    @property
    def since(self) -> float:
        """When something last passed. Unit: seconds."""
        ...

    def take(self, data: bytes, /) -> int:
        """What came: 0 if it has to be read as usual, 1 if it has passed, 2 if its reader has to look besides."""
        ...
