"""
Shared state in a Redis: alone, behind Sentinels, or a Cluster.

All keys of a fleet stand in one hash tag, so that scripts work on a cluster, and all have a time to live.
What a guard tells the store, it tells as a whole; see `Own`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from guard.clock import Clock
from guard.retry.budget import Budget
from guard.state.calls import Calls
from guard.state.connect import PATIENCE, connect
from guard.state.lists import SharedLists
from guard.state.own import Own, newest
from guard.state.retries import Retries
from guard.state.scripts import Script
from guard.state.settings import StoreSettings
from guard.state.store import KEPT_VERDICTS, WINDOW, Ejection, Fleet, StoreCounts, Tally
from guard.state.window import summed
from guard.types import ReplicaId

#: How long baselines outlive the traffic they were learned from. Unit: seconds.
MEANS_LIVE = 7 * 86_400
#: How long verdicts are kept. Unit: seconds.
VERDICTS_LIVE = 86_400

T = TypeVar("T")

_encode = msgspec.json.Encoder().encode
_counts_of = msgspec.json.Decoder(dict[ReplicaId, tuple[int, int]]).decode
_entry_of = msgspec.json.Decoder(dict[str, object]).decode


class _Told(msgspec.Struct):
    """What the store keeps of an ejection, beside its end."""

    reason: str
    guard: str


_floats_of = msgspec.json.Decoder(float).decode
_tallies_of = msgspec.json.Decoder(Tally).decode
_told_of = msgspec.json.Decoder(_Told).decode


class RedisStore:
    """
    A StateStore. See `store.StateStore` for its methods.

    Args:
        settings: Checked settings.
        budget: The rule on retries; the same on all guards of the fleet.
        guard: This guard's name, unlike all others'.
        clock: The guard's.
        window: How long answers count. Unit: seconds.
        wall: Seconds since the epoch; ejections are told by it.

    Raises:
        ConfigError: A password cannot be had.
    """

    def __init__(
        self,
        settings: StoreSettings,
        budget: Budget,
        guard: str,
        clock: Clock,
        window: float = WINDOW,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.guard = guard
        self.counts = StoreCounts()
        self._client = connect(settings)
        self._clock = clock
        self._wall = wall
        self._own = Own(guard, budget, window)
        self._calls = Calls(settings.deadline, settings.failures, self.counts, clock)
        self._prefix = f"{{{settings.namespace}}}:1:"
        told = (self._prefix + "guards", settings, self._own, self._calls, self.counts, clock)
        self._retries = Retries(self._client, *told)
        self._epoch = b""
        self._quality = Script("quality")
        self._ejections = Script("ejections")
        self._means = Script("means")
        self._verdicts = Script("verdicts")

    @property
    def degraded(self) -> bool:
        """Whether requests no longer wait for the store."""
        return not self._calls.closed

    @property
    def fleet(self) -> Fleet:
        """As of the last answer; this guard alone while degraded."""
        if self.degraded:
            return Fleet(1, self._retries.active, self.retries)
        others = self._own.others
        return Fleet(others.guards, others.active + self._retries.active, others.retries + self.retries)

    @property
    def retries(self) -> int:
        """Retries of this guard in flight."""
        return self._own.retries.in_flight

    @property
    def room(self) -> bool:
        """By the last answer; while degraded, by this guard's own share."""
        own = self._own
        if self.degraded:
            return own.retries.in_flight < self._retries.limit
        fleet = self.fleet
        return fleet.retries < own.retries.budget.allowance(fleet.active)

    async def open(self) -> None:
        """Connect and exchange once; a store that is down costs at most PATIENCE."""
        await self.beat(0)

    async def close(self) -> None:
        """Leave the fleet, and close the connections."""
        await self._retries.leave()
        await self._calls.close()
        await self._client.aclose()

    # -- the budget ---------------------------------------------------------------------------------

    async def admit_retry(self, active: int) -> bool:
        """One round trip, two in a burst; alone, within its deadline, this guard's own share decides."""
        return await self._retries.admit(active)

    async def retry_done(self) -> None:
        """Told a little later, with other ends that come meanwhile, or by the next admission if that is sooner."""
        self._retries.done()

    # -- once every BEAT ------------------------------------------------------------------------------

    async def beat(self, active: int) -> None:
        """Tell all that is new, and learn what the others told. Ends at the first call that fails."""
        if await self._retries.beat(active) and await self._sync_quality() and await self._sync_ejections():
            await self._send_verdicts()

    async def _sync_quality(self) -> bool:
        totals = self._own.quality.totals(self._clock.now())
        text = _encode(totals).decode() if totals else ""
        key, window = self._prefix + "quality", round(self._own.window * 1000)
        replies = await self._calls.probe(
            "quality", lambda: self._quality.run(self._client, key, self.guard, text, window), PATIENCE
        )
        if replies is None:
            return False
        others = [_decoded(_counts_of, reply) for reply in replies]
        self._own.others_quality(summed(counts for counts in others if counts), self._clock.now())
        return True

    async def _sync_ejections(self) -> bool:
        if not await self._exchange_ejections(patient=True):
            return False
        # A store that lost its data has another mark; then it is told all again.
        return not self._own.unsent_ejections or await self._exchange_ejections(patient=True)

    async def _exchange_ejections(self, *, patient: bool) -> bool:
        now = self._wall()
        sent = dict(self._own.unsent_ejections)
        told: list[str | int] = []
        for replica, ejection in sent.items():
            text = _encode(_Told(ejection.reason, ejection.guard)).decode()
            told += [replica, max(round((ejection.until - now) * 1000), 0), text]
        key = self._prefix + "ejected"

        async def exchanged() -> list[Any]:
            return await self._ejections.run(self._client, key, *told)

        if patient:
            reply = await self._calls.probe("ejections", exchanged, PATIENCE)
        else:
            reply = await self._calls.ask("eject", exchanged)
        if reply is None:
            return False
        unsent = self._own.unsent_ejections
        for replica, ejection in sent.items():
            if unsent.get(replica) is ejection:
                del unsent[replica]
        mark, *rest = reply
        if mark != self._epoch and self._epoch:
            self._own.ejections_lost()
        self._epoch = mark
        self._own.learn_ejections(_ejections_of(rest, now))
        return True

    async def _send_verdicts(self) -> None:
        unsent = self._own.unsent_verdicts
        if not unsent:
            return
        sending = list(unsent)
        texts = [_encode(entry).decode() for entry in sending]
        arguments: list[str | int] = [KEPT_VERDICTS, VERDICTS_LIVE * 1000, *texts]
        done = await self._calls.probe(
            "verdicts", lambda: self._verdicts.run(self._client, self._prefix + "verdicts", *arguments), PATIENCE
        )
        if done is not None:
            for entry in sending:
                if unsent and unsent[0] is entry:
                    unsent.popleft()

    # -- quality, ejections ---------------------------------------------------------------------------

    async def count_quality(self, replica: ReplicaId, deployment: str, good: int, bad: int) -> None:
        """Told with the next beat."""
        self._own.quality.add(replica, good, bad, self._clock.now())

    async def quality(self) -> Mapping[ReplicaId, tuple[int, int]]:
        """This guard's as they are, the others' as of the last beat."""
        return self._own.all_quality(self._clock.now())

    async def eject(self, replica: ReplicaId, until: float, reason: str) -> None:
        """Holds here at once, and is told at once if the store is reached."""
        self._own.eject(replica, until, reason)
        if self._calls.closed:
            await self._exchange_ejections(patient=False)

    async def ejected(self) -> Mapping[ReplicaId, Ejection]:
        """As of the last beat, and this guard's own."""
        return self._own.ejected(self._wall())

    # -- baselines, verdicts ----------------------------------------------------------------------------

    async def share_means(self, deployment: str, means: Sequence[float]) -> tuple[float, ...]:
        """Means that the store could not be told are kept for the next time."""
        return await self._share(f"means:{deployment}", self._own.means, deployment, means, "{:.4f}".format, _mean_of)

    async def share_tallies(self, model: str, tallies: Sequence[Tally]) -> tuple[Tally, ...]:
        """As for means."""
        return await self._share(f"tallies:{model}", self._own.tallies, model, tallies, _tally_text, _tally_of)

    async def _share(
        self,
        key: str,
        lists: SharedLists[T],
        name: str,
        items: Sequence[T],
        text: Callable[[T], str],
        read: Callable[[bytes], T | None],
    ) -> tuple[T, ...]:
        lists.add(name, items)
        if not self._calls.closed:
            return lists.of(name)
        sending = lists.take_unsent(name)
        told = lists.of(name)
        told = told[: len(told) - len(sending)]
        texts = [text(item) for item in (*told, *sending)]
        arguments: list[str | int] = [lists.most, MEANS_LIVE * 1000, len(told), *texts]
        at = self._prefix + key
        reply = await self._calls.probe("means", lambda: self._means.run(self._client, at, *arguments), PATIENCE)
        if reply is None:
            lists.put_back_unsent(name, sending)
        else:
            lists.learn(name, [item for item in map(read, reply[1:]) if item is not None])
        return lists.of(name)

    async def note_verdict(self, entry: Mapping[str, object]) -> None:
        """Told with the next beat."""
        self._own.note(entry)

    async def recent_verdicts(self, limit: int) -> list[dict[str, object]]:
        """The stream's, and those of this guard that are not in it yet."""
        key = self._prefix + "verdicts"
        reply = await self._calls.ask("recent", lambda: self._client.xrevrange(key, count=limit), proves=False)
        if reply is None:
            return self._own.verdicts(limit)
        stored = [_decoded(_entry_of, fields.get(b"json", b"")) for _, fields in reply]
        return newest([*list(self._own.unsent_verdicts)[::-1], *(entry for entry in stored if entry)], limit)


def _decoded(decode: Callable[[bytes], T], raw: bytes) -> T | None:
    """What another guard wrote; None when this version cannot read it."""
    try:
        return decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _mean_of(raw: bytes) -> float | None:
    return _decoded(_floats_of, raw)


def _tally_text(tally: Tally) -> str:
    return _encode(tally).decode()


def _tally_of(raw: bytes) -> Tally | None:
    return _decoded(_tallies_of, raw)


def _ejections_of(parts: Sequence[bytes], now: float) -> dict[ReplicaId, Ejection]:
    """Triples of replica, time left in ms, and text, as ejections by this guard's clock, which says `now`."""
    found: dict[ReplicaId, Ejection] = {}
    for replica, left, text in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
        told = _decoded(_told_of, text)
        if told is not None:
            found[ReplicaId(replica.decode())] = Ejection(now + int(left) / 1000, told.reason, told.guard)
    return found
