"""
How an attempt begins: first what it asks for, then, while that is on its way, what will read the answer.

Most of an attempt is not needed for its request. Made while nothing else can be done, it costs the first words no time.
"""

from __future__ import annotations

import abc

from guard.core.factory import ask, make_attempt, resume_blocker
from guard.core.own_error import OwnErrors
from guard.core.settings import Target
from guard.proto.request import stream_hazards


class Beginning(OwnErrors, abc.ABC):
    """The part of an exchange that begins attempts."""

    def cannot(self, target: Target) -> str:
        """
        Why a replica is none for the attempt just asked for; empty where it is one.

        A text that was shown is continued, and the replica chosen may be of another engine than was known.
        """
        return resume_blocker(self._request, target, self._shown) if self._mode == "resume" else ""

    def begin(self, target: Target) -> bytes:
        """
        The body of the attempt just asked for, now that its replica is known. The attempt itself is made by
        `prepare`, for which there is time while the request is on its way, or with the next event.

        Args:
            target: The replica chosen.

        Returns:
            JSON to POST to the request's own route.
        """
        self._make()
        # Only the backend itself can give this answer whole.
        whole = self._first is not None or bool(stream_hazards(self._request, target.engine))
        self._asked = ask(
            self._request,
            self._settings,
            target,
            number=self._number,
            mode=self._mode,
            shown=self._shown,
            wanted=self._recovery.changes,
            verdicts=self._recovery.verdicts,
            whole=whole,
        )
        return self._asked.body

    def _make(self) -> None:
        asked, self._asked = self._asked, None
        if asked is None:
            return
        self._attempt = attempt = make_attempt(self._request, self._settings, asked, self._shown)
        self._begin_passing(attempt)
        self._ledger.begun(attempt.record, self._now)
        if self._mode != "resume" and self._first is None:
            self._delivery.begin(asked.target.engine)
