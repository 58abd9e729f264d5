"""What the exchange is told (events) and what it asks for (commands)."""

from __future__ import annotations

import msgspec

from guard.errors import UpstreamError
from guard.rescore.compare import Rescored
from guard.types import Sample

Headers = tuple[tuple[str, str], ...]


class UpstreamHead(msgspec.Struct, frozen=True):
    """
    The response head of attempt `attempt` arrived.

    Args:
        attempt: Number of the attempt.
        status: HTTP status.
        headers: Names in lower case.
        elsewhere: Whether another replica could be asked instead.
    """

    attempt: int
    status: int
    headers: Headers
    elsewhere: bool = False


class UpstreamData(msgspec.Struct, frozen=True):
    """Body bytes of attempt `attempt`, cut anywhere."""

    attempt: int
    data: bytes


class UpstreamEnd(msgspec.Struct, frozen=True):
    """The body of attempt `attempt` ended as HTTP has it."""

    attempt: int


class UpstreamFailed(msgspec.Struct, frozen=True):
    """Attempt `attempt` could not be made or broke off."""

    attempt: int
    fault: UpstreamError


class RetryRefused(msgspec.Struct, frozen=True):
    """Attempt `attempt` may not be made: the retries of the fleet are used up. `reason` says so for people."""

    attempt: int
    reason: str


class ClientGone(msgspec.Struct, frozen=True):
    """The client closed its connection."""


class Confirmed(msgspec.Struct, frozen=True):
    """What the re-scoring of attempt `attempt` came to, or why there was none."""

    attempt: int
    result: Rescored


Event = UpstreamHead | UpstreamData | UpstreamEnd | UpstreamFailed | RetryRefused | ClientGone | Confirmed


class OpenAttempt(msgspec.Struct, frozen=True):
    """Choose a replica for upstream request number `attempt` and ask `Exchange.begin` for its body."""

    attempt: int


class AbortAttempt(msgspec.Struct, frozen=True):
    """
    Close attempt `attempt` upstream. Sent at most once an attempt, never after its end.

    Args:
        attempt: Number of the attempt.
        reason: Why.
        rid: Id under which the engine's own abort route knows it; empty where there is none.
    """

    attempt: int
    reason: str
    rid: str = ""


class Confirm(msgspec.Struct, frozen=True):
    """
    Have attempt `attempt` scored again, and answer with Confirmed before any more of it is fed.

    Args:
        attempt: Number of the attempt.
        onset_token: First token that is suspected.
    """

    attempt: int
    onset_token: int


class SendHead(msgspec.Struct, frozen=True):
    """Start the client's response. Sent exactly once unless the client went first."""

    status: int
    headers: Headers


class SendBody(msgspec.Struct, frozen=True):
    """Write these bytes to the client, in this order."""

    data: bytes


class Observed(msgspec.Struct, frozen=True):
    """For the live feed: samples just judged. Only made while somebody listens."""

    attempt: int
    samples: tuple[Sample, ...]
    suspicion: float


class Finish(msgspec.Struct, frozen=True):
    """
    The exchange is over; nothing follows. Sent exactly once.

    Args:
        whole: False when the client's connection must be broken off, because a clean end would
            make a broken answer look complete.
    """

    whole: bool = True


Command = OpenAttempt | AbortAttempt | Confirm | SendHead | SendBody | Observed | Finish
