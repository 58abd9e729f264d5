"""
Workers that live and answer nobody: the supervisor ends them, and then they are started again.

A worker that dies is seen at once. One that hangs (a defect, a device that does not come back) keeps its connections
and its share of the new ones, and nobody is told. So each is asked for its health now and then; one that says nothing
for long is killed: its streams have stood still for as long.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Mapping

import aiohttp
import structlog

from guard.clock import Clock
from guard.server.workers import Supervisor, Worker, fetch

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

#: Between two questions. Unit: seconds.
EVERY = 5.0
#: Without any answer for this long, a worker hangs. Unit: seconds.
PATIENCE = 60.0


class Silence:
    """
    Who has not answered for too long.

    Args:
        every: Time between two rounds of questions. Unit: seconds.
        patience: How long a process may say nothing. Unit: seconds.
    """

    def __init__(self, every: float = EVERY, patience: float = PATIENCE) -> None:
        self._late = 2 * every + patience / 4
        self._patience = patience
        self._heard: dict[int, float] = {}
        self._asked: float | None = None

    def hung(self, now: float, answered: Mapping[int, bool]) -> list[int]:
        """
        Those that hang, after one round of questions.

        Args:
            now: Unit: seconds.
            answered: Process id -> whether it has answered. One that is asked for the first time is new.

        Returns:
            Process ids. None when the round comes late: then it is this process that was held up, and others may have
            been with it.
        """
        late = self._asked is not None and now - self._asked > self._late
        self._asked = now
        heard = self._heard
        self._heard = {pid: now if said or late else heard.get(pid, now) for pid, said in answered.items()}
        return [pid for pid, since in self._heard.items() if now - since >= self._patience]


async def end_hung_workers(
    supervisor: Supervisor,
    session: aiohttp.ClientSession,
    clock: Clock,
    *,
    every: float = EVERY,
    patience: float = PATIENCE,
) -> None:
    """
    Until cancelled: kill workers that hang. `Supervisor` starts them again.

    Args:
        supervisor: Whose workers.
        session: To ask with; its time limit is that of one question.
        clock: For how long nothing was said.
        every: As of Silence.
        patience: As of Silence.
    """
    silence = Silence(every, patience)
    while True:
        await asyncio.sleep(every)
        workers = {
            worker.process.pid: worker
            for worker in supervisor.serving
            if worker.process is not None and not supervisor.draining
        }
        answers = await asyncio.gather(*(fetch(session, worker, "/healthz", {}) for worker in workers.values()))
        answered = {pid: answer is not None for pid, answer in zip(workers, answers, strict=True)}
        for pid in silence.hung(clock.now(), answered):
            _end(workers[pid], pid, patience)


def _end(worker: Worker, pid: int, patience: float) -> None:
    if worker.process is not None and worker.process.pid == pid:
        _log.error("worker hangs: it is ended", worker=worker.index, silent_s=patience)
        worker.signal(signal.SIGKILL)
