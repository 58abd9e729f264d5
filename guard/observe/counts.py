"""What the metrics read of other parts of a process: plain numbers, and their absence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Protocol

from guard.observe.series import SECONDS, Histogram


class PolicyCounts(Protocol):
    """What the process knows of its policies, as plain numbers."""

    generation: int
    last_reload_ok: bool
    reloads_ok: int
    reloads_failed: int
    shadow_compared: int
    shadow_disagreed: Counter[tuple[str, str]]


class RecorderCounts(Protocol):
    """What became of the exchanges offered to the recorder."""

    written: int
    dropped: int
    failed: int


class AbortCounts(Protocol):
    """What became of aborts."""

    confirmed: int
    unconfirmed: int


class PoolCounts(Protocol):
    """What the process knows of its replicas, as plain numbers."""

    retries_refused: int
    ejections: Counter[str]

    @property
    def aborter(self) -> AbortCounts:
        """What became of aborts."""
        ...

    def standings(self) -> Counter[str]:
        """Replicas by standing."""
        ...

    def suspects(self) -> Mapping[str, str]:
        """Replicas whose answers are looked at more closely now, and why."""
        ...


class RescoreCounts(Protocol):
    """What came of scoring answers again."""

    rescored: Counter[tuple[str, str]]
    skipped: Counter[str]
    prefill_tokens: int
    charges: int
    seconds: Histogram

    @property
    def settled(self) -> int:
        """Models whose floor was measured."""
        ...


class NoRecorder:
    """Where nothing is recorded."""

    written = dropped = failed = 0


class NoPool:
    """Where there are no replicas."""

    retries_refused = 0

    class Aborter:
        """Of no attempts."""

        confirmed = unconfirmed = 0

    aborter: AbortCounts = Aborter()

    def __init__(self) -> None:
        self.ejections: Counter[str] = Counter()

    def standings(self) -> Counter[str]:
        """None."""
        return Counter()

    def suspects(self) -> Mapping[str, str]:
        """None."""
        return {}


class NoPolicies:
    """Where none are told of."""

    generation = 0
    last_reload_ok = True
    reloads_ok = 0
    reloads_failed = 0
    shadow_compared = 0

    def __init__(self) -> None:
        self.shadow_disagreed: Counter[tuple[str, str]] = Counter()


class NoRescores:
    """Where nothing is scored again."""

    prefill_tokens = charges = settled = 0

    def __init__(self) -> None:
        self.rescored: Counter[tuple[str, str]] = Counter()
        self.skipped: Counter[str] = Counter()
        self.seconds = Histogram(SECONDS)
