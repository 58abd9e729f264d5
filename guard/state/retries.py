"""What a guard tells the store of its retries, and how it asks for more: one call for all that are wanted at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from guard.clock import Clock
from guard.state.calls import Calls
from guard.state.connect import PATIENCE, Client
from guard.state.own import Others, Own
from guard.state.scripts import Script
from guard.state.settings import StoreSettings
from guard.state.store import BEAT, StoreCounts

#: Age before which the store does not know all guards yet: each has beaten twice by then. Unit: seconds.
SETTLING = 2 * BEAT
#: How long the end of a retry waits to be told with others. Unit: seconds.
RELEASE_AFTER = 0.05
#: Calls that may be made, one after another, before the first of them is late.
IN_TURN = 10


class _Wanted(NamedTuple):
    """A retry that a request waits for, and since when. Unit: seconds."""

    since: float
    granted: asyncio.Future[bool]


class Retries:
    """
    The fleet's budget, seen from one guard.

    While the store answers in time it decides on every retry, however many are wanted at once. A retry wanted while
    the store is being asked waits for that answer, at most for a part of the deadline, and is then asked for together
    with those that came meanwhile: so there are never more calls than `Calls` makes, and none of a burst is decided
    here beside what the store grants.

    Args:
        client: The store.
        key: Its hash of guards.
        settings: Checked settings.
        own: This guard's part.
        calls: Makes the calls.
        counts: Where decisions are counted.
        clock: The guard's.
    """

    def __init__(
        self,
        client: Client,
        key: str,
        settings: StoreSettings,
        own: Own,
        calls: Calls,
        counts: StoreCounts,
        clock: Clock,
    ) -> None:
        #: Client requests in flight on this guard, when it last said so.
        self.active = 0
        self._client = client
        self._key = key
        self._own = own
        self._calls = calls
        self._counts = counts
        self._clock = clock
        self._lease = round(settings.lease * 1000)
        self._pause = settings.deadline / IN_TURN
        self._script = Script("retries")
        self._sequence = 0
        #: How many each call asks for whose answer is waited for, by its sequence.
        self._asked: dict[int, int] = {}
        self._wanted: list[_Wanted] = []
        self._asking: asyncio.TimerHandle | None = None
        self._releasing: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def limit(self) -> int:
        """Most that this guard may have in flight by its own decision."""
        return self._own.limit(self.active, self._clock.now())

    async def admit(self, active: int) -> bool:
        """See `StateStore.admit_retry`."""
        self.active = active
        if not self._calls.closed:
            self._counts.calls[("admit", "skipped")] += 1
            return self._take_alone()
        loop = asyncio.get_running_loop()
        wanted = _Wanted(self._clock.now(), loop.create_future())
        self._wanted.append(wanted)
        if not self._asked:
            self._ask()
        elif self._asking is None:
            self._asking = loop.call_later(self._pause, self._ask)
        try:
            return await wanted.granted
        except asyncio.CancelledError:
            granted = wanted.granted
            if granted.done() and not granted.cancelled() and granted.result():
                self.done()  # it was granted, and nobody is there to make it
            raise

    def done(self) -> None:
        """A retry is over: told a little later, with other ends that come meanwhile, or by the next call."""
        self._own.retries.release()
        self._tell_soon()

    async def beat(self, active: int) -> bool:
        """Tell the store, and learn what the others told it; whether it answered."""
        self.active = active
        _, tell = self._report(wanted=0, lease=self._lease)
        answer = await self._calls.probe("beat", tell, PATIENCE, proves=True)
        if answer is not None:
            self._learn(answer)
        return answer is not None

    async def leave(self) -> None:
        """Leave the fleet, if the store is reached, and wait for nothing more."""
        if self._calls.closed:
            _, tell = self._report(wanted=0, lease=0)
            await self._calls.probe("leave", tell, PATIENCE)
        self._silence()
        if self._asking is not None:
            self._asking.cancel()
        while self._tasks:  # one that ends asks for those that were gathered meanwhile
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- asking -------------------------------------------------------------------------------------

    def _ask(self) -> None:
        """One call for all that are wanted now."""
        if self._asking is not None:
            self._asking.cancel()
            self._asking = None
        wanted = [one for one in self._wanted if not one.granted.done()]  # who left wants nothing
        self._wanted.clear()
        if not wanted:
            return
        sequence, tell = self._report(wanted=len(wanted), lease=self._lease)
        self._asked[sequence] = len(wanted)
        task = asyncio.create_task(self._asked_for(wanted, sequence, tell), name="store admissions")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _asked_for(self, wanted: list[_Wanted], sequence: int, tell: Callable[[], Awaitable[list[int]]]) -> None:
        answer = None
        try:
            answer = await self._calls.ask("admit", tell, since=[one.since for one in wanted])
        finally:
            del self._asked[sequence]
            granted = self._learn(answer) if answer is not None else -1
            for one in wanted:
                if one.granted.done():
                    continue  # it left
                if granted < 0:
                    one.granted.set_result(self._take_alone())
                else:
                    one.granted.set_result(self._take_granted(granted > 0))
                    granted -= granted > 0
            if self._wanted:
                self._ask()

    def _take_granted(self, granted: bool) -> bool:
        if granted:
            self._own.retries.claim()
        self._counts.admissions[("granted" if granted else "refused", "fleet")] += 1
        return granted

    def _take_alone(self) -> bool:
        # What the store is still being asked for may be granted yet.
        granted = self._own.retries.take(self.limit - sum(self._asked.values()))
        self._counts.admissions[("granted" if granted else "refused", "guard")] += 1
        if granted:
            self._tell_soon()
        return granted

    # -- telling ------------------------------------------------------------------------------------

    def _tell_soon(self) -> None:
        if self._releasing is None and self._calls.closed:
            self._releasing = asyncio.get_running_loop().call_later(RELEASE_AFTER, self._release)

    def _release(self) -> None:
        _, tell = self._report(wanted=0, lease=self._lease)
        self._calls.start("release", tell)

    def _silence(self) -> None:
        """What the release would have told is told otherwise, or no more."""
        if self._releasing is not None:
            self._releasing.cancel()
            self._releasing = None

    def _report(self, *, wanted: int, lease: int) -> tuple[int, Callable[[], Awaitable[list[int]]]]:
        """A call, by its sequence, that tells this guard's part as it now is; its answer is for `_learn`."""
        self._silence()
        self._sequence += 1
        own = self._own.retries
        awaited = " ".join(map(str, self._asked))
        told = (self._sequence, own.in_flight, awaited, self.active, wanted, lease)
        rule = (own.budget.share, own.budget.floor, round(SETTLING * 1000))

        async def tell() -> list[int]:
            reply = await self._script.run(self._client, self._key, self._own.guard, *told, *rule)
            return [int(value) for value in reply]

        return self._sequence, tell

    def _learn(self, answer: list[int]) -> int:
        """Take over what the store knows of the fleet; how many it grants, -1 if it cannot tell yet."""
        granted, guards, active, retries = answer
        if granted < 0:
            # Others may not have told yet that they are there; what was known of them holds.
            guards = max(guards, self._own.others.guards)
            until = 0.0
        else:
            until = self._clock.now() + self._lease / 1000
        self._own.others = Others(guards, active, retries, self._own.retries.in_flight, until)
        return granted
