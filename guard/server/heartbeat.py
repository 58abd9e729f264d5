"""
Comments that keep an idle stream open where something between guard and client closes silent connections.

They begin only once the client's head was sent: an earlier byte would commit the status to 200 while the
backend may still refuse. One sweeper looks after all streams.
"""

from __future__ import annotations

import asyncio
import contextlib

from aiohttp import web

from guard.clock import Clock

#: What is sent; server-sent events skip lines that begin with a colon.
BEAT = b": alive\n\n"


class Pulse:
    """
    One client's stream.

    Args:
        response: Begun, and written between events only.
        since: When something was last written to it; whoever writes says so. Unit: seconds.
    """

    __slots__ = ("beat", "response", "since")

    def __init__(self, response: web.StreamResponse, since: float) -> None:
        self.response = response
        self.since = since
        self.beat: asyncio.Task[None] | None = None


class Heartbeats:
    """
    The sweeper. `run` is its task.

    Args:
        clock: Times of the streams.
        interval: Longest silence towards a client; None for no heartbeats. Unit: seconds.
    """

    def __init__(self, clock: Clock, interval: float | None) -> None:
        self._clock = clock
        self._interval = interval
        self._pulses: set[Pulse] = set()

    def start(self, response: web.StreamResponse) -> Pulse | None:
        """Look after one stream until `stop`; None when there are no heartbeats."""
        if self._interval is None:
            return None
        pulse = Pulse(response, self._clock.now())
        self._pulses.add(pulse)
        return pulse

    def stop(self, pulse: Pulse) -> None:
        """The stream is about to end."""
        self._pulses.discard(pulse)
        if pulse.beat is not None:
            pulse.beat.cancel()

    async def run(self) -> None:
        """Sweep until cancelled."""
        while self._interval is not None:
            await asyncio.sleep(self._interval / 4)
            self.sweep()

    def sweep(self) -> None:
        """Look at every stream once. One that still waits for its client to read is left alone."""
        if self._interval is None:
            return
        now = self._clock.now()
        for pulse in self._pulses:
            if now - pulse.since >= self._interval and (pulse.beat is None or pulse.beat.done()):
                pulse.since = now
                pulse.beat = asyncio.get_running_loop().create_task(_beat(pulse.response))


async def _beat(response: web.StreamResponse) -> None:
    # A client that has gone is found by whoever drives the stream.
    with contextlib.suppress(ConnectionError):
        await response.write(BEAT)
