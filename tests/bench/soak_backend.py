"""
One replica of the soak, in vLLM's shape with the plugin's field; what is wrong with it is told on standard input.

Run: `python -m tests.bench.soak_backend PORT EVENTS SEED`. A line of input is a mode: well, stall (nothing is sent),
reset (streams are broken off in their middle), garble (answers turn into recorded garbage), trickle (slow, and every
event in two parts). It appends one line to EVENTS when an attempt begins and one when it ends, each by one write, so
that nothing is lost when it is killed:

    TIME begin NUMBER REQUEST_ID        TIME of the monotonic clock, in seconds
    TIME end NUMBER HOW SILENCE         done, closed (by the other side), reset; seconds since the last byte was sent
    TIME late NUMBER                    the other side closed although all was sent, instead of using it again
    TIME wrong NUMBER                   it was asked to continue a text that it never said
    TIME lag - SECONDS                  this process was woken so much too late, or had so much to do
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import random
import re
import socket
import struct
import sys
import time
from pathlib import Path
from typing import cast

import uvloop

from guard.lab.cases import CaseChunk
from tests.bench.soak_script import CUT, DRAFTED, MARK, MODEL, Story, position, remaining, stories

LENGTH = re.compile(rb"content-length:\s*(\d+)", re.IGNORECASE)
REQUEST_ID = re.compile(rb"x-request-id:\s*(\S+)", re.IGNORECASE)
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
#: Chance that an answer turns bad on a replica that garbles, and that a chunk is the last on one that resets.
GARBLES, RESETS = 0.6, 0.03
#: How often a replica that stalls looks whether it is over. Unit: seconds.
LOOK = 0.1
#: How often a replica asks for being woken to see how late it is, and what it writes down. Unit: seconds.
WAKE, LATE = 0.05, 0.1
#: On a replica that trickles: how many times slower, and how long half an event waits for the rest. Unit: seconds.
SLOWER, HALF = 3.0, 0.2
#: A connection closed so soon after a whole answer was not simply idle; a padded one takes long to read. Unit: seconds.
SOON = 1.0
RST = struct.pack("ii", 1, 0)


def framed(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@functools.cache
def chunk(one: CaseChunk, padding: int) -> bytes:
    """One chunk, ready to be written."""
    drafted = one.drafted if one.accepted is not None else DRAFTED
    accepted = one.accepted if one.accepted is not None else max(one.tokens - 1, 0)
    choice = {"index": 0, "delta": {"content": one.text}, "token_ids": [7] * one.tokens, "finish_reason": None}
    body = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": MODEL, "choices": [choice]}
    if drafted > 0:
        body["metrics"] = {"speculative_decoding": {"per_step_accepted": [accepted], "per_step_drafted": [drafted]}}
    if padding:
        body["padding"] = "." * padding
    return framed(b"data: " + json.dumps(body).encode() + b"\n\n")


def closing() -> bytes:
    choice = {"index": 0, "delta": {}, "finish_reason": "stop"}
    body = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": MODEL, "choices": [choice]}
    return framed(b"data: " + json.dumps(body).encode() + b"\n\n") + framed(b"data: [DONE]\n\n") + b"0\r\n\r\n"


CLOSING = closing()


class Replica:
    """What all its connections share."""

    def __init__(self, events: Path, seed: int) -> None:
        self.mode = "well"
        self.running = 0
        self.dice = random.Random(seed)
        self._file = os.open(events, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._number = 0

    def began(self, request_id: str) -> str:
        self._number += 1
        self.running += 1
        number = f"{os.getpid()}-{self._number}"
        self.tell(f"begin {number} {request_id}")
        return number

    def tell(self, line: str) -> None:
        os.write(self._file, f"{time.monotonic():.4f} {line}\n".encode())

    def listen(self, line: bytes) -> None:
        if line:
            self.mode = line.decode().split()[-1]


class Connection(asyncio.Protocol):
    """One connection of the guard, any number of requests one after another."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._unread = b""
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.Handle | None = None
        self._number = ""
        self._last = ""
        self._sent_at = self._done_at = 0.0
        self._chunks: list[CaseChunk] = []
        self._at = self._place = 0
        self._pace = 0.0
        self._padding = 0
        self._headed = self._bad = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._number:
            self._over("closed")
        elif self._last and (self._padding or time.monotonic() - self._done_at < SOON):
            self._replica.tell(f"late {self._last}")

    def data_received(self, data: bytes) -> None:
        self._unread += data
        end = self._unread.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._unread[:end]
        found = LENGTH.search(head)
        size = end + 4 + (int(found[1]) if found else 0)
        if len(self._unread) >= size:
            body, self._unread = self._unread[end + 4 : size], self._unread[size:]
            self._answer(head, body)

    def _answer(self, head: bytes, body: bytes) -> None:
        mark = MARK.search(body)
        if mark is not None:
            named = REQUEST_ID.search(head)
            self._begin(mark, json.loads(body), named[1].decode() if named else "-")
            return
        kind, answer = b"application/json", b'{"status":"ok"}'
        if b" /metrics" in head:
            kind, answer = b"text/plain", b"vllm:num_requests_running %d\n" % self._replica.running
        line = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n" % (kind, len(answer))
        if self._replica.mode != "stall":
            self._transport.write(line + answer)

    def _begin(self, mark: re.Match[bytes], body: dict[str, list[dict[str, str]]], request_id: str) -> None:
        story = stories()[int(mark[1])]
        self._story, self._pace, self._padding = story, int(mark[2]) / 1000, int(mark[3])
        self._number, self._last = self._replica.began(request_id), ""
        last = body["messages"][-1]
        said = position(last["content"], story.text, story.bad_text) if last["role"] == "assistant" else 0
        if said is None:
            self._replica.tell(f"wrong {self._number}")
            said = len(story.text)
        self._chunks = remaining(story.answer, said)
        self._at, self._place, self._bad, self._headed = len(story.answer) - len(self._chunks), 0, False, False
        self._sent_at = time.monotonic()
        self._timer = self._loop.call_later(self._pace, self._tick)

    def _tick(self) -> None:
        mode, pace = self._replica.mode, self._pace
        if mode == "stall":
            self._timer = self._loop.call_later(LOOK, self._tick)
            return
        if mode == "reset" and self._headed and self._replica.dice.random() < RESETS:
            self._break_off()
            return
        if not self._headed:
            self._headed = True
            self._transport.write(HEAD)
        self._turn_bad(mode)
        if self._place == len(self._chunks):
            self._write(CLOSING)
            self._over("done")
            return
        data = chunk(self._chunks[self._place], self._padding)
        self._place += 1
        if mode == "trickle":
            half = len(data) // 2
            self._write(data[:half])
            self._timer = self._loop.call_later(HALF, self._rest, data[half:], pace * SLOWER)
            return
        self._write(data)
        self._timer = self._loop.call_later(pace, self._tick)

    def _turn_bad(self, mode: str) -> None:
        """A replica that garbles decides once for each attempt, where its answer gets to the turning point."""
        if self._bad or self._at + self._place < CUT:
            return
        self._bad = True
        if mode == "garble" and self._replica.dice.random() < GARBLES:
            self._chunks = self._chunks[: self._place] + list(self._story.garbage)

    def _rest(self, data: bytes, then: float) -> None:
        self._write(data)
        self._timer = self._loop.call_later(then, self._tick)

    def _write(self, data: bytes) -> None:
        self._sent_at = time.monotonic()
        self._transport.write(data)

    def _break_off(self) -> None:
        """Half of them with a reset, half as if the process had closed it."""
        self._over("reset")
        if self._replica.dice.random() < 0.5:
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST)
        self._transport.abort()

    def _over(self, how: str) -> None:
        now = time.monotonic()
        self._replica.running -= 1
        self._replica.tell(f"end {self._number} {how} {now - self._sent_at:.3f}")
        self._last, self._number, self._done_at = (self._number if how == "done" else ""), "", now
        if self._timer is not None:
            self._timer.cancel()

    _story: Story


def wake(replica: Replica, due: float) -> None:
    """Tell how late this is called, and again: a guard cannot be blamed for what a starved replica saw late."""
    loop = asyncio.get_running_loop()
    late = loop.time() - due
    if late > LATE:
        replica.tell(f"lag - {late:.3f}")
    loop.call_later(WAKE, wake, replica, loop.time() + WAKE)


async def main(port: int, events: Path, seed: int) -> None:
    replica = Replica(events, seed)
    stories()
    loop = asyncio.get_running_loop()
    wake(replica, loop.time())
    loop.add_reader(0, lambda: replica.listen(os.read(0, 256)))
    server = await loop.create_server(lambda: Connection(replica), "127.0.0.1", port, backlog=8192)
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])))
