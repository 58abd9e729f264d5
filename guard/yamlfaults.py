"""All that is wrong with a file, in one go: what was found wrong is left out, and the rest is looked at again."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TypeVar

from guard.errors import ConfigError
from guard.yamldoc import Document, Plain

T = TypeVar("T")

#: Most faults that are told of; with more, it is some other kind of file.
MOST_FAULTS = 50
_MISSING = re.compile(r"this must be given: '(?P<name>[^']*)'")
_MISNAMED = re.compile(r"unknown setting '[^']*'; did you mean '(?P<name>[\w-]+)'\?")


class Faults:
    """
    What is wrong with one or several documents.

    What is only wrong because something else was left out is not told of; rather one fault too few than one that is
    none. A setting whose name is nearly right is looked at under the right one.

    Args:
        stand_ins: What stands for outermost settings that must be given and are not.
    """

    def __init__(self, stand_ins: Mapping[str, Plain] | None = None) -> None:
        self.found: list[ConfigError] = []
        self._stand_ins = stand_ins or {}
        #: Paths of documents, and of what was left out of them.
        self._left_out: list[tuple[str | None, str]] = []

    @property
    def in_order(self) -> list[ConfigError]:
        """What was found, from the top of each file to its end."""
        return sorted(self.found, key=lambda error: (error.path or "", error.line or 0))

    def look(
        self, read: Callable[[], T], document_of: Callable[[ConfigError], Document | None], *, alone: bool = True
    ) -> T | None:
        """
        Read until nothing is wrong any more.

        Args:
            read: Reads the documents as they are now; raises ConfigError at the first fault.
            document_of: Gives the document that a fault is in; None where nothing can be left out.
            alone: Whether settings of one mapping are looked at each for itself, as their types are.

        Returns:
            What could be read of what is left; None where that is nothing.
        """
        for _ in range(MOST_FAULTS):
            try:
                return read()
            except ConfigError as error:
                document = document_of(error)
                if document is None:
                    self.found.append(error)
                    return None
                if not self._follows(document, error, alone=alone):
                    self.found.append(error)
                if not self._go_on(document, error):
                    return None
        return None

    def left_out(self, section: str = "") -> bool:
        """Whether anything was left out, of an outermost setting if one is named."""
        return any(not section or _is_in(where, section) for _, where in self._left_out)

    def _follows(self, document: Document, error: ConfigError, *, alone: bool) -> bool:
        """Whether it may be wrong only because something was left out."""
        missing = _MISSING.fullmatch(error.message)
        where = _join(error.where, missing["name"]) if missing else error.where
        gone = [place for path, place in self._left_out if path == document.path]
        return any(_is_in(place, where) or (not alone and _around(place) == _around(where)) for place in gone)

    def _go_on(self, document: Document, error: ConfigError) -> bool:
        """Make it look right; whether there is a way."""
        missing, misnamed = _MISSING.fullmatch(error.message), _MISNAMED.fullmatch(error.message)
        if missing and not error.where:
            if missing["name"] not in self._stand_ins:
                return False
            document.put([missing["name"]], self._stand_ins[missing["name"]], "")
            return True
        if misnamed and document.rename(error.where, misnamed["name"]):
            return True
        if not error.where or not document.leave_out(error.where):
            return False
        self._left_out.append((document.path, error.where))
        return True


def _is_in(place: str, around: str) -> bool:
    return place == around or place.startswith((f"{around}.", f"{around}["))


def _around(where: str) -> str:
    return where.rpartition(".")[0]


def _join(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name
