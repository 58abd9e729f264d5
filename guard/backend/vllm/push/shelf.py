"""
Content of finished prefills: it stays until every decode rank that gets it has asked, and every write has read it.

Plain Python: the caller has the lock, and brings the time.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec


class Content(NamedTuple):
    """
    What a finished prefill has to give.

    Args:
        room: The name under which the decode side asks for it.
        request: The engine's id of the request.
        blocks: Full blocks of its prompt, in token order.
    """

    room: str
    request: str
    blocks: tuple[int, ...]


class _Kept(msgspec.Struct):
    """
    Content on the shelf.

    Args:
        content: It.
        since: When it came. Unit: seconds.
        missing: Decode ranks that have yet to ask; None while none has.
        reading: Jobs that read its blocks.
    """

    content: Content
    since: float
    missing: int | None = None
    reading: int = 0


class Shelf:
    """All content of one prefill rank."""

    def __init__(self) -> None:
        self._kept: dict[str, _Kept] = {}
        #: Rooms that get nothing any more, with the time since.
        self._closed: dict[str, float] = {}
        self._sent: set[str] = set()

    def put(self, content: Content, now: float) -> bool:
        """
        A prefill has finished; its blocks stay until `taken` names the request.

        Returns:
            Whether somebody may still ask for it.
        """
        if content.room in self._closed or content.room in self._kept:
            self._sent.add(content.request)
            return False
        self._kept[content.room] = _Kept(content, now)
        return True

    def take(self, room: str, askers: int) -> Content | None:
        """
        A decode rank asks; `over` is to be called when its writes are.

        Args:
            room: What for.
            askers: Decode ranks that will, this one included.

        Returns:
            None if it is not here, or all have asked.
        """
        kept = self._kept.get(room)
        if kept is None or kept.missing == 0:
            return None
        kept.missing = (askers if kept.missing is None else kept.missing) - 1
        kept.reading += 1
        return kept.content

    def over(self, room: str, now: float) -> None:
        """A job of the room reads no more."""
        kept = self._kept.get(room)
        if kept is not None:
            kept.reading -= 1
            self._let_go(kept, now)

    def close(self, room: str, now: float) -> None:
        """The room gets nothing any more; jobs that read still do."""
        self._closed[room] = now
        kept = self._kept.get(room)
        if kept is not None:
            kept.missing = 0
            self._let_go(kept, now)

    def is_closed(self, room: str) -> bool:
        """Whether the room gets nothing any more."""
        return room in self._closed

    def overdue(self, before: float) -> list[str]:
        """Rooms whose content came before that, and that not all have asked for."""
        return [room for room, kept in self._kept.items() if kept.missing != 0 and kept.since < before]

    def forget(self, before: float) -> None:
        """Rooms that were closed before that are remembered no more."""
        self._closed = {room: since for room, since in self._closed.items() if since > before}

    def taken(self) -> set[str]:
        """Requests whose blocks are read no more; each once."""
        sent, self._sent = self._sent, set()
        return sent

    def _let_go(self, kept: _Kept, now: float) -> None:
        if kept.missing == 0 and not kept.reading:
            del self._kept[kept.content.room]
            self._closed[kept.content.room] = now
            self._sent.add(kept.content.request)
