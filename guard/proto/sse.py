"""
Server-sent events, sans-IO: bytes in, events out, however the bytes were cut.

An event ends at the first blank line after its start; a line ends in LF, CRLF or CR. Every event
keeps the bytes it was made from, so that what nobody changes is forwarded as it came. The cost is
linear in the bytes fed, also for one huge event that arrives in small pieces.

Source:
    WHATWG HTML, 9.2.6 "Interpreting an event stream".
"""

from __future__ import annotations

import re

import msgspec

from guard.errors import EventTooLarge

#: Default cap of one event. Unit: bytes.
MAX_EVENT_BYTES = 8 * 1024 * 1024

_BOM = b"\xef\xbb\xbf"
#: As a number: with `in`, bytes are first tried as one, which fails at ten times the price of the search.
_CR = ord("\r")
#: Two line ends in a row. CRLF is one end, never two.
_BLANK = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r(?!\n))")
_LINE_END = re.compile(rb"\r\n|\n|\r")
#: Longest part of a blank line that can stand before its last byte: CR LF CR.
_OVERLAP = 3


class SseEvent(msgspec.Struct, frozen=True, gc=False):
    """
    One event.

    Args:
        raw: The bytes it was made from, its blank line included.
        data: Its data lines joined with LF; None when it has none (a comment, a stray blank line).
        event: Its name; empty when it has none.
        id: Its id, if it sets one.
    """

    raw: bytes
    data: bytes | None
    event: str = ""
    id: str | None = None


class SseParser:
    """
    Cuts a byte stream into events. The `raw` of all events and then `pending`, joined, are the input.

    A CR at the very end of what was fed is only judged once the next byte is known, since LF may
    follow; `finish` says that nothing will.

    Args:
        max_event_bytes: Most bytes one event may have, its blank line included.
    """

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max = max_event_bytes
        self._pieces: list[bytes] = []  # the unfinished event
        self._size = 0
        self._tail = b""  # its last bytes, where a blank line may have begun
        self._offset = 0  # where the unfinished event starts in the stream
        self._failure: EventTooLarge | None = None

    @property
    def pending(self) -> bytes:
        """Bytes of the event that has not ended."""
        if len(self._pieces) > 1:
            self._pieces = [b"".join(self._pieces)]
        return self._pieces[0] if self._pieces else b""

    def feed(self, data: bytes) -> list[SseEvent]:
        """
        Take the next bytes.

        Returns:
            The events that they complete.

        Raises:
            EventTooLarge: An event passed the cap. Events complete before it are returned first;
                the error then comes with the next call.
        """
        if self._failure is not None:
            raise self._failure
        size = len(data)
        if (
            not self._pieces
            and data.startswith(b"data: ")
            and data.find(b"\n") == size - 2
            and data.endswith(b"\n\n")
            and size <= self._max
            and _CR not in data
        ):  # exactly one plain event: how engines write and most reads arrive
            self._offset += size
            return [SseEvent(data, data[6:-2])]
        if not data:
            return []
        events: list[SseEvent] = []
        if self._pieces:
            data = self._complete_pending(data, events)
        if data and self._failure is None:
            if _CR in data:
                self._cut_any(data, events)
            else:
                self._cut_lf(data, events)
        if self._failure is not None and not events:
            raise self._failure
        return events

    def finish(self) -> list[SseEvent]:
        """
        Say that the stream has ended.

        Returns:
            The last event, if it ended in CR and only waited to see whether LF follows. An event
            without its blank line is not one: it stays in `pending`.

        Raises:
            EventTooLarge: As in `feed`.
        """
        if self._failure is not None:
            raise self._failure
        if not self._tail.endswith(b"\r") or _BLANK.search(self._tail) is None:
            return []
        events: list[SseEvent] = []
        self._emit(self.pending, events)
        self._pieces, self._size, self._tail = [], 0, b""
        return events

    def _complete_pending(self, data: bytes, events: list[SseEvent]) -> bytes:
        """End the unfinished event with `data` if it can; give back the bytes after its end."""
        tail = self._tail
        window = tail + data
        end = _blank_end(window)
        if end is None:
            self._keep(data)
            return b""
        taken = end - len(tail)
        self._pieces.append(data[:taken])
        raw = b"".join(self._pieces)
        self._pieces, self._size, self._tail = [], 0, b""
        self._emit(raw, events)
        return data[taken:]

    def _cut_lf(self, data: bytes, events: list[SseEvent]) -> None:
        """The common case: no CR anywhere, so a blank line is LF LF."""
        parts = data.split(b"\n\n")
        rest = parts.pop()
        limit = self._max - 2
        for part in parts:
            # Quick way for one plain data line, which is nearly every event there is.
            if part.startswith(b"data: ") and len(part) <= limit and b"\n" not in part:
                self._offset += len(part) + 2
                events.append(SseEvent(part + b"\n\n", part[6:]))
            else:
                self._emit(part + b"\n\n", events)
                if self._failure is not None:
                    return
        if rest:
            self._keep(rest)

    def _cut_any(self, data: bytes, events: list[SseEvent]) -> None:
        """Any mix of line ends."""
        start = 0
        for match in _BLANK.finditer(data):
            end = match.end()
            if end == len(data) and data.endswith(b"\r"):
                break
            self._emit(data[start:end], events)
            if self._failure is not None:
                return
            start = end
        if start < len(data):
            self._keep(data[start:])

    def _keep(self, data: bytes) -> None:
        """Add bytes to the unfinished event."""
        self._pieces.append(data)
        self._size += len(data)
        self._tail = data[-_OVERLAP:] if len(data) >= _OVERLAP else (self._tail + data)[-_OVERLAP:]
        if self._size > self._max:
            self._fail()

    def _emit(self, raw: bytes, events: list[SseEvent]) -> None:
        """Turn the bytes of one whole event into an event."""
        if len(raw) > self._max:
            self._pieces = [raw]
            self._fail()
            return
        body = raw
        if self._offset == 0 and raw.startswith(_BOM):
            body = raw[len(_BOM) :]
        self._offset += len(raw)
        events.append(_parse(raw, body))

    def _fail(self) -> None:
        self._failure = EventTooLarge(f"an event is larger than {self._max} bytes", where=f"byte {self._offset}")


def _blank_end(window: bytes) -> int | None:
    """Where the first blank line ends; None while there is none, or while its last CR may go on."""
    if b"\r" not in window:
        at = window.find(b"\n\n")
        return None if at < 0 else at + 2
    match = _BLANK.search(window)
    if match is None or (match.end() == len(window) and window.endswith(b"\r")):
        return None
    return match.end()


def _parse(raw: bytes, body: bytes) -> SseEvent:
    """Read the lines of one event. Unknown fields, `retry` among them, are left in `raw` only."""
    data: list[bytes] = []
    name = ""
    ident: str | None = None
    for line in _LINE_END.split(body):
        field, _, value = line.partition(b":")
        if value.startswith(b" "):
            value = value[1:]
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value.decode("utf-8", "replace")
        elif field == b"id" and b"\0" not in value:
            ident = value.decode("utf-8", "replace")
    return SseEvent(raw, b"\n".join(data) if data else None, name, ident)
