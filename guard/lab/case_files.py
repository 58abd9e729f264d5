"""
Files of cases that are read again for each run over them: what is large in a case is in memory only while it runs.

All lines are read once at the start, so that a wrong one is told of before anything runs. Cases of few chunks in all
are then kept, and so is what cannot be read twice, such as a pipe.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from guard.errors import ConfigError
from guard.lab.cases import Case, read_cases

#: Chunks that are kept in memory: some 50 MB.
MOST_KEPT: Final = 200_000


class CaseFiles:
    """
    The cases of some files, in order.

    Args:
        paths: The files.

    Raises:
        ConfigError: A file cannot be read, or a line is no case.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        #: Each case without its chunks and prompt.
        self.heads: list[Case] = []
        #: Chunks of all.
        self.chunks = 0
        self._kept: list[Case] | None = []
        again = all(path.is_file() for path in paths)
        for case in self._read():
            self.heads.append(msgspec.structs.replace(case, chunks=(), prompt=""))
            self.chunks += len(case.chunks)
            if again and self.chunks > MOST_KEPT:
                self._kept = None
            if self._kept is not None:
                self._kept.append(case)

    def __len__(self) -> int:
        return len(self.heads)

    def __iter__(self) -> Iterator[Case]:
        """
        The cases, whole. What was added to the last file meanwhile is left out.

        Raises:
            ConfigError: A file has changed otherwise.
        """
        if self._kept is not None:
            yield from self._kept
            return
        cases = self._read()
        for head in self.heads:
            case = next(cases, None)
            if case is None or case.id != head.id:
                raise ConfigError("changed while it was read", path=", ".join(map(str, self._paths)))
            yield case

    def _read(self) -> Iterator[Case]:
        return (case for path in self._paths for case in read_cases(path))
