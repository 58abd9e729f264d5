"""
After a backend's own error event: it passes as it is, and so does what the backend still says.

The client has an error then, and it is the backend's. What follows, vLLM's `[DONE]` for one, is the backend's as well
and passes: less what the guard had asked for, and only as long as nothing bad is in it. The attempt is not aborted; it
ends by itself.
"""

from __future__ import annotations

import abc

from guard.core.attempt import Attempt, Judged
from guard.core.events import Command
from guard.core.failure import of_error_event
from guard.core.holdback import Held
from guard.core.phases import Phase
from guard.core.record import Outcome
from guard.core.whole import WholeAnswers
from guard.errors import ProtocolError, UpstreamError
from guard.proto.chunks import is_done
from guard.proto.sse import SseEvent
from guard.types import Action


class OwnErrors(WholeAnswers, abc.ABC):
    """The part of an exchange that passes on how a backend itself ends a stream that failed."""

    def _on_error_event(self, event: SseEvent) -> list[Command]:
        """The backend itself reports a failure in its stream."""
        self._current().record.fault = "status"
        self.record.outcome = Outcome.UPSTREAM_ERROR
        if not self._request.stream:
            out = self._abort("backend reported an error")
            return [*out, *self._fail(Outcome.UPSTREAM_ERROR, of_error_event(event.data or b""))]
        self._phase = Phase.FAILED
        return self._pass_on(event.raw)

    def _on_data_after_error(self, attempt: Attempt, data: bytes) -> list[Command]:
        try:
            events = attempt.feed(data)
        except ProtocolError as error:
            return self._on_fault(UpstreamError("protocol", str(error)), alive=True)
        return self._after_error(attempt, events)

    def _after_error(self, attempt: Attempt, events: list[SseEvent]) -> list[Command]:
        """Pass on what follows. Bad text, or what is no event, ends the stream: its client has an error already."""
        out: list[Command] = []
        try:
            for event in events:
                if event.data is not None and is_done(event.data):  # also where the route's own answers have none
                    out += self._pass_on(event.raw)
                    continue
                judged = attempt.judge(event, watch=self._watching)
                if judged.samples:
                    self._arrived(judged, out)
                if judged.verdict.action in (Action.RETRY, Action.CUT):
                    attempt.record.judge(judged.verdict)
                    return [*out, *self._abort(judged.verdict.reason), *self._finish()]
                if judged.chunk is not None and judged.chunk.error is not None:
                    out += self._pass_on(event.raw)
                elif judged.closing is not None:
                    out += self._pass_on(judged.closing)
        except ProtocolError as error:
            return [*out, *self._on_fault(UpstreamError("protocol", str(error)), alive=True)]
        return out + self._release()

    def _on_end_after_error(self, attempt: Attempt, events: list[SseEvent]) -> list[Command]:
        out = self._after_error(attempt, events)
        return out if self.done else [*out, *self._flush(), *self._finish()]

    def _pass_on(self, raw: bytes) -> list[Command]:
        return self._flush() + self._send([Held(raw, "", 0, 0)])

    @abc.abstractmethod
    def _arrived(self, judged: Judged, out: list[Command]) -> None: ...
