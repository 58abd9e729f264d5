"""What every signal adapter offers; the engines differ only behind it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from guard.types import Channel, Sample
from guard.wire import Choice, Chunk

#: Gives the texts of one choice by channel. Passed in because signals know no wire form of text.
Texts = Callable[[Choice], tuple[tuple[Channel, str], ...]]

#: A JSON value as it is set in a request body.
Json = str | int | float | bool | None | list["Json"] | dict[str, "Json"]


class SignalAdapter(Protocol):
    """Reads one attempt's chunks in order. One object per attempt; it is never shared."""

    def switches(self) -> Mapping[str, Json]:
        """Fields to set in the upstream request so that the engine sends its signal."""
        ...

    def observe(self, chunk: Chunk, texts: Texts) -> list[Sample]:
        """
        Read one chunk.

        Args:
            chunk: The decoded chunk, as the engine sent it.
            texts: Gives the texts of a choice.

        Returns:
            One sample for each choice that has text, tokens or a completed verify step; choices
            of which the chunk says nothing give none.
        """
        ...

    def finish(self) -> list[Sample]:
        """Samples of verify steps still open when the stream ended. Call once, at its end."""
        ...
