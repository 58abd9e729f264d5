"""guard.backend.vllm.push.send: both sides in one process, over real sockets and shared memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from guard.backend.kv.effects import Send
from guard.backend.kv.ids import BlockId, Party
from guard.backend.kv.messages import Abort, Destination, Done, Drained, Hello, ToDecode
from guard.backend.vllm.push.memory import share
from guard.backend.vllm.push.receive import Receiving
from guard.backend.vllm.push.send import Content, Sending
from guard.backend.vllm.push.wire import Register

P = Party("P", 0, 5)
LAYERS, BLOCKS = 2, 8


class Pair:
    """A prefill rank and a decode rank."""

    def __init__(self, folder: Path, keep: float = 60.0) -> None:
        self.source = [torch.rand(BLOCKS, 4) for _ in range(LAYERS)]
        memory = torch.zeros(LAYERS, BLOCKS, 4)
        path, size, layers = share({str(n): memory[n] for n in range(LAYERS)})
        self.cache = memory
        self.sending = Sending(P, str(folder / "kv"), self.source, block_size=16, keep=keep)
        self.receiving = Receiving(Register("D", 0, 9, path, size, 16, layers), {"P": str(folder / "kv")})
        self.heard: list[ToDecode] = []
        self.sent: set[str] = set()
        assert self.until(lambda: Hello(*P) in self.heard)

    def until(self, reached: Callable[[], bool]) -> bool:
        deadline = time.monotonic() + 10
        while not reached() and time.monotonic() < deadline:
            self.heard += self.receiving.taken()[0]
            self.sent |= self.sending.taken()
            time.sleep(0.005)
        return reached()

    def ask(self, room: str, generation: int, *blocks: int) -> None:
        message = Destination(room, generation, tuple(BlockId(block) for block in blocks), 0, P.epoch)
        self.receiving.send([Send(P, message)])

    def abort(self, room: str, generation: int) -> None:
        self.receiving.send([Send(P, Abort(room, generation, 0, P.epoch))])

    def close(self) -> None:
        self.sending.close()
        self.receiving.close()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    made = Pair(tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize("asked_first", [True, False])
def test_content_and_destination_meet_in_either_order(pair: Pair, asked_first: bool) -> None:
    content = Content("room", "r", (5, 6, 7))
    if asked_first:
        pair.ask("room", 1, 2, 0)
        pair.sending.offer(content)
    else:
        pair.sending.offer(content)
        pair.ask("room", 1, 2, 0)
    assert pair.until(lambda: Done("room", 1, *P) in pair.heard)
    assert pair.until(lambda: pair.sent == {"r"})
    for layer in range(LAYERS):
        assert torch.equal(pair.cache[layer][[2, 0]], pair.source[layer][[6, 7]]), "blocks are counted from the end"
        assert not pair.cache[layer][[1, 3, 4, 5, 6, 7]].any()


def test_an_aborted_room_writes_nothing_whenever_its_content_comes(pair: Pair) -> None:
    pair.ask("room", 1, 2)
    pair.abort("room", 1)
    assert pair.until(lambda: Drained("room", 1, *P) in pair.heard)
    pair.sending.offer(Content("room", "r", (5,)))
    assert pair.until(lambda: pair.sent == {"r"})
    assert not pair.cache.any()


def test_an_abort_before_its_destination_is_answered_and_remembered(pair: Pair) -> None:
    pair.sending.offer(Content("room", "r", (5,)))
    pair.abort("room", 1)
    assert pair.until(lambda: Drained("room", 1, *P) in pair.heard)
    pair.ask("room", 1, 2)
    pair.abort("room", 1)
    assert pair.until(lambda: pair.heard.count(Drained("room", 1, *P)) == 2)
    assert pair.until(lambda: pair.sent == {"r"})
    assert not pair.cache.any()


@pytest.mark.parametrize("asked_first", [True, False])
def test_a_prefill_that_gives_up_says_so(pair: Pair, asked_first: bool) -> None:
    if asked_first:
        pair.ask("room", 1, 2)
    pair.sending.give_up("room")
    if not asked_first:
        pair.ask("room", 1, 2)
    assert pair.until(lambda: Drained("room", 1, *P) in pair.heard)


def test_more_blocks_than_there_are_is_a_loss(pair: Pair) -> None:
    pair.ask("room", 1, 1, 2, 3)
    pair.sending.offer(Content("room", "r", (5, 6)))
    assert pair.until(lambda: Drained("room", 1, *P) in pair.heard)
    assert pair.until(lambda: pair.sent == {"r"})


def test_content_that_nobody_asks_for_is_let_go(tmp_path: Path) -> None:
    pair = Pair(tmp_path, keep=0.05)
    pair.sending.offer(Content("room", "r", (5,)))
    assert pair.until(lambda: pair.sent == {"r"})
    pair.ask("room", 1, 2)
    assert pair.until(lambda: Drained("room", 1, *P) in pair.heard)
    pair.close()


def test_memory_of_another_shape_is_not_written(pair: Pair, tmp_path: Path) -> None:
    path, size, layers = share({"0": torch.zeros(BLOCKS, 4)})
    other = Receiving(Register("E", 0, 9, path, size, 16, layers), {"P": str(tmp_path / "kv")})
    time.sleep(0.1)
    assert other.taken() == ([], [])
    other.close()
