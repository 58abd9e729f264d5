"""
The hold-back window: chunks judged but not yet sent.

Only ever a first-in-first-out queue, so the client's bytes keep their order. Three ways to hold
(the policy chooses): by suspicion (everything passes while suspicion is low), a fixed window of
the latest tokens, or the full answer. Whatever the way, past `limit` the oldest go: when in doubt
the guard holds, then lets pass.
"""

from __future__ import annotations

from collections import deque
from typing import Final

#: Limit of a full buffer, so that a stream that never ends cannot take all memory. Unit: bytes.
MAX_HELD_BYTES: Final = 32 * 1024 * 1024

#: Stands for the choice of a chunk that speaks of no single one.
NO_CHOICE: Final = -1


class Held:
    """
    One chunk in the window.

    Args:
        data: What the client would get.
        text: Content text in it, for a later resume.
        tokens: Tokens it carries. Unit: tokens.
        end_token: Tokens of its choice up to and including this chunk. Unit: tokens.
        choice: Its choice; NO_CHOICE for what speaks of none, or of several.
    """

    __slots__ = ("choice", "data", "end_token", "text", "tokens")

    def __init__(self, data: bytes, text: str, tokens: int, end_token: int, choice: int = NO_CHOICE) -> None:
        self.data = data
        self.text = text
        self.tokens = tokens
        self.end_token = end_token
        self.choice = choice


class HoldBack:
    """
    The queue and its release rule.

    Args:
        hold_at: Suspicion from which nothing is released.
        window: Tokens always kept back. Unit: tokens.
        limit: Most tokens kept back under suspicion; None holds the full answer whatever the suspicion.
    """

    def __init__(self, *, hold_at: float, window: int, limit: int | None) -> None:
        self._hold_at = hold_at
        self._window = window
        self._limit = limit
        self._queue: deque[Held] = deque()
        self.tokens = 0
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._queue)

    def push(self, held: Held) -> None:
        """Add the newest chunk."""
        self._queue.append(held)
        self.tokens += held.tokens
        self._bytes += len(held.data)

    def release(self, suspicion: float) -> list[Held]:
        """Take out what may go to the client now, oldest first."""
        if self._limit is None:
            keep = self.tokens + 1
        elif suspicion >= self._hold_at:
            keep = self._limit
        elif self._window == 0:
            return self.flush()
        else:
            keep = self._window
        out: list[Held] = []
        # A chunk without tokens goes with the tokens before it: sending it alone early would
        # commit the response before anything was judged.
        while self._queue and (self.tokens - self._queue[0].tokens >= keep > 0 or self._too_big()):
            out.append(self._pop())
        return out

    def flush(self) -> list[Held]:
        """Take out everything."""
        queue = self._queue
        out = list(queue)
        queue.clear()
        self.tokens = self._bytes = 0
        return out

    def take_before(self, token: int) -> list[Held]:
        """Take out the chunks that end at or before `token` of the only choice."""
        out: list[Held] = []
        while self._queue and self._queue[0].end_token <= token:
            out.append(self._pop())
        return out

    def before(self, token: int) -> list[Held]:
        """The chunks that end at or before `token` of the only choice; they stay in the window."""
        out: list[Held] = []
        for held in self._queue:
            if held.end_token > token:
                break
            out.append(held)
        return out

    def drop_choice(self, choice: int, token: int) -> int:
        """Forget the chunks of one choice that end after its `token`; the tokens they had."""
        dropped = 0
        kept: deque[Held] = deque()
        for held in self._queue:
            if held.choice == choice and held.end_token > token:
                dropped += held.tokens
                self._bytes -= len(held.data)
            else:
                kept.append(held)
        self._queue = kept
        self.tokens -= dropped
        return dropped

    @property
    def size(self) -> int:
        """What is held. Unit: bytes."""
        return self._bytes

    def drop(self) -> None:
        """Forget everything held."""
        self._queue.clear()
        self.tokens = 0
        self._bytes = 0

    def _too_big(self) -> bool:
        return self._bytes > MAX_HELD_BYTES

    def _pop(self) -> Held:
        held = self._queue.popleft()
        self.tokens -= held.tokens
        self._bytes -= len(held.data)
        return held
