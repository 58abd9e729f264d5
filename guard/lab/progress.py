"""Progress for people: a bar on a terminal, one line a step elsewhere."""

from __future__ import annotations

import importlib.util
import sys
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID


class Progress:
    """
    What a long step reports to: silent. Also the base of those that show something.

    Use as a context manager; `start` begins the next step.
    """

    def start(self, label: str, total_bytes: int = 0) -> None:
        """Begin a step of a known size, or of an unknown one (0)."""

    def advance(self, num_bytes: int) -> None:
        """Report bytes done since the last call."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None


class LineProgress(Progress):
    """One line at the start of each step."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def start(self, label: str, total_bytes: int = 0) -> None:
        """See Progress."""
        size = f" ({total_bytes / 1e6:.0f} MB)" if total_bytes else ""
        print(f"{label}{size} ...", file=self._out, flush=True)


class BarProgress(Progress):
    """A bar for each step, drawn by rich."""

    def __init__(self) -> None:
        from rich.console import Console  # noqa: PLC0415 - optional, and slow to import
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn  # noqa: PLC0415

        self._bars: RichProgress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task: TaskID | None = None

    def start(self, label: str, total_bytes: int = 0) -> None:
        """See Progress."""
        self._bars.start()
        if self._task is not None:
            self._bars.remove_task(self._task)
        self._task = self._bars.add_task(label, total=total_bytes or None)

    def advance(self, num_bytes: int) -> None:
        """See Progress."""
        if self._task is not None:
            self._bars.advance(self._task, num_bytes)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()


def best_progress(out: TextIO | None = None) -> Progress:
    """The bar if standard error is a terminal and rich is there, else lines."""
    stream = sys.stderr if out is None else out
    if stream.isatty() and importlib.util.find_spec("rich") is not None:
        return BarProgress()
    return LineProgress(stream)
