"""The phases of an exchange, and which events may come in each."""

from __future__ import annotations

import enum

from guard.core.events import (
    ClientGone,
    Confirmed,
    RetryRefused,
    UpstreamData,
    UpstreamEnd,
    UpstreamFailed,
    UpstreamHead,
)


class Phase(enum.Enum):
    """Where an exchange stands."""

    OPENING = "opening"  # an attempt was asked for, its head has not come
    STREAMING = "streaming"  # chunks are read, judged, held and released
    CONFIRMING = "confirming"  # an attempt is scored again; nothing more of it is read meanwhile
    RELAYING = "relaying"  # not a guarded answer (an error, no event stream): passed on as it comes
    FAILED = "failed"  # the backend's own error event was passed on; so is what it still says
    CLOSING = "closing"  # the answer is whole and sent; the upstream's body has yet to end
    DONE = "done"


#: Events that may come in each phase; any other is a defect of the caller.
LEGAL: dict[Phase, frozenset[type]] = {
    Phase.OPENING: frozenset({UpstreamHead, UpstreamFailed, RetryRefused, ClientGone}),
    Phase.STREAMING: frozenset({UpstreamData, UpstreamEnd, UpstreamFailed, ClientGone}),
    Phase.CONFIRMING: frozenset({Confirmed, ClientGone}),
    Phase.RELAYING: frozenset({UpstreamData, UpstreamEnd, UpstreamFailed, ClientGone}),
    Phase.FAILED: frozenset({UpstreamData, UpstreamEnd, UpstreamFailed, ClientGone}),
    Phase.CLOSING: frozenset({UpstreamData, UpstreamEnd, UpstreamFailed, ClientGone}),
    Phase.DONE: frozenset(),
}
