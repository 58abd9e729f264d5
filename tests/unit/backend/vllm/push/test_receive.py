"""guard.backend.vllm.push.receive: waits for layers, links over real sockets, proof from the process table."""

from __future__ import annotations

import errno
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from guard.backend.kv.effects import Send
from guard.backend.kv.ids import Owner, Party
from guard.backend.kv.messages import Abort, Done, Drained, Hello, LayerDone
from guard.backend.vllm.push import receive, wire
from guard.backend.vllm.push.receive import LayerGate, Receiving
from guard.backend.vllm.push.wire import Channel, Gives, Register, listen
from tests.out_of_files import out_of_files

R, P = Owner("r", 1), Party("P", 0, 5)
REGISTER = Register("D", 0, 1, 9, "/dev/zero", 0, 16, ())
CHILD = """
import sys
from guard.backend.kv.messages import Hello
from guard.backend.vllm.push.wire import Channel, listen
listener, _ = listen(sys.argv[1])
channel = Channel(listener.accept()[0])
channel.receive()
channel.send(Hello("P", 0, 5))
sys.stdin.read()
"""


def until(reached: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while not reached() and time.monotonic() < deadline:
        time.sleep(0.005)
    return reached()


def test_a_layer_is_waited_for_and_a_ghost_opens_nothing() -> None:
    gate = LayerGate()
    gate.watch(R, P)
    gate.heard(LayerDone("r", 2, *P, layer=0))
    gate.heard(Hello(*P))
    assert not gate.wait(R, 0, 0.01)
    gate.heard(LayerDone(*R, *P, layer=0))
    assert gate.wait(R, 0, 10)
    assert not gate.wait(R, 1, 0.01)
    threading.Timer(0.02, lambda: gate.heard(Done(*R, *P))).start()
    assert gate.wait(R, 1, 10)
    assert gate.waits == 3
    assert gate.waited_seconds > 0


def test_a_lost_transfer_ends_the_wait_without_its_layer() -> None:
    for loss in (lambda gate: gate.heard(Drained(*R, *P)), lambda gate: gate.lose(P)):
        gate = LayerGate()
        gate.watch(R, P)
        threading.Timer(0.02, loss, (gate,)).start()
        started = time.monotonic()
        assert not gate.wait(R, 0, 10)
        assert time.monotonic() - started < 5
        gate.forget(R)
        gate.lose(Party("P", 0, 6))
        gate.heard(LayerDone(*R, *P, layer=0))
        assert not gate.wait(R, 0, 0)


def test_a_pass_waits_for_the_layers_of_every_rank() -> None:
    q = Party("P", 1, 7)
    gate = LayerGate()
    gate.watch(R, P)
    gate.watch(R, q)
    gate.heard(Done(*R, *P))
    assert not gate.wait(R, 1, 0.01), "the other rank's layers have not come"
    gate.heard(Done(*R, *P))
    gate.heard(Done(*R, "P", 1, 6))
    assert not gate.wait(R, 1, 0.01), "nor after a repeated notice, or one of an earlier process"
    gate.heard(LayerDone(*R, *q, layer=1))
    assert gate.wait(R, 1, 10)
    gate.heard(Done(*R, *q))
    assert gate.wait(R, 0, 10)


@pytest.mark.parametrize(
    "loss", [lambda gate, rank: gate.heard(Drained(*R, *rank)), lambda gate, rank: gate.lose(rank)]
)
def test_one_ranks_loss_is_the_transfers(loss: Callable[[LayerGate, Party], None]) -> None:
    q = Party("P", 1, 7)
    gate = LayerGate()
    gate.watch(R, P)
    gate.watch(R, q)
    gate.heard(LayerDone(*R, *P, layer=0))
    loss(gate, q)
    started = time.monotonic()
    assert gate.wait(R, 0, 10)
    assert not gate.wait(R, 1, 10)
    assert time.monotonic() - started < 5


def test_all_ranks_of_an_engine_are_asked_and_one_that_gives_nothing_says_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = str(tmp_path / "kv")
    listeners = [listen(f"{path}.{rank}")[0] for rank in range(3)]
    receiving = Receiving(REGISTER, {"P": path})
    told = [Gives("P", 0, 5, 3, (0,), 2), Gives("P", 1, 6, 3, (), 2), Gives("P", 2, 7, 3, (), 2, "other blocks")]
    channels = []
    for listener, gives in zip(listeners, told, strict=True):
        channel = Channel(listener.accept()[0])
        assert channel.receive() == REGISTER
        channel.send(gives)
        channels.append(channel)
    channels[0].send(Hello(*P))
    seen: list[object] = []
    assert until(lambda: bool(seen.extend(receiving.taken()[0]) or seen))
    gives: list[Gives] = []
    assert until(lambda: bool(gives.extend(receiving.taken_gives()) or len(gives) >= 3))
    assert sorted(gives, key=lambda each: each.rank) == told
    assert until(lambda: "other blocks" in caplog.text)
    receiving.send([Send(P, Abort(*R)), Send(Party("P", 1, 6), Abort("q", 1))])
    assert channels[0].receive() == Abort(*R)
    for closing in (*channels, *listeners):
        closing.close()
    receiving.close()


def test_messages_come_and_go_over_a_link_that_finds_its_peer_again(tmp_path: Path) -> None:
    path = str(tmp_path / "kv")
    listener, _ = listen(f"{path}.0")
    receiving = Receiving(REGISTER, {"P": path})
    first = Channel(listener.accept()[0])
    assert first.receive() == REGISTER
    first.send(Hello(*P))
    first.send(LayerDone(*R, *P, layer=0))
    first.send(Done(*R, *P))
    seen: list[object] = []
    assert until(lambda: bool(seen.extend(receiving.taken()[0]) or len(seen) >= 2))
    assert seen == [Hello(*P), Done(*R, *P)]
    receiving.send([Send(P, Abort(*R)), Send(Party("Q"), Abort(*R))])
    assert first.receive() == Abort(*R)
    first.close()
    # The watcher's own look finds the path alive, and goes.
    frames = []
    while not frames or frames[-1] is None:
        again = Channel(listener.accept()[0])
        frames.append(again.receive())
    assert frames[-1] == REGISTER
    assert receiving.taken()[1] == [], "a closed connection proves nothing"
    listener.close()
    again.close()
    receiving.close()


def test_links_that_want_a_descriptor_are_counted(tmp_path: Path) -> None:
    with out_of_files():
        receiving = Receiving(REGISTER, {"P": str(tmp_path / "kv")})
        short: list[int] = []
        assert until(lambda: any(short) or bool(short.append(receiving.short.taken())))
    receiving.close()


def test_a_killed_peer_is_proved_gone(tmp_path: Path) -> None:
    path = str(tmp_path / "kv")
    child = subprocess.Popen([sys.executable, "-c", CHILD, f"{path}.0"], stdin=subprocess.PIPE)
    receiving = Receiving(REGISTER, {"P": path})
    seen: list[object] = []
    assert until(lambda: bool(seen.extend(receiving.taken()[0]) or seen))
    child.kill()
    child.wait()
    gone: list[Party] = []
    assert until(lambda: bool(gone.extend(receiving.taken()[1]) or gone))
    assert gone == [P]
    receiving.close()


def test_what_cannot_be_known_of_a_peer_is_no_proof_that_it_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where this process has no file descriptor left; a peer taken for gone could write into blocks given to others."""
    path = str(tmp_path / "kv")
    listener, _ = listen(f"{path}.0")

    def unknown(pid: int) -> int | None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(wire, "started_at", unknown)
    receiving = Receiving(REGISTER, {"P": path})
    turned_away = Channel(listener.accept()[0])
    assert turned_away.receive() == REGISTER
    assert turned_away.receive() is None, "nothing begins with a process whose end could not be proved"
    assert receiving.short.taken() >= 1, "counted before it is turned away"
    monkeypatch.undo()
    channel = Channel(listener.accept()[0])
    assert channel.receive() == REGISTER
    channel.send(Hello(*P))
    seen: list[object] = []
    assert until(lambda: bool(seen.extend(receiving.taken()[0]) or seen))
    monkeypatch.setattr(receive, "started_at", unknown)
    channel.close()
    time.sleep(0.3)
    assert receiving.taken()[1] == []
    monkeypatch.undo()
    listener.close()
    turned_away.close()
    receiving.close()


def test_a_peer_that_turns_a_rank_away_is_not_asked_again_at_once(tmp_path: Path) -> None:
    path = str(tmp_path / "kv")
    listener, _ = listen(f"{path}.0")
    receiving = Receiving(REGISTER, {"P": path})
    started = time.monotonic()
    for _ in range(4):
        channel = Channel(listener.accept()[0])
        assert channel.receive() == REGISTER
        channel.close()
    assert time.monotonic() - started >= 0.5
    listener.close()
    receiving.close()
