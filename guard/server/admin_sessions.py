"""Who has signed in at the dashboard: sessions of a browser, in memory only."""

from __future__ import annotations

import hashlib
import secrets

from guard.clock import Clock

#: The cookie. It names a session and holds nothing of the token.
COOKIE = "guard_admin_session"
#: How long a session lasts. Unit: seconds.
LASTS = 12 * 3600.0
#: Most sessions at a time; the oldest ends for a new one.
MOST = 64
_BYTES = 32


class AdminSessions:
    """
    The sessions of one process. They end by themselves, when signed out, with the process, and when the token changes.

    Args:
        clock: For their end.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        #: When each ends, by the hash of its name, oldest first. A look-up by hash tells nothing by its time.
        self._ends: dict[bytes, float] = {}

    def __len__(self) -> int:
        return len(self._ends)

    def begin(self) -> str:
        """A new session; its name, for the cookie."""
        now = self._clock.now()
        self._ends = {key: end for key, end in self._ends.items() if end > now}
        while len(self._ends) >= MOST:
            del self._ends[next(iter(self._ends))]
        name = secrets.token_urlsafe(_BYTES)
        self._ends[_hash(name)] = now + LASTS
        return name

    def holds(self, name: str | None) -> bool:
        """Whether a cookie names a session that has not ended."""
        return name is not None and self._ends.get(_hash(name), 0.0) > self._clock.now()

    def end(self, name: str | None) -> None:
        """Sign out; a name that is none changes nothing."""
        if name is not None:
            self._ends.pop(_hash(name), None)

    def end_all(self) -> None:
        """The token has changed."""
        self._ends.clear()


def _hash(name: str) -> bytes:
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
