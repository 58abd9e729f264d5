"""
A backend that streams recorded answers at a high rate, in vLLM's shape, with the plugin's field when asked for it.

Run: `python tests/bench/proxy_backend.py PORT SHARED_FILE`. The bytes of every chunk are made at the start: at
run time a chunk costs one write. See proxy_script.py for what a request says.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import json
import re
import sys
import time
from pathlib import Path
from typing import cast

import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.bench.proxy_script import DRAFTED, MARK, MODEL, Piece, Shape, script, shared_arrays, stories

LENGTH = re.compile(rb"content-length:\s*(\d+)", re.IGNORECASE)
HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"x-request-id: 0\r\ntransfer-encoding: chunked\r\n\r\n"
)
#: What routers ask before they send anything here.
ANSWERS = {
    b"/v1/models": {"object": "list", "data": [{"id": MODEL, "object": "model", "created": 1, "owned_by": "vllm"}]},
    b"/version": {"version": "0.32.0"},
    b"/server_info": {"served_model_name": MODEL, "tp_size": 1, "dp_size": 1},
    b"/get_server_info": {"served_model_name": MODEL, "tp_size": 1, "dp_size": 1},
}
#: How often streams in step with their client look whether it has the last chunk. Unit: seconds.
LOOK = 0.001


def framed(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(choices: list[dict[str, object]], **more: object) -> bytes:
    fields = {"id": "chatcmpl-9d5fd1c3a0b64e0f", "object": "chat.completion.chunk", "created": 1764000000}
    data = json.dumps({**fields, "model": MODEL, "choices": choices, **more}, separators=(",", ":"), ensure_ascii=False)
    return framed(b"data: " + data.encode() + b"\n\n")


def choice(delta: dict[str, str], finish: str | None = None, tokens: list[int] | None = None) -> dict[str, object]:
    made: dict[str, object] = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return made if tokens is None else {**made, "token_ids": tokens}


def chunk(piece: Piece, *, watched: bool) -> bytes:
    if not watched:
        return event([choice({"content": piece.text})])
    steps = {"per_step_accepted": [piece.accepted], "per_step_drafted": [DRAFTED]}
    tokens = [1000 + number for number in range(piece.tokens)]
    return event([choice({"content": piece.text}, tokens=tokens)], metrics={"speculative_decoding": steps})


@functools.cache
def chunks(first: int, watched: bool) -> list[bytes]:
    """Every chunk of a script, ready to be written."""
    return [chunk(piece, watched=watched) for piece in script(first)]


OPENING = event([choice({"role": "assistant", "content": ""})])
OPENING_WATCHED = event([choice({"role": "assistant", "content": ""})], prompt_token_ids=list(range(100, 140)))
USAGE = {"prompt_tokens": 40, "total_tokens": 140, "completion_tokens": 100}
ENDING = event([choice({}, finish="stop")]) + event([], usage=USAGE) + framed(b"data: [DONE]\n\n") + b"0\r\n\r\n"


class InStep:
    """Streams that send a chunk when the client has the one before: never two of one stream in one read."""

    def __init__(self, received: memoryview) -> None:
        self._received = received
        self._streams: list[Connection] = []

    def add(self, stream: Connection) -> None:
        self._received[stream.shape.slot] = 0
        self._streams.append(stream)
        if len(self._streams) == 1:
            self._look()

    def _look(self) -> None:
        received = self._received
        for stream in self._streams:
            if received[stream.shape.slot] == stream.sent:
                stream.send()
        self._streams = [stream for stream in self._streams if stream.open]
        if self._streams:
            asyncio.get_running_loop().call_later(LOOK, self._look)


class Connection(asyncio.Protocol):
    """One connection of a proxy or a client, any number of requests one after another."""

    def __init__(self, sent_at: memoryview, in_step: InStep) -> None:
        self._sent_at = sent_at
        self._in_step = in_step
        self._unread = b""
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.Handle | None = None
        self._chunks: list[bytes] = []
        self.shape = Shape(0, 0, 0)
        self.sent = 0
        #: Whether a stream is being sent.
        self.open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.open = False
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._unread += data
        while True:
            end = self._unread.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self._unread[:end]
            found = LENGTH.search(head)
            size = end + 4 + (int(found[1]) if found else 0)
            if b"chunked" in head.lower():
                last = self._unread.find(b"0\r\n\r\n", end + 2)
                if last < 0:
                    return
                size = last + 5
            if len(self._unread) < size:
                return
            body, self._unread = self._unread[end + 4 : size], self._unread[size:]
            self._answer(head, body)

    def _answer(self, head: bytes, body: bytes) -> None:
        words = head.split(b"\r\n", 1)[0].split(b" ")
        if len(words) != 3 or words[2] not in (b"HTTP/1.1", b"HTTP/1.0"):
            self._transport.close()
            return
        mark = MARK.search(body)
        if mark is None:
            answer = json.dumps(ANSWERS.get(words[1].split(b"?")[0], {"status": "ok"})).encode()
            length = b"content-length: %d\r\n\r\n" % len(answer)
            self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n" + length + answer)
            return
        watched = b"guard_acceptance" in body
        self.shape = Shape(*map(int, mark.groups()))
        self._chunks = chunks(self.shape.slot % len(stories()), watched)
        self.sent, self.open = 0, True
        self._transport.write(HEAD + (OPENING_WATCHED if watched else OPENING))
        if self.shape.delay:
            self._due = self._loop.time()
            self._tick()
        else:
            self._in_step.add(self)

    def _tick(self) -> None:
        self.send()
        if self.open:
            self._due += self.shape.delay / 1e6
            self._timer = self._loop.call_at(self._due, self._tick)

    def send(self) -> None:
        """The next chunk, or the end."""
        shape, number = self.shape, self.sent
        if number == shape.chunks:
            self.open = False
            self._transport.write(ENDING)
            return
        self.sent = number + 1
        self._sent_at[shape.slot * shape.chunks + number] = time.monotonic_ns()
        self._transport.write(self._chunks[number])


async def main(port: int, shared: Path) -> None:
    sent_at, received = shared_arrays(shared)
    in_step = InStep(received)
    for first in range(len(stories())):
        chunks(first, True), chunks(first, False)
    gc.collect()
    gc.freeze()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(sent_at, in_step), "127.0.0.1", port, backlog=8192)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), Path(sys.argv[2])))
