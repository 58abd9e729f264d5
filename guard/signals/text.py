"""For backends without an acceptance signal: text and token counts only."""

from __future__ import annotations

from collections.abc import Mapping

from guard.signals.base import Json, Texts
from guard.types import MOST_TOKENS, Sample
from guard.wire import Choice, Chunk


class TokenCounter:
    """
    Tokens a chunk adds to a choice, by the best count the chunk has.

    `token_ids` first; then the difference of cumulative usage, which servers send per choice when
    asked for continuous usage and which says nothing of one choice when a chunk has several; then
    one token for any text. Unit: tokens.
    """

    def __init__(self) -> None:
        self._completed: dict[int, int] = {}

    def count(self, chunk: Chunk, choice: Choice, *, has_text: bool) -> int:
        """Call once for each choice of each chunk, in order."""
        if choice.token_ids is not None:
            return len(choice.token_ids)
        completed = chunk.usage.completion_tokens if chunk.usage is not None else None
        if completed is not None and 0 <= completed <= MOST_TOKENS and len(chunk.choices) == 1:
            before = self._completed.get(choice.index, 0)
            self._completed[choice.index] = completed
            # A stream that sends usage only at its end has been counted by its text until here.
            if before or completed <= 1 or not has_text:
                return max(completed - before, 0)
        return 1 if has_text else 0


class TextAdapter:
    """Counts tokens; never reports a verify step."""

    def __init__(self) -> None:
        self._counter = TokenCounter()

    def switches(self) -> Mapping[str, Json]:
        """Nothing to set."""
        return {}

    def observe(self, chunk: Chunk, texts: Texts) -> list[Sample]:
        """See SignalAdapter."""
        samples: list[Sample] = []
        for choice in chunk.choices:
            said = texts(choice)
            tokens = self._counter.count(chunk, choice, has_text=bool(said))
            if said or tokens:
                samples.append(Sample(choice.index, said, tokens))
        return samples

    def finish(self) -> list[Sample]:
        """Nothing is ever open."""
        return []
