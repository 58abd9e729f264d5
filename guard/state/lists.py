"""Lists that the guards of a fleet add to: what this one knows of them, and what the store has not been told."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


class SharedLists(Generic[T]):
    """
    The latest items by name, oldest first.

    Args:
        most: Items kept of each name.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._known: dict[str, deque[T]] = {}
        self._unsent: dict[str, deque[T]] = {}

    def add(self, name: str, items: Iterable[T]) -> None:
        """New items of this guard."""
        fresh = list(items)
        for kept in (self._known, self._unsent):
            kept.setdefault(name, deque(maxlen=self.most)).extend(fresh)

    def take_unsent(self, name: str) -> tuple[T, ...]:
        """Items that the store has not been told of; they are about to be."""
        return tuple(self._unsent.pop(name, ()))

    def put_back_unsent(self, name: str, items: Iterable[T]) -> None:
        """The store was not reached."""
        later = self._unsent.get(name, ())
        self._unsent[name] = deque([*items, *later], maxlen=self.most)

    def learn(self, name: str, fleet: Sequence[T]) -> None:
        """Take over the fleet's items; those not sent yet follow them."""
        self._known[name] = deque([*fleet, *self._unsent.get(name, ())], maxlen=self.most)

    def of(self, name: str) -> tuple[T, ...]:
        """The latest known, oldest first."""
        return tuple(self._known.get(name, ()))
