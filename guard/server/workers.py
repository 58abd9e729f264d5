"""
Several worker processes behind one client port, and the supervisor that keeps them running.

Every worker is a whole guard of its own that listens on the same port (SO_REUSEPORT: the kernel deals connections
out) and has its admin port on loopback. The supervisor holds the port's address without listening, so that the
port stays taken while workers come and go; it starts a worker that ended again, later each time; it passes SIGTERM,
SIGINT and SIGHUP on. What all workers have to have alike it sends down their standard input; a worker reads on to the
end: when the supervisor is gone, however it went, the worker drains and stops.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence

import aiohttp
import msgspec
import structlog

from guard.clock import Clock
from guard.config import Listen
from guard.errors import SetupError
from guard.server.ports import bound, refusals_told
from guard.server.worker_metrics import MergedMetrics

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

#: Wait before a worker that ended is started again: doubled each time, from the first to the last. Unit: seconds.
FIRST_WAIT, LONGEST_WAIT = 0.25, 30.0
#: A worker that served this long had a good start: its next wait is the first one again. Unit: seconds.
GOOD_RUN = 30.0
#: How long a worker may take from its start until it serves. Unit: seconds.
START = 60.0
#: What a worker may take beyond the drain until it is killed. Unit: seconds.
GRACE = 5.0


class Announcement(msgspec.Struct, frozen=True):
    """The line that a worker prints once it serves."""

    url: str
    admin_url: str


class Worker:
    """One worker process, and those after it in its place."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.process: asyncio.subprocess.Process | None = None
        #: Where its admin port is; None while it does not serve.
        self.admin_url: str | None = None
        self.restarts = 0

    def signal(self, number: int) -> None:
        """Send a signal, if there is a process."""
        if self.process is not None and self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)


class Supervisor:
    """
    Keeps `count` workers running.

    Args:
        command: Starts one worker; its index and the port are added.
        count: How many.
        listen: Where clients connect.
        drain: How long streams in flight may take to end. Unit: seconds.
        clock: For how long workers ran.
        shared: Whether they share a store.
        handed: What each is sent on its standard input as it starts.
    """

    def __init__(
        self,
        command: Sequence[str],
        count: int,
        listen: Listen,
        drain: float,
        clock: Clock,
        *,
        shared: bool = False,
        handed: bytes = b"",
    ) -> None:
        self._command = list(command)
        self._handed = handed
        self._listen = listen
        self._drain = drain
        self._clock = clock
        self._stop = asyncio.Event()
        #: Whether all workers have served at once.
        self.started = False
        self.workers = [Worker(index) for index in range(count)]
        self.metrics = MergedMetrics(shared=shared)

    @property
    def draining(self) -> bool:
        """Whether it was told to stop."""
        return self._stop.is_set()

    @property
    def serving(self) -> list[Worker]:
        """Those that take requests."""
        return [worker for worker in self.workers if worker.admin_url is not None]

    def stop(self) -> None:
        """Let streams in flight end, then no more. Said a second time: end them at once."""
        self._stop.set()
        for worker in self.workers:
            worker.signal(signal.SIGTERM)

    def reload(self) -> None:
        """Have every worker read its policies again. One that only starts reads them now, and a signal would end it."""
        for worker in self.serving:
            worker.signal(signal.SIGHUP)

    async def run(self, announce: Callable[[str], None], *, secure: bool = False) -> int:
        """
        Until `stop`, and until every worker has ended.

        Args:
            announce: Called with the clients' URL once every worker serves.
            secure: Whether they connect by HTTPS.

        Returns:
            How many workers had to cut streams.

        Raises:
            SetupError: The port cannot be had, or a worker cannot be started the first time.
        """
        with _held_port(self._listen) as port:
            command = [*self._command, "--port", str(port)]
            try:
                async with asyncio.timeout(START):
                    await asyncio.gather(*(self._start(worker, command) for worker in self.workers))
            except (TimeoutError, SetupError) as error:
                await self._end_all()
                if self._stop.is_set():
                    return 0
                if isinstance(error, SetupError):
                    raise
                raise SetupError(f"a worker did not serve within {START:.0f} s") from error
            self.started = True
            host = f"[{self._listen.host}]" if ":" in self._listen.host else self._listen.host
            announce(f"{'https' if secure else 'http'}://{host}:{port}")
            async with asyncio.TaskGroup() as group:
                for worker in self.workers:
                    group.create_task(self._keep(worker, command))
        return sum(worker.process is not None and worker.process.returncode != 0 for worker in self.workers)

    async def _start(self, worker: Worker, command: list[str]) -> None:
        """Start one and wait until it serves."""
        line = [*command, "--worker", str(worker.index)]
        pipe = asyncio.subprocess.PIPE
        worker.process = await asyncio.create_subprocess_exec(*line, stdin=pipe, stdout=pipe)
        assert worker.process.stdin is not None
        assert worker.process.stdout is not None
        with contextlib.suppress(ConnectionError):  # it has ended, which is seen next
            worker.process.stdin.write(self._handed)
            await worker.process.stdin.drain()
        try:
            said = msgspec.json.decode(await worker.process.stdout.readline(), type=Announcement)
        except msgspec.DecodeError as error:
            worker.signal(signal.SIGKILL)
            code = await worker.process.wait()
            raise SetupError(
                f"worker {worker.index} ended with {code} before it served; its reason is above"
            ) from error
        worker.admin_url = said.admin_url
        self.metrics.running = len(self.serving)

    async def _keep(self, worker: Worker, command: list[str]) -> None:
        wait = FIRST_WAIT
        while True:
            began = self._clock.now()
            await self._until_it_ends(worker)
            if self._stop.is_set():
                return
            if self._clock.now() - began >= GOOD_RUN:
                wait = FIRST_WAIT
            code = worker.process.returncode if worker.process is not None else None
            _log.error("worker ended", worker=worker.index, code=code, again_in=wait)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), wait)
                return
            wait = min(2 * wait, LONGEST_WAIT)
            worker.restarts += 1
            self.metrics.restarts += 1
            try:
                async with asyncio.timeout(START):
                    await self._start(worker, command)
            except (SetupError, TimeoutError, OSError) as error:
                _log.error("worker did not start", worker=worker.index, error=str(error))
                worker.signal(signal.SIGKILL)
            if self._stop.is_set():
                worker.signal(signal.SIGTERM)

    async def _until_it_ends(self, worker: Worker) -> None:
        process = worker.process
        if process is not None:
            ended = asyncio.create_task(process.wait())
            stopping = asyncio.create_task(self._stop.wait())
            try:
                await asyncio.wait({ended, stopping}, return_when=asyncio.FIRST_COMPLETED)
                if not ended.done():
                    await asyncio.wait({ended}, timeout=self._drain + GRACE)
                if not ended.done():
                    worker.signal(signal.SIGKILL)
                    await ended
            finally:
                ended.cancel()
                stopping.cancel()
        worker.admin_url = None
        self.metrics.died(worker.index)
        self.metrics.running = len(self.serving)

    async def _end_all(self) -> None:
        for worker in self.workers:
            worker.signal(signal.SIGKILL)
            if worker.process is not None:
                await worker.process.wait()

    async def scrape(self, session: aiohttp.ClientSession, headers: Mapping[str, str]) -> None:
        """
        Ask every worker for its metrics; one that does not answer keeps what it said last.

        Args:
            session: To ask with.
            headers: The operator's token, if it needs one.
        """

        async def one(worker: Worker) -> None:
            text = await fetch(session, worker, "/metrics", headers)
            if text is not None and worker.admin_url is not None:
                self.metrics.scraped(worker.index, text.decode())

        await asyncio.gather(*(one(worker) for worker in self.serving))


async def fetch(session: aiohttp.ClientSession, worker: Worker, path: str, headers: Mapping[str, str]) -> bytes | None:
    """What a worker's admin port says on a path; None if it says nothing good."""
    try:
        async with session.get(f"{worker.admin_url}{path}", headers=headers) as answer:
            return await answer.read() if answer.status == 200 else None
    except (aiohttp.ClientError, TimeoutError):
        return None


@contextlib.contextmanager
def _held_port(listen: Listen) -> Iterator[int]:
    """Hold an address for the workers without listening on it; the port."""
    with refusals_told(listen, "listen"):
        # Without SO_REUSEPORT first: else two guards would quietly share a port between them.
        bound(listen).close()
        held = bound(listen, shared=True)
    with held:
        port: int = held.getsockname()[1]
        yield port
