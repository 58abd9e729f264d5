"""What goes wrong in a soak, and when: a schedule made from a seed, and what each fault does to real processes."""

from __future__ import annotations

import asyncio
import os
import random
import resource
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tests.bench.soak_guard import shared
from tests.bench.soak_load import Clients
from tests.integration.state.servers import Server

REPLICAS = 3
#: Of a replica: told to it, except for the first.
SICK = ("kill", "stall", "reset", "garble", "trickle")
#: Of all else.
AROUND = ("redis killed", "redis stopped", "redis restarted", "disk full", "policy broken", "clock set", "rush")


#: Between two faults of a kind, in a soak and in a short one. Unit: seconds.
PAUSE, PAUSE_SHORT = (8.0, 24.0), (2.0, 8.0)


class Fault(NamedTuple):
    """
    One fault.

    Args:
        at: After the beginning. Unit: seconds.
        kind: Of SICK or AROUND.
        lasts: Unit: seconds.
        replica: Which; -1 for none.
        amount: By how much the clock is set. Unit: seconds.
    """

    at: float
    kind: str
    lasts: float
    replica: int = -1
    amount: float = 0.0


def schedule(seed: int, seconds: float) -> list[Fault]:
    """
    All faults of a soak: at most one replica is sick at a time, and at most one other thing is wrong beside it.

    Args:
        seed: The same seed and time give the same schedule.
        seconds: How long it is; in a short one faults are shorter, so that each kind comes at least once.
    """
    unit = min(1.0, max(0.25, seconds / 180))
    faults: list[Fault] = []
    for kinds in (SICK, AROUND):
        dice = random.Random(f"{seed}/{kinds[0]}")
        at = seconds * 0.1 * dice.uniform(0.3, 1.0)
        bag: list[str] = []
        while True:
            bag = bag or dice.sample(kinds, len(kinds))
            kind, lasts = bag.pop(), dice.uniform(4.0, 12.0) * unit
            if at + lasts > seconds * 0.95:
                break
            replica = dice.randrange(REPLICAS) if kinds is SICK else -1
            amount = dice.choice((-1, 1)) * dice.choice((5.0, 90.0, 3600.0, 90_000.0)) if kind == "clock set" else 0.0
            faults.append(Fault(round(at, 2), kind, round(lasts, 2), replica, amount))
            at += lasts + dice.uniform(*(PAUSE_SHORT if unit < 1 else PAUSE)) * unit
    return sorted(faults)


@dataclass
class Replica:
    """One replica's process, and those before it in its place."""

    number: int
    port: int
    events: Path
    seed: int
    process: subprocess.Popen[bytes] | None = None
    #: When a process was killed, by its id. Unit: seconds of the monotonic clock.
    killed: dict[int, float] = field(default_factory=dict)

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.bench.soak_backend", str(self.port), str(self.events), str(self.seed)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)

    def tell(self, mode: str) -> None:
        assert self.process is not None
        assert self.process.stdin is not None
        if self.process.poll() is not None:
            raise RuntimeError(f"replica {self.number} ended by itself with {self.process.returncode}")
        self.process.stdin.write(mode.encode() + b"\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        if self.process is not None:
            self.killed[self.process.pid] = time.monotonic()
            self.process.kill()
            self.process.wait()


class Done(NamedTuple):
    """A fault as it was done. Unit of times: seconds of the monotonic clock."""

    kind: str
    replica: int
    began: float
    ended: float


@dataclass
class Stage:
    """Everything that faults are done to."""

    replicas: list[Replica]
    redis: Server
    guard: int
    policy: Path
    clock: Path
    clients: Clients
    done: list[Done] = field(default_factory=list)

    async def perform(self, faults: list[Fault], begun: float) -> None:
        """All of them, each at its time or after the one before it; in the end everything is well again."""
        sick = [fault for fault in faults if fault.replica >= 0]
        around = [fault for fault in faults if fault.replica < 0]
        await asyncio.gather(self._in_turn(sick, begun), self._in_turn(around, begun))

    async def _in_turn(self, faults: list[Fault], begun: float) -> None:
        for fault in faults:
            await asyncio.sleep(max(0.0, begun + fault.at - time.monotonic()))
            await self._one(fault)

    async def _one(self, fault: Fault) -> None:
        began = time.monotonic()
        wait = asyncio.create_task(asyncio.sleep(fault.lasts))
        if fault.replica >= 0:
            await self._sicken(self.replicas[fault.replica], fault.kind, wait)
        else:
            await AROUND_DOES[fault.kind](self, wait, fault)
        self.done.append(Done(fault.kind, fault.replica, began, time.monotonic()))

    async def _sicken(self, replica: Replica, kind: str, wait: Awaitable[None]) -> None:
        if kind == "kill":
            replica.kill()
            await wait
            replica.start()
            return
        replica.tell(kind)
        await wait
        replica.tell("well")

    async def redis_killed(self, wait: Awaitable[None], _: Fault) -> None:
        self.redis.kill()
        await wait
        self.redis.start(wait=False)

    async def redis_stopped(self, wait: Awaitable[None], _: Fault) -> None:
        self.redis.pause()
        await wait
        self.redis.resume()

    async def redis_restarted(self, wait: Awaitable[None], _: Fault) -> None:
        """It comes back at once, and knows nothing."""
        self.redis.kill()
        self.redis.start(wait=False)
        await wait

    async def disk_full(self, wait: Awaitable[None], _: Fault) -> None:
        """The guard may not make any file longer, as on a full disk; it has no other file than its recordings."""
        _, hard = resource.prlimit(self.guard, resource.RLIMIT_FSIZE)
        resource.prlimit(self.guard, resource.RLIMIT_FSIZE, (0, hard))
        before = self.clients.outcomes["whole"]
        await wait
        for _ in range(50):  # something has to be over, or there was nothing to be written
            await asyncio.sleep(0.1)
            if self.clients.outcomes["whole"] > before:
                break
        resource.prlimit(self.guard, resource.RLIMIT_FSIZE, (hard, hard))

    async def policy_broken(self, wait: Awaitable[None], _: Fault) -> None:
        good = self.policy.read_text()
        self.policy.write_text(good.replace("rules:", "rulez:\n  - {", 1))
        os.kill(self.guard, signal.SIGHUP)
        await wait
        self.policy.write_text(good)
        os.kill(self.guard, signal.SIGHUP)

    async def clock_set(self, wait: Awaitable[None], fault: Fault) -> None:
        shared(self.clock)[:] = struct.pack("d", fault.amount)
        await wait
        shared(self.clock)[:] = struct.pack("d", 0.0)

    async def rush(self, wait: Awaitable[None], _: Fault) -> None:
        await self.clients.rush(self.clients.streams // 2)
        await wait


AROUND_DOES: dict[str, Callable[[Stage, Awaitable[None], Fault], Awaitable[None]]] = {
    "redis killed": Stage.redis_killed,
    "redis stopped": Stage.redis_stopped,
    "redis restarted": Stage.redis_restarted,
    "disk full": Stage.disk_full,
    "policy broken": Stage.policy_broken,
    "clock set": Stage.clock_set,
    "rush": Stage.rush,
}
