"""
The client of the benchmark: many streams at once, each read to its end and held against what was to be said.

Run by proxy.py as a process of its own; reads one JSON object from standard input (see Load) and prints one
(see `Client.figures`). The CPU of the proxy is read here, at the two edges of the time in which all streams run:
when the last has its first chunk, and when the first ends.
"""

from __future__ import annotations

import asyncio
import gc
import json
import re
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple, cast

import msgspec
import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.bench.proxy_script import MODEL, Shape, expected, shared_arrays, text_hash

CONTENT = re.compile(rb'"content":\s*"((?:[^"\\]|\\.)+)"')


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """
    One load on one target.

    Args:
        port: Where the target listens.
        shared: The file of proxy_script.shared_arrays.
        key: Bearer token.
        pids: Processes of the target.
        streams: At once.
        turns: Streams one after another in each place.
        chunks: In a stream.
        delay: Between two chunks; 0 for in step. Unit: microseconds.
        ramp: In which all streams are begun. Unit: seconds.
        timeout: For everything. Unit: seconds.
    """

    port: int
    shared: str
    key: str
    pids: list[int]
    streams: int = 1
    turns: int = 1
    chunks: int = 100
    delay: int = 20_000
    ramp: float = 0.0
    timeout: float = 60.0


class Edge(NamedTuple):
    """What was true at one moment. Units: ns, ns, chunks."""

    at: int
    cpu: int
    chunks: int


def cpu_time(pids: list[int]) -> int:
    """CPU time of processes with all their threads, by the kernel's clock of each process. Unit: ns."""
    total = 0
    for pid in pids:
        try:
            total += time.clock_gettime_ns((~pid << 3) | 2)  # CPUCLOCK_SCHED of a process: include/linux/posix-timers.h
        except OSError:
            continue
    return total


def memory(pids: list[int]) -> int:
    """Resident memory of processes, from /proc. Unit: bytes."""
    total = 0
    for pid in pids:
        try:
            total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096
        except OSError:
            continue
    return total


class Broken(Exception):
    """A stream that is not what the backend said."""


class Stream(asyncio.Protocol):
    """Reads one answer."""

    def __init__(self, client: Client, slot: int) -> None:
        self._client = client
        self._slot = slot
        self._base = slot * client.load.chunks
        self._head = b""
        self._frames = b""
        self._event = b""
        self._said: list[bytes] = []
        self._ends = 0
        self._finished = False
        self._streams = False
        self.over: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._begun = time.monotonic_ns()
        transport.write(self._client.request(self._slot))

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(f"the connection closed after {len(self._said)} chunks")

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        try:
            if not self._streams:
                data = self._read_head(data)
            body, last = self._unframe(data)
            if body:
                self._read(body, now)
            if last:
                self._check()
        except Broken as error:
            self._end(str(error))

    def _read_head(self, data: bytes) -> bytes:
        head, found, rest = (self._head + data).partition(b"\r\n\r\n")
        if not found:
            self._head = head
            return b""
        if not head.startswith(b"HTTP/1.1 200"):
            raise Broken(f"answered {head[:40]!r} {rest[:200]!r}")
        if b"chunked" not in head.lower():
            raise Broken("the answer is not chunked")
        self._streams = True
        return rest

    def _unframe(self, data: bytes) -> tuple[bytes, bool]:
        """Take HTTP's own chunks off; the bytes inside, and whether the last chunk was there."""
        if not self._streams:
            return b"", False
        data = self._frames + data if self._frames else data
        at, last, parts = 0, False, []
        while (line := data.find(b"\r\n", at)) >= 0:
            start = line + 2
            stop = start + int(data[at:line], 16)
            if len(data) < stop + 2:
                break
            parts.append(data[start:stop])
            at, last = stop + 2, start == stop
        self._frames = data[at:]
        return (parts[0] if len(parts) == 1 else b"".join(parts)), last

    def _read(self, body: bytes, now: int) -> None:
        body = self._event + body if self._event else body
        if not body.endswith(b"\n\n"):
            cut = body.rfind(b"\n\n") + 2
            body, self._event = (b"", body) if cut == 1 else (body[:cut], body[cut:])
        else:
            self._event = b""
        said = CONTENT.findall(body)
        if said:
            first = not self._said
            self._client.received(self._slot, self._base + len(self._said), len(said), now)
            self._said += said
            self._client.counts[self._slot] = len(self._said)
            if first:
                self._client.begun(now - self._begun)
        if b"data: [DONE]" in body:
            self._ends += body.count(b"data: [DONE]")
        if b'"stop"' in body:
            self._finished = True

    def _check(self) -> None:
        load = self._client.load
        if len(self._said) != load.chunks:
            raise Broken(f"{len(self._said)} chunks of {load.chunks}")
        if text_hash(json.loads(b'"%b"' % b"".join(self._said))) != expected(self._slot, load.chunks):
            raise Broken("the text is another")
        if self._ends != 1 or not self._finished or self._event:
            raise Broken(f"ended {self._ends} times, finish reason {self._finished}, {len(self._event)} bytes more")
        self._end("")

    def _end(self, problem: str) -> None:
        if not self.over.done():
            self._client.ended()
            self.over.set_result(problem)
            self._transport.close()


class Client:
    """All streams of one load."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self._sent_at, self.counts = shared_arrays(Path(load.shared))
        self._delays: list[int] = []
        self._firsts: list[int] = []
        self._chunks = 0
        self._full: Edge | None = None
        self._less: Edge | None = None
        self._memory = 0

    def request(self, slot: int) -> bytes:
        prompt = Shape(slot, self.load.chunks, self.load.delay).prompt()
        wish = {"model": MODEL, "stream": True, "stream_options": {"include_usage": True}, "max_tokens": 4096}
        body = json.dumps({**wish, "messages": [{"role": "user", "content": prompt}]}).encode()
        head = f"host: 127.0.0.1:{self.load.port}\r\nauthorization: Bearer {self.load.key}\r\n"
        line = f"POST /v1/chat/completions HTTP/1.1\r\n{head}content-type: application/json\r\n"
        return f"{line}content-length: {len(body)}\r\n\r\n".encode() + body

    def received(self, slot: int, place: int, many: int, now: int) -> None:
        """`many` chunks of a stream came in one read; `place` is where their send times stand."""
        self._chunks += many
        if self._less is None:
            self._delays += [now - self._sent_at[place + number] for number in range(many)]

    def begun(self, ttft: int) -> None:
        """A stream has its first chunk."""
        self._firsts.append(ttft)
        if len(self._firsts) == self.load.streams and self.load.turns == 1 and self._less is None:
            self._delays.clear()
            self._full = self._edge()
            self._memory = memory(self.load.pids)

    def ended(self) -> None:
        """A stream is over, well or not."""
        if self._less is None and self.load.turns == 1:
            self._less = self._edge()
            self._memory = max(self._memory, memory(self.load.pids))

    def _edge(self) -> Edge:
        return Edge(time.monotonic_ns(), cpu_time(self.load.pids), self._chunks)

    async def _place(self, slot: int) -> list[str]:
        await asyncio.sleep(slot * self.load.ramp / self.load.streams)
        problems = []
        loop = asyncio.get_running_loop()
        for _ in range(self.load.turns):
            _, stream = await loop.create_connection(lambda: Stream(self, slot), "127.0.0.1", self.load.port)
            problems.append(await stream.over)
        return problems

    async def run(self) -> dict[str, Any]:
        """The load from begin to end, as `figures` has it."""
        begin = self._edge()
        try:
            async with asyncio.timeout(self.load.timeout):
                places = await asyncio.gather(*(self._place(slot) for slot in range(self.load.streams)))
        except (TimeoutError, OSError) as error:
            return {"errors": 1, "problems": {f"{type(error).__name__} {error}": 1}}
        return self.figures(begin, self._edge(), Counter(p for problems in places for p in problems if p))

    def figures(self, begin: Edge, end: Edge, problems: Counter[str]) -> dict[str, Any]:
        """Units are in the names. `steady`: taken while all streams ran, else over the whole load."""
        steady = self._full is not None and self._less is not None and self._less.chunks > self._full.chunks
        if self._full is not None and self._less is not None and steady:
            begin, end = self._full, self._less
        chunks, wall = max(1, end.chunks - begin.chunks), (end.at - begin.at) / 1e9
        total = self.load.streams * self.load.turns
        return {
            "streams": total,
            "errors": sum(problems.values()),
            "problems": dict(problems.most_common(3)),
            "steady": steady,
            "chunks": chunks,
            "chunks_per_s": chunks / wall,
            "cpu_us_per_chunk": (end.cpu - begin.cpu) / 1e3 / chunks,
            "cpu_us_per_stream": (end.cpu - begin.cpu) / 1e3 / total,
            "cpu_share": (end.cpu - begin.cpu) / 1e9 / wall,
            "rss_mib": self._memory / 2**20,
            **_spread("ttft_ms", self._firsts),
            **_spread("latency_ms", self._delays),
        }


def _spread(name: str, values: list[int]) -> dict[str, float]:
    ordered = sorted(values)
    if not ordered:
        return {}
    return {f"{name}_p50": ordered[len(ordered) // 2] / 1e6, f"{name}_p99": ordered[len(ordered) * 99 // 100] / 1e6}


async def main() -> dict[str, Any]:
    return await Client(msgspec.json.decode(sys.stdin.buffer.read(), type=Load)).run()


if __name__ == "__main__":
    gc.disable()
    print(json.dumps(uvloop.run(main())))
