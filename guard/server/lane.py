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

    Maker = Callable[[object, object, object, object, Callable[[], float], int], Lane]
else:
    try:
        from guard.server._lane import Lane
    except ImportError:
        Lane = None

#: Makes a lane: client's transport, its protocol, its heartbeat or None, the live feed, the clock, the descriptor of
#: its socket, -1 where bytes do not go out as they are. None: not compiled.
MAKE: Maker | None = Lane


class Served(Protocol):
    """The answer whose connection a lane serves."""

    def data_received(self, data: bytes) -> None:
        """What the lane did not take."""
        ...

    def lane_passed(self) -> None:
        """Something has passed, and somebody has to look."""
        ...

    def lane_broke(self, error: Exception) -> None:
        """Taking something failed."""
        ...


class Quick(Protocol):
    """What the connection of an answer needs of a lane."""

    #: Whether what comes next may be a whole chunk that nobody waits for.
    open: bool

    @property
    def since(self) -> float:
        """When something last passed. Unit: seconds."""
        ...

    def serve(self, reply: Served | None, /) -> None:
        """Hand what is not taken to a reply, or to nobody; not open then."""
        ...

    def feed(self, data: bytes, /) -> None:
        """What came."""
        ...
