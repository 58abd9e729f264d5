"""guard.backend.vllm.push.send: both sides in one process, over real sockets and shared memory."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from guard.backend.kv.effects import Send
from guard.backend.kv.ids import BlockId, Party
from guard.backend.kv.messages import Abort, Destination, Done, Drained, Hello, ToDecode
from guard.backend.vllm.push.givers import Holding
from guard.backend.vllm.push.memory import share
from guard.backend.vllm.push.receive import Receiving
from guard.backend.vllm.push.send import Sending
from guard.backend.vllm.push.shelf import Content
from guard.backend.vllm.push.wire import Channel, Gives, Register
from tests.out_of_files import out_of_files

P = Party("P", 0, 5)
LAYERS, BLOCKS = 2, 8


class Pair:
    """A prefill rank and a decode rank."""

    def __init__(self, folder: Path, keep: float = 60.0) -> None:
        self.source = [torch.rand(BLOCKS, 4) for _ in range(LAYERS)]
        memory = torch.zeros(LAYERS, BLOCKS, 4)
        path, size, layers = share({str(n): memory[n] for n in range(LAYERS)})
        self.cache = memory
        named = {str(n): source for n, source in enumerate(self.source)}
        self.sending = Sending(P, str(folder / "kv"), named, block_size=16, holding=Holding(), keep=keep)
        self.receiving = Receiving(Register("D", 0, 1, 9, path, size, 16, layers), {"P": str(folder / "kv")})
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


@pytest.mark.parametrize("asked_first", [True, False])
def test_content_is_given_once_and_another_choice_of_the_request_is_told_so(pair: Pair, asked_first: bool) -> None:
    """It then computes the rest of its prompt, or finds it in its own cache; it does not wait for its deadline."""
    content = Content("room", "r", (5, 6))
    if not asked_first:
        pair.sending.offer(content)
    pair.ask("room", 1, 1, 2)
    pair.ask("room", 2, 3, 4)
    if asked_first:
        pair.sending.offer(content)
    assert pair.until(lambda: Drained("room", 2, *P) in pair.heard)
    assert pair.until(lambda: Done("room", 1, *P) in pair.heard and pair.sent == {"r"})
    assert not pair.cache[0][[3, 4]].any()


def test_content_that_nobody_asks_for_is_let_go(tmp_path: Path) -> None:
    pair = Pair(tmp_path, keep=0.05)
    pair.sending.offer(Content("room", "r", (5,)))
    assert pair.until(lambda: pair.sent == {"r"})
    pair.ask("room", 1, 2)
    assert pair.until(lambda: Drained("room", 1, *P) in pair.heard)
    pair.close()


@pytest.mark.parametrize(
    ("shape", "block_size", "why"),
    [((BLOCKS, 5), 16, "a block of 0 is"), ((BLOCKS, 4), 8, "blocks of 16 tokens here, of 8 there")],
)
def test_memory_of_another_shape_is_not_written(
    pair: Pair, tmp_path: Path, shape: tuple[int, ...], block_size: int, why: str
) -> None:
    path, size, layers = share({"0": torch.zeros(shape)})
    other = Receiving(Register("E", 0, 1, 9, path, size, block_size, layers), {"P": str(tmp_path / "kv")})
    told = []
    assert pair.until(lambda: bool(told.extend(other.taken_gives()) or told))
    assert why in told[0].why
    assert told[0].layers == ()
    assert other.taken() == ([], [])
    other.close()


def test_ranks_that_connect_while_no_file_can_be_opened_or_no_thread_begun_are_served_later(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = {"0": torch.zeros(BLOCKS, 4)}
    path, size, layers = share(cache)
    register, peers = Register("E", 0, 1, 9, path, size, 16, layers), str(tmp_path / "kv.0")
    waiting = socket.socket(socket.AF_UNIX)
    with out_of_files():
        waiting.connect(peers)
        time.sleep(0.1)
        assert pair.sending.short.taken() > 0
    waiting.settimeout(10)
    channel = Channel(waiting)
    assert channel.send(register)
    assert isinstance(channel.receive(), Gives)
    channel.close()

    def none(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched, socket.socket(socket.AF_UNIX) as turned_away:
        patched.setattr(threading.Thread, "start", none)
        turned_away.connect(peers)
        turned_away.settimeout(10)
        assert turned_away.recv(1) == b""
        assert pair.sending.short.taken() > 0
    other = Receiving(register, {"P": str(tmp_path / "kv")})
    told: list[Gives] = []
    assert pair.until(lambda: bool(told.extend(other.taken_gives()) or told))
    other.close()


class Split:
    """Two prefill ranks, of which each owns a layer, and the ranks of a decode engine."""

    def __init__(self, folder: Path, decode: int) -> None:
        self.source = [torch.rand(BLOCKS, 4) for _ in range(LAYERS)]
        path, self.ranks = str(folder / "kv"), decode
        self.sending = [
            Sending(
                Party("P", rank, 5 + rank),
                path,
                {str(rank): self.source[rank]},
                block_size=16,
                holding=Holding(rank, 2, 1, frozenset({str(rank)})),
            )
            for rank in range(2)
        ]
        self.caches = [torch.zeros(LAYERS, BLOCKS, 4) for _ in range(decode)]
        self.receiving = []
        for rank, cache in enumerate(self.caches):
            file, size, layers = share({str(n): cache[n] for n in range(LAYERS)})
            self.receiving.append(Receiving(Register("D", rank, decode, 9, file, size, 16, layers), {"P": path}))
        self.parties = [Party("P", rank * decode + to, 5 + rank) for rank in range(2) for to in range(decode)]
        self.heard: list[ToDecode] = []
        self.sent: list[set[str]] = [set(), set()]
        assert self.until(lambda: {Hello(*party) for party in self.parties} <= set(self.heard))

    def until(self, reached: Callable[[], bool]) -> bool:
        deadline = time.monotonic() + 10
        while not reached() and time.monotonic() < deadline:
            for receiving in self.receiving:
                self.heard += receiving.taken()[0]
            for rank, sending in enumerate(self.sending):
                self.sent[rank] |= sending.taken()
            time.sleep(0.005)
        return reached()

    def tell(self, party: Party, message: Destination | Abort) -> None:
        self.receiving[party.rank % self.ranks].send([Send(party, message)])

    def close(self) -> None:
        for each in (*self.sending, *self.receiving):
            each.close()


@pytest.mark.parametrize("ranks", [1, 2])
def test_each_owner_writes_its_layers_into_every_decode_rank(tmp_path: Path, ranks: int) -> None:
    split = Split(tmp_path, ranks)
    for sending in split.sending:
        sending.offer(Content("room", "r", (5, 6, 7)))
    for party in split.parties[:-1]:
        split.tell(party, Destination("room", 1, (BlockId(2), BlockId(0)), 0, party.epoch))
    assert split.until(lambda: all(Done("room", 1, *party) in split.heard for party in split.parties[:-1]))
    last = split.parties[-1]
    assert Done("room", 1, *last) not in split.heard
    assert split.until(lambda: split.sent[0] == {"r"})
    assert split.sent[1] == set(), "the source stays until the last rank has asked"
    split.tell(last, Destination("room", 1, (BlockId(2), BlockId(0)), 0, last.epoch))
    assert split.until(lambda: Done("room", 1, *last) in split.heard and split.sent[1] == {"r"})
    for cache in split.caches:
        for layer in range(LAYERS):
            assert torch.equal(cache[layer][[2, 0]], split.source[layer][[6, 7]])
            assert not cache[layer][[1, 3, 4, 5, 6, 7]].any()
    split.close()


def test_each_owner_answers_an_abort_for_itself(tmp_path: Path) -> None:
    split = Split(tmp_path, 1)
    for party in split.parties:
        split.tell(party, Destination("room", 1, (BlockId(2),), 0, party.epoch))
    first, second = split.parties
    split.tell(first, Abort("room", 1, 0, first.epoch))
    assert split.until(lambda: Drained("room", 1, *first) in split.heard)
    assert Drained("room", 1, *second) not in split.heard
    split.sending[1].offer(Content("room", "r", (5,)))
    assert split.until(lambda: Done("room", 1, *second) in split.heard)
    assert not split.caches[0][0].any()
    assert split.caches[0][1][2].any(), "the other rank knew of no abort, and wrote"
    split.close()
