"""
Looks at what has passed, of several streams together: what judges them is much code, and finds itself in the
processor's caches from the second on. Alone, between two chunks of other streams, it costs twice as much.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

#: Looks that are made together at most: a twentieth of a millisecond each, in which other streams wait.
MOST = 16
#: Longest that a look is put off: less than a verify step takes. Unit: seconds.
PUT_OFF = 0.012


class Looked(Protocol):
    """A stream of which a look may be due."""

    def look(self) -> None:
        """Make it, if it still is. Never raises."""
        ...


class Looks:
    """See the module. One for the process; one timer for all that are put off together."""

    def __init__(self) -> None:
        self._due: list[Looked] = []

    def add(self, stream: Looked) -> None:
        """A look is due."""
        due = self._due
        due.append(stream)
        if len(due) >= MOST:
            self.run()
        elif len(due) == 1:
            asyncio.get_running_loop().call_later(PUT_OFF, self.run)

    def run(self) -> None:
        """Make those that are due."""
        due, self._due = self._due, []
        for stream in due:
            stream.look()
