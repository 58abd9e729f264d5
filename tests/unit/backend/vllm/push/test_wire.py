"""guard.backend.vllm.push.wire over real sockets."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from guard.backend.kv.ids import BlockId
from guard.backend.kv.messages import Destination, Hello
from guard.backend.vllm.push.wire import LONGEST, Channel, Gives, Layer, Register, connect, listen, started_at

REGISTER = Register("D", 0, 1, 9, "/proc/1/fd/3", 64, 16, (Layer("a", "float32", (2, 4), (4, 1), 0),))
GIVES = Gives("P", 3, 5, 2, (0,), 1)
DESTINATION = Destination("r", 1, (BlockId(1), BlockId(2)), 1, 5)


def pair() -> tuple[Channel, socket.socket]:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    return Channel(ours), theirs


def test_frames_come_as_they_were_sent() -> None:
    ours, theirs = pair()
    other = Channel(theirs)
    for frame in (REGISTER, GIVES, DESTINATION, Hello("P", 0, 5)):
        assert ours.send(frame)
        assert other.receive() == frame
    ours.close()
    assert other.receive() is None
    assert not other.send(DESTINATION)


def test_bytes_that_come_one_by_one_are_one_frame() -> None:
    ours, theirs = pair()
    reader, writer = Channel(theirs), ours
    sent, seen = socket.socketpair(socket.AF_UNIX)
    Channel(sent).send(DESTINATION)
    data = seen.recv(4096)

    def trickle() -> None:
        for byte in data:
            writer._socket.sendall(bytes([byte]))

    thread = threading.Thread(target=trickle)
    thread.start()
    assert reader.receive() == DESTINATION
    thread.join()


@pytest.mark.parametrize(
    "data",
    [
        (LONGEST + 1).to_bytes(4, "big"),
        b"\x00\x00\x00\x01\xc1",
        b"\x00\x00\x00\x08\x81\xa4type\xa1x",
    ],
    ids=["too long", "no msgpack", "unknown type"],
)
def test_what_is_not_ours_ends_the_connection(data: bytes) -> None:
    ours, theirs = pair()
    theirs.sendall(data)
    assert ours.receive() is None


def test_a_peer_that_takes_nothing_is_cut_off() -> None:
    ours, theirs = pair()
    big = Destination("r", 1, tuple(BlockId(number) for number in range(50_000)), 1, 5)
    started = time.monotonic()
    while ours.send(big):
        assert time.monotonic() - started < 20
    assert ours.receive() is None
    theirs.close()


def test_a_path_belongs_to_one_living_process(tmp_path: Path) -> None:
    path = str(tmp_path / "kv")
    assert connect(path) is None
    listener, lock = listen(path)
    with pytest.raises(RuntimeError, match="a living process listens"):
        listen(path)
    channel = connect(path)
    assert channel is not None
    assert channel.peer_process() == (os.getpid(), started_at(os.getpid()))
    channel.close()
    listener.close()
    os.close(lock)
    again, lock = listen(path)
    again.close()
    os.close(lock)


def test_a_process_that_has_ended_has_no_start() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert started_at(child.pid) is not None
    child.communicate(b"\n")
    assert started_at(child.pid) is None
