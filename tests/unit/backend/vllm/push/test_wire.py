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
from guard.backend.vllm.push.wire import (
    LONGEST,
    Channel,
    Gives,
    Layer,
    Register,
    Shortages,
    connect,
    connections,
    listen,
    started_at,
)
from tests.out_of_files import out_of_files

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


def test_without_a_descriptor_left_connections_wait_and_are_taken_when_there_is_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    listener, lock = listen(str(tmp_path / "kv"))
    taken: list[socket.socket] = []
    short = Shortages()
    accepting = threading.Thread(target=lambda: taken.extend(connections(listener, short, 0.02)), daemon=True)
    waiting = connect(str(tmp_path / "kv"))
    with out_of_files():
        accepting.start()
        time.sleep(0.3)
        assert accepting.is_alive()
        assert [record.levelname for record in caplog.records] == ["ERROR"], "told once, not at every try"
        assert short.taken() > 1, "and counted at every one"
    other = connect(str(tmp_path / "kv"))
    for channel in (waiting, other):
        assert channel is not None
        channel.close()
    deadline = time.monotonic() + 10
    while "are taken again" not in caplog.text and time.monotonic() < deadline:
        time.sleep(0.005)
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
    short.taken()
    listener.close()
    last = connect(str(tmp_path / "kv"))  # what waits in `accept` sees the end only after one more
    if last is not None:
        last.close()
    accepting.join(10)
    assert not accepting.is_alive()
    assert len(taken) >= 2
    assert short.taken() == 0, "the end of the listener is none"
    for connection in taken:
        connection.close()
    os.close(lock)


def test_shortages_of_many_threads_are_all_counted_and_each_taken_once() -> None:
    short = Shortages()
    threads = [threading.Thread(target=lambda: [short.add() for _ in range(1000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    found = 0
    for thread in threads:
        found += short.taken()
        thread.join()
    assert found + short.taken() == 4000
    assert short.taken() == 0


def test_without_a_descriptor_left_nobody_is_there_and_nobody_is_gone(tmp_path: Path) -> None:
    """A peer that lives must not be proved gone: it may still write."""
    listener, lock = listen(str(tmp_path / "kv"))
    channel = connect(str(tmp_path / "kv"))
    assert channel is not None
    short = Shortages()
    with out_of_files():
        assert connect(str(tmp_path / "kv"), short) is None
        with pytest.raises(OSError, match="Too many open files"):
            started_at(os.getpid())
        with pytest.raises(OSError, match="Too many open files"):
            channel.peer_process()
    assert short.taken() == 1
    channel.close()
    listener.close()
    assert connect(str(tmp_path / "kv"), short) is None
    assert short.taken() == 0, "nobody listens: nothing was wanting here"
    os.close(lock)
