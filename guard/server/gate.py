"""The way in to the client port: who may come, and how many at once."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from typing import Self

from multidict import CIMultiDictProxy

from guard.config import AccessSettings, Limits
from guard.errors import RequestError
from guard.server.keys import KeyRing

#: Whose preflights are that came without a key; no client has such a name.
PREFLIGHT = "(preflight)"
#: Preflights without a key that may be open at once: they must not take the room of those who have one.
MOST_PREFLIGHTS = 64
#: A segment that means this folder or the one above, in any way to write it.
_DOTS = re.compile(r"(?:/|\\|%2f|%5c)(?:\.|%2e){1,2}(?:[/\\?#]|%2f|%5c|$)", re.IGNORECASE)


class Held:
    """
    What is in memory of one request's body, until the context is left.

    Args:
        gate: Which counts it.
    """

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._gate.held -= self._size

    def add(self, size: int) -> None:
        """
        That many bytes more. One request alone is never too large for the gate.

        Raises:
            RequestError: 503. With them, too much would be held at once.
        """
        gate = self._gate
        most = gate.limits.max_held_bytes
        if gate.held + size > most and gate.held > self._size:
            gate.refused["overloaded"] += 1
            raise RequestError("too much is being asked at once; try again shortly", status=503, code="overloaded")
        gate.held += size
        self._size += size


class Gate:
    """
    Lets requests in one by one. Every `enter` that returns wants its `leave`.

    Args:
        access: Keys.
        limits: How many at once.

    Raises:
        ConfigError: The file of keys is wrong.
    """

    def __init__(self, access: AccessSettings, limits: Limits) -> None:
        self.keys = KeyRing(access)
        self.limits = limits
        self.inside = 0
        #: Of the bodies of requests. Unit: bytes.
        self.held = 0
        #: Requests turned away, by why; for the metrics.
        self.refused: Counter[str] = Counter()
        others = access.other_paths
        self._others = None if others is None else tuple(path.rstrip("/") for path in others)
        self._by_owner: Counter[str] = Counter()
        self._emptied: asyncio.Event | None = None

    def enter(self, target: str, headers: CIMultiDictProxy[str], *, preflight: bool = False) -> str:
        """
        Let one request in.

        Args:
            target: Of its request line.
            headers: Its headers.
            preflight: Whether it is a browser's, which never has a key.

        Returns:
            Whose it is; empty where nobody is asked for a key, PREFLIGHT for a preflight without one.

        Raises:
            RequestError: 400 for a target that is no plain path, 401 without a known key, 429 or 503 with too many
                inside.
        """
        if not target.startswith("/"):
            # Put after a backend's address, anything else could become another address.
            self.refused["bad_target"] += 1
            raise RequestError("the target of a request must be a path", code="bad_target")
        if _DOTS.search(target.partition("?")[0]) is not None:
            # Somebody behind the guard resolves them: to a route that is guarded, or out of the backend's own path.
            self.refused["bad_target"] += 1
            raise RequestError("the path of a request must have no `.` or `..` in it", code="bad_target")
        owner = self._owner(headers, preflight=preflight) if self.keys.needed else ""
        crowded = owner == PREFLIGHT and self._by_owner[owner] >= MOST_PREFLIGHTS
        if crowded or self.inside >= self.limits.max_in_flight:
            self.refused["overloaded"] += 1
            raise RequestError("too many requests at once; try again shortly", status=503, code="overloaded")
        share = self.limits.max_in_flight_per_key
        if owner and owner != PREFLIGHT and share is not None and self._by_owner[owner] >= share:
            self.refused["rate_limited"] += 1
            raise RequestError(
                f"more than {share} requests of this key at once", status=429, code="rate_limit_exceeded"
            )
        self.inside += 1
        if owner:
            self._by_owner[owner] += 1
        return owner

    def _owner(self, headers: CIMultiDictProxy[str], *, preflight: bool) -> str:
        known = self.keys.owner(headers)
        if known is not None:
            return known
        if preflight:
            return PREFLIGHT
        self.refused["unauthorized"] += 1
        raise RequestError(
            "no valid API key: send it as `authorization: Bearer ...` or `x-api-key`",
            status=401,
            code="invalid_api_key",
        )

    def check_other(self, path: str) -> None:
        """
        Whether a request that is not guarded may pass.

        Args:
            path: Its URL path, decoded.

        Raises:
            RequestError: 404, as for a path that does not exist.
        """
        if self._others is None:
            return
        if not any(path == other or path.startswith(other + "/") for other in self._others):
            self.refused["not_offered"] += 1
            raise RequestError(f"{path[:200]} is not offered here (access.other_paths)", status=404, code="not_offered")

    def leave(self, owner: str) -> None:
        """One request of this owner is over."""
        self.inside -= 1
        if owner:
            self._by_owner[owner] -= 1
            if not self._by_owner[owner]:
                del self._by_owner[owner]
        if self._emptied is not None and not self.inside:
            self._emptied.set()

    async def empty(self) -> None:
        """Wait until nobody is inside."""
        if self.inside:
            if self._emptied is None or self._emptied.is_set():
                self._emptied = asyncio.Event()
            await self._emptied.wait()
