"""
What goes over the socket between a decode rank and a prefill rank.

A frame is four bytes, its length as a big-endian number, and that many bytes of MessagePack: a message of
`guard.backend.kv.messages`, or one of two more: `Register`, the first one from the decode side, and `Gives`, the reply.
After it comes the prefill side's Hello, if it gives anything.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from guard.backend.kv.messages import Abort, Destination, Done, Drained, Hello, LayerDone, Message

_log = logging.getLogger("vllm.plugins.guard")
#: Longest frame. A destination of a million blocks fits. Unit: bytes.
LONGEST = 16 << 20
_LENGTH = struct.Struct(">I")
#: A peer that takes nothing for so long is cut off: whoever sends holds a lock. Unit: seconds.
_PATIENCE_SECONDS = 2


class Layer(msgspec.Struct, frozen=True):
    """
    One layer's cache inside the registered memory.

    Args:
        name: The model's name of the layer.
        dtype: Its name in torch, like float32.
        shape: Blocks first.
        stride: Unit: elements.
        offset: Unit: elements.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int


class Register(msgspec.Struct, frozen=True, tag="register"):
    """
    A decode rank's memory, open for writes as long as its process lives.

    Args:
        name: Name of the decode engine.
        rank: Which of its ranks.
        ranks: How many it has.
        epoch: Of its process.
        path: File that maps the memory.
        size: Unit: bytes.
        block_size: Unit: tokens.
        layers: In the model's order.
    """

    name: str
    rank: int
    ranks: int
    epoch: int
    path: str
    size: int
    block_size: int
    layers: tuple[Layer, ...]


class Gives(msgspec.Struct, frozen=True, tag="gives"):
    """
    What a prefill rank writes into the decode rank that has registered.

    Args:
        name: Name of the prefill engine.
        rank: Of this pair of ranks, as in all that follows: prefill rank x decode ranks + decode rank.
        epoch: Of its process.
        ranks: Prefill ranks; each is to be asked.
        layers: Places in the register's layers. None: it has nothing for this decode rank.
        of: How many layers were registered.
        why: Why nothing can be given, where that is a mistake.
    """

    name: str
    rank: int
    epoch: int
    ranks: int
    layers: tuple[int, ...]
    of: int
    why: str = ""


Frame = Register | Gives | Message

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Register | Gives | Destination | Abort | LayerDone | Done | Drained | Hello)


class Shortages:
    """Connections that were not had for want of file descriptors, memory or threads; threads add, one takes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0

    def add(self) -> None:
        """One more."""
        with self._lock:
            self._count += 1

    def taken(self) -> int:
        """Those since the last call."""
        with self._lock:
            count, self._count = self._count, 0
        return count


class Channel:
    """
    A connected stream socket.

    Args:
        connection: The socket; the channel closes it.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", _PATIENCE_SECONDS, 0))
        self._lock = threading.Lock()
        self._buffer = bytearray()

    def send(self, frame: Frame) -> bool:
        """
        Send a frame.

        Returns:
            Whether the connection still stood. A frame that was sent may be lost all the same.
        """
        data = _encoder.encode(frame)
        try:
            with self._lock:
                self._socket.sendall(_LENGTH.pack(len(data)) + data)
        except OSError:
            # Half a frame may have gone.
            self.close()
            return False
        return True

    def receive(self) -> Frame | None:
        """
        Wait for the next frame.

        Returns:
            None when the connection has ended, or when the other side does not speak this protocol.
        """
        head = self._exactly(_LENGTH.size)
        if head is None:
            return None
        (length,) = _LENGTH.unpack(head)
        body = self._exactly(length) if length <= LONGEST else None
        if body is None:
            return None
        try:
            frame: Frame = _decoder.decode(body)
        except msgspec.DecodeError:
            return None
        return frame

    def peer_process(self) -> tuple[int, int]:
        """
        Process id and start time (clock ticks since the machine's start) of the process at the other end.

        Raises:
            OSError: As of `started_at`.
        """
        size = struct.calcsize("3i")
        pid = struct.unpack("3i", self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))[0]
        return pid, started_at(pid) or 0

    def close(self) -> None:
        """End the connection; a waiting `receive` returns."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _exactly(self, count: int) -> bytes | None:
        while len(self._buffer) < count:
            try:
                data = self._socket.recv(65536)
            except OSError:
                return None
            if not data:
                return None
            self._buffer += data
        found = bytes(self._buffer[:count])
        del self._buffer[:count]
        return found


def started_at(pid: int) -> int | None:
    """
    When this process started (clock ticks since the machine's start); None if it is no more, or a zombie.

    Raises:
        OSError: It cannot be known now, as where this process has no file descriptor left. That is no proof of an end.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def connect(path: str, short: Shortages | None = None) -> Channel | None:
    """A channel to the rank that listens there, or None."""
    try:
        connection = socket.socket(socket.AF_UNIX)
    except OSError:
        if short is not None:
            short.add()
        return None  # no descriptor is left: as where nobody listens, the caller comes again
    try:
        connection.connect(path)
    except OSError:
        connection.close()
        return None
    return Channel(connection)


def listen(path: str) -> tuple[socket.socket, int]:
    """
    Listen at a path that only one living process can have.

    Returns:
        The listening socket, and the descriptor whose lock proves that the process before this one is gone.

    Raises:
        RuntimeError: Another process that lives has it. A second one of the same name would pass for its successor.
    """
    import fcntl  # noqa: PLC0415 - not on every system that reads this module

    lock = os.open(f"{path}.lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise RuntimeError(f"guard: a living process listens at {path} already; choose another path") from error
    Path(path).unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    return listener, lock


def connections(listener: socket.socket, short: Shortages, pause: float = 1.0) -> Iterator[socket.socket]:
    """
    Those who connect, until the listener is closed.

    A process that has no file descriptor or memory left for one keeps listening: those who wait are taken when it has.

    Args:
        listener: From `listen`.
        short: Gets each try that failed.
        pause: Until the next try where one cannot be taken. Unit: seconds.
    """
    refused = ""
    while True:
        try:
            connection, _ = listener.accept()
        except OSError as error:
            if listener.fileno() < 0:
                return
            short.add()
            if not refused:
                refused = str(error)
                _log.error("guard: connections wait, none can be taken: %s", refused)
            time.sleep(pause)
            continue
        if refused:
            refused = ""
            _log.warning("guard: connections are taken again")
        yield connection
