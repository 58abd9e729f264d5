"""
One event ahead: what llama.cpp tells of a chunk only with the next one.

Stock, the engine puts `timings` into the chunk of the token that completes a stop word, and into no other chunk of
text. Asked for them, as the guard asks for its acceptance signal, it puts them into all. Which one they would have
stood in is known when the answer's closing chunk has come: it tells that a stop word ended the answer, and after how
many tokens. So in a stream with stop words each chunk waits for the next of its choice. Tokens of one verify step come
together; the last of them waits for the next step.

Source:
    llama.cpp tools/server/server-context.cpp (`process_token`, `send_partial_response`), server-task.cpp.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from typing import Final

from guard.errors import ProtocolError
from guard.proto.chunks import LastChunk
from guard.proto.client import ClientRequest
from guard.proto.family import Reader, StopTold
from guard.proto.sse import SseEvent
from guard.wire import Chunk, Timings

#: Most events that wait; past it the oldest goes as one that no stop word ended.
MAX_WAITING: Final = 256
#: Finish reasons that no stop word has.
_NO_WORD: Final = frozenset({"length", "eos"})
#: Inside a JSON string its quotes would be escaped, so it can only be the key.
_STOP_TYPE: Final = re.compile(rb'"stop_type"\s*:\s*"(\w+)"')
#: What `verbose` sends back beside the prompt, in bytes of the request: all is escaped, and a schema becomes a grammar.
_ECHO: Final = 8


def stops_show(request: ClientRequest, engine: str) -> StopTold | None:
    """How it is told where a stream shows beside a stop word that the guard asked for timings; None if it does not."""
    asked = request.stream and not request.timings_per_token
    shows = engine == "llama.cpp" and asked and bool(request.body.get("stop"))
    return request.family.stop_told if shows else None


class _Waiting:
    """An event, what it says or why it cannot be read, and whether its timings are stock."""

    __slots__ = ("chunk", "done", "error", "event", "stopped")

    def __init__(self, event: SseEvent) -> None:
        self.event = event
        self.chunk: Chunk | None = None
        self.error: ProtocolError | None = None
        self.done = True
        self.stopped = False


class Ahead:
    """
    A reader that reads one event ahead.

    Args:
        reader: Reads the family's events.
        request: The client's.
    """

    def __init__(self, reader: Reader, request: ClientRequest) -> None:
        self._reader = reader
        #: How much larger an event may be for what `verbose` sends back. Unit: bytes.
        self.echo = len(request.raw) * _ECHO
        self._queue: deque[_Waiting] = deque()
        self._open: dict[int, _Waiting] = {}  # of each choice, the chunk that waits for its next
        self._given: deque[_Waiting] = deque()
        #: Whether a stop word ended its choice in the event read last.
        self.stopped = False

    def feed(self, events: Sequence[SseEvent]) -> list[SseEvent]:
        """Take events; those that need not wait any more, in order. Each must then be read."""
        for event in events:
            waiting = _Waiting(event)
            if event.data is not None:
                self._follow(waiting)
            self._queue.append(waiting)
        if len(self._queue) > MAX_WAITING:
            self._settle(self._queue[0])
        return self._ready()

    def rest(self) -> list[SseEvent]:
        """Nothing follows: all that wait."""
        self._settle(*self._queue)
        return self._ready()

    def read(self, event: SseEvent) -> Chunk:
        """See Reader."""
        given = self._given.popleft()
        while given.event is not event:  # after a failure not all are
            given = self._given.popleft()
        self.stopped = given.stopped
        if given.error is not None:
            raise given.error
        assert given.chunk is not None
        return given.chunk

    def _ready(self) -> list[SseEvent]:
        out: list[SseEvent] = []
        while self._queue and self._queue[0].done:
            given = self._queue.popleft()
            out.append(given.event)
            if given.event.data is not None:  # comments are not read
                self._given.append(given)
        return out

    def _settle(self, *which: _Waiting) -> None:
        for waiting in which:
            waiting.done = True
        self._open = {choice: waiting for choice, waiting in self._open.items() if not waiting.done}

    def _follow(self, waiting: _Waiting) -> None:
        """Read an event, and say what it tells of those before."""
        try:
            chunk = waiting.chunk = self._reader.read(waiting.event)
        except ProtocolError as error:
            waiting.error = error
            self._settle(*self._open.values())
            return
        for choice in chunk.choices:
            before = self._open.get(choice.index)
            if choice.finish_reason is not None:
                if before is not None:
                    before.stopped = self._at_stop_word(before, waiting, choice.finish_reason)
                    self._settle(before)
            elif chunk.timings is not None:  # made for a token, not out of what the answer's end left over
                if before is not None:
                    self._settle(before)
                waiting.done = False
                self._open[choice.index] = waiting
        if chunk.error is not None or isinstance(chunk, LastChunk):
            self._settle(*self._open.values())

    def _at_stop_word(self, waiting: _Waiting, closing: _Waiting, finish_reason: str) -> bool:
        """Whether a chunk is of the token that completed a stop word, now that its choice has ended."""
        assert waiting.chunk is not None
        assert closing.chunk is not None
        assert closing.event.data is not None
        before, after = waiting.chunk.timings, closing.chunk.timings
        if finish_reason in _NO_WORD or not _same_token(before, after):
            return False
        told = _STOP_TYPE.search(closing.event.data)
        return told is None or told[1] == b"word"  # releases that know no `verbose` do not tell


def _same_token(before: Timings | None, after: Timings | None) -> bool:
    """Whether no token came in between, as far as is told."""
    return before is None or after is None or before.predicted_n == after.predicted_n
