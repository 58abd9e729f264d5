"""
Prefill side, one rank: who wants which content, and the writes.

Two things meet in a room: a destination of a decode rank, and the content that this engine has computed. Then the card
writes, layer by layer; the state machine of `guard.backend.kv.sender` says before each layer whether it may, and what
to answer. One lock is around it and the hand-over to the card.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from guard.backend.kv.effects import Effect, Send, Start
from guard.backend.kv.ids import BlockId, Owner, Party
from guard.backend.kv.messages import Abort, Destination, Hello
from guard.backend.kv.rules import ALL, Rules
from guard.backend.kv.sender import Sender
from guard.backend.vllm.push.memory import attach, write
from guard.backend.vllm.push.wire import Channel, Register, listen

#: How long rooms that were given up are remembered. Unit: seconds.
_REMEMBERED_SECONDS = 600.0
_Key = tuple[str, int, int]


class Content(NamedTuple):
    """
    What a finished prefill has to give.

    Args:
        room: The name under which the decode side asks for it.
        request: The engine's id of the request.
        blocks: Full blocks of its prompt, in token order.
    """

    room: str
    request: str
    blocks: tuple[int, ...]


class Job(NamedTuple):
    """
    One room's writes.

    Args:
        owner: The room.
        key: The decode process.
        target: Its cache, a tensor for each layer.
        blocks: Its blocks.
        content: What is written.
        source: Our blocks, in the same order.
    """

    owner: Owner
    key: _Key
    target: Sequence[Any]
    blocks: tuple[BlockId, ...]
    content: Content
    source: tuple[int, ...]


class Peer:
    """
    One decode process.

    Args:
        register: What it said of its memory.
        sender: The rooms with it.
        target: Its cache.
    """

    def __init__(self, register: Register, sender: Sender, target: Sequence[Any]) -> None:
        self.register = register
        self.sender = sender
        self.target = target
        self.channel: Channel | None = None
        #: Rooms that are open and have no content yet.
        self.open: dict[Owner, tuple[BlockId, ...]] = {}


class Card:
    """
    Does the writes, one room after the other. Another transport has another card.

    Args:
        source: This rank's cache, a tensor for each layer.
        may: Asked before each layer; a yes makes the write outstanding.
        landed: Told after each.
        over: Told after the last one of a room, or when `may` said no.
    """

    def __init__(
        self,
        source: Sequence[Any],
        may: Callable[[Job, int], bool],
        landed: Callable[[Job, int], None],
        over: Callable[[Job], None],
    ) -> None:
        self._source = source
        self._may = may
        self._landed = landed
        self._over = over
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="guard-card", daemon=True)
        self._thread.start()

    def put(self, job: Job) -> None:
        """Queue a room."""
        self._jobs.put(job)

    def close(self) -> None:
        """Return when all that is queued is written."""
        self._jobs.put(None)
        self._thread.join()

    def perform(self, job: Job) -> None:
        """Write a room."""
        for layer, target in enumerate(job.target):
            if not self._may(job, layer):
                break
            write(target, job.blocks, self._source[layer], job.source)
            self._landed(job, layer)
        self._over(job)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            self.perform(job)


class Sending:
    """
    All that a prefill rank gives.

    Args:
        me: This process.
        path: Where decode ranks connect; the rank's number is added to it.
        source: This rank's cache, a tensor for each layer.
        block_size: Unit: tokens.
        keep: How long content waits for somebody to ask for it. Unit: seconds.
        rules: Clauses in force.
        card: Makes the card.
    """

    def __init__(
        self,
        me: Party,
        path: str,
        source: Sequence[Any],
        *,
        block_size: int,
        keep: float = 60.0,
        rules: Rules = ALL,
        card: type[Card] = Card,
    ) -> None:
        self._me = me
        self._rules = rules
        self._block_size = block_size
        self._layers = len(source)
        self._keep = keep
        self._lock = threading.RLock()
        self._peers: dict[_Key, Peer] = {}
        self._contents: dict[str, tuple[Content, float]] = {}
        #: Rooms that get nothing any more, with the time they were given up.
        self._dropped: dict[str, float] = {}
        self._sent: set[str] = set()
        self._card = card(source, self._may, self._landed, self._over)
        self._listener, self._path_lock = listen(f"{path}.{me.rank}")
        threading.Thread(target=self._accept, name="guard-accept", daemon=True).start()

    def offer(self, content: Content) -> None:
        """A prefill has finished; its blocks stay until `taken` names the request."""
        with self._lock:
            if content.room in self._dropped:
                self._sent.add(content.request)
                return
            self._contents[content.room] = (content, time.monotonic())
            for peer in tuple(self._peers.values()):
                self._match(peer, content.room)

    def give_up(self, room: str) -> None:
        """This engine will not compute the room's content."""
        with self._lock:
            self._drop(room)

    def taken(self) -> set[str]:
        """Requests whose blocks are read no more; each once."""
        with self._lock:
            old = time.monotonic() - self._keep
            for room in [room for room, (_, since) in self._contents.items() if since < old]:
                self._drop(room)
            limit = time.monotonic() - _REMEMBERED_SECONDS
            self._dropped = {room: since for room, since in self._dropped.items() if since > limit}
            sent, self._sent = self._sent, set()
            return sent

    def close(self) -> None:
        """End all connections, after the writes that are queued."""
        self._listener.close()
        self._card.close()
        with self._lock:
            for peer in self._peers.values():
                if peer.channel is not None:
                    peer.channel.close()

    # Connections

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), name="guard-serve", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        channel = Channel(connection)
        with contextlib.closing(channel):
            first = channel.receive()
            if not isinstance(first, Register) or not self._fits(first):
                return
            peer = self._peer(first)
            with self._lock:
                peer.channel = channel
                channel.send(Hello(*self._me))
            while (frame := channel.receive()) is not None:
                if isinstance(frame, Destination | Abort):
                    with self._lock:
                        self._perform(peer, peer.sender.handle(frame))
                        if isinstance(frame, Abort):
                            self._drop(frame.request)

    def _fits(self, register: Register) -> bool:
        return len(register.layers) == self._layers and register.block_size == self._block_size

    def _peer(self, register: Register) -> Peer:
        """The process's state; it outlives its connections."""
        key = (register.name, register.rank, register.epoch)
        with self._lock:
            if key not in self._peers:
                for other in [other for other in self._peers if other[:2] == key[:2] and other[2] < register.epoch]:
                    self._forget(self._peers.pop(other))
                sender = Sender(self._me, Party(*key), rules=self._rules)
                self._peers[key] = Peer(register, sender, attach(register))
            return self._peers[key]

    def _forget(self, peer: Peer) -> None:
        """A process before this one: what it had asked for is content for nobody."""
        for owner in tuple(peer.open):
            self._drop(owner.request)

    # Rooms; all under the lock

    def _perform(self, peer: Peer, effects: Sequence[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Send):
                if peer.channel is not None:
                    peer.channel.send(effect.message)
            elif isinstance(effect, Start):
                peer.open[effect.owner] = effect.blocks
                self._match(peer, effect.owner.request)
        for owner in [owner for owner in peer.open if (room := peer.sender.room(owner)) is None or room.dead]:
            del peer.open[owner]
            self._drop(owner.request)

    def _match(self, peer: Peer, room: str) -> None:
        """Begin to write if both halves of the room are here."""
        for owner, blocks in [each for each in peer.open.items() if each[0].request == room]:
            found = self._contents.pop(room, None)
            if found is None and room not in self._dropped:
                continue
            del peer.open[owner]
            if found is None or len(blocks) > len(found[0].blocks):
                if found is not None:
                    self._sent.add(found[0].request)
                self._perform(peer, peer.sender.give_up(owner))
                continue
            content = found[0]
            key = (peer.register.name, peer.register.rank, peer.register.epoch)
            # Both sides count blocks of the prompt from its end: what the decode side has already is at the start.
            self._card.put(Job(owner, key, peer.target, blocks, content, content.blocks[-len(blocks) :]))

    def _drop(self, room: str) -> None:
        """The room gets nothing any more."""
        self._dropped[room] = time.monotonic()
        found = self._contents.pop(room, None)
        if found is not None:
            self._sent.add(found[0].request)
        for peer in self._peers.values():
            for owner in [owner for owner in peer.open if owner.request == room]:
                del peer.open[owner]
                self._perform(peer, peer.sender.give_up(owner))

    # The card's questions

    def _may(self, job: Job, layer: int) -> bool:
        with self._lock:
            peer = self._peers.get(job.key)
            return peer is not None and peer.sender.post(job.owner, layer)

    def _landed(self, job: Job, layer: int) -> None:
        with self._lock:
            peer = self._peers.get(job.key)
            if peer is not None:
                self._perform(peer, peer.sender.landed(job.owner, layer, layer))

    def _over(self, job: Job) -> None:
        with self._lock:
            self._sent.add(job.content.request)
            self._dropped[job.content.room] = time.monotonic()
            peer = self._peers.get(job.key)
            if peer is not None:
                self._perform(peer, peer.sender.finish(job.owner))
