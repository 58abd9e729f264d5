"""
Prefill side, one rank: who wants which content, and the writes.

Two things meet in a room: a destination of a decode rank, and the content that this engine has computed. Then the card
writes what this rank gives of it (`givers`), layer by layer; the state machine of `guard.backend.kv.sender` says before
each layer whether it may, and what to answer. One lock is around it and the hand-over to the card.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from guard.backend.kv.effects import Effect, Send, Start
from guard.backend.kv.ids import BlockId, Owner, Party
from guard.backend.kv.messages import Abort, Destination, Hello
from guard.backend.kv.rules import ALL, Rules
from guard.backend.kv.sender import Sender
from guard.backend.vllm.push.givers import Holding, askers, given, link_rank
from guard.backend.vllm.push.memory import attach, dtype_of, write
from guard.backend.vllm.push.shelf import Content, Shelf
from guard.backend.vllm.push.wire import Channel, Gives, Register, Shortages, connections, listen

_log = logging.getLogger("vllm.plugins.guard")
#: How long rooms that were given up are remembered. Unit: seconds.
_REMEMBERED_SECONDS = 600.0
_Key = tuple[str, int, int]


class Piece(NamedTuple):
    """
    One layer that is written.

    Args:
        layer: Its place in the peer's layers.
        target: The peer's cache of it.
        source: Ours.
    """

    layer: int
    target: Any
    source: Any


class Job(NamedTuple):
    """
    One room's writes.

    Args:
        owner: The room.
        key: The decode process.
        pieces: The layers.
        blocks: The peer's blocks.
        content: What is written.
        source: Our blocks, in the same order.
    """

    owner: Owner
    key: _Key
    pieces: Sequence[Piece]
    blocks: tuple[BlockId, ...]
    content: Content
    source: tuple[int, ...]


class Peer:
    """
    One decode process.

    Args:
        key: Its name, rank and epoch.
        sender: The rooms with it.
        gives: What it gets from us.
        pieces: The layers of that.
        askers: Ranks of its engine that get something from us.
    """

    def __init__(self, key: _Key, sender: Sender, gives: Gives, pieces: Sequence[Piece], askers: int) -> None:
        self.key = key
        self.sender = sender
        self.gives = gives
        self.pieces = pieces
        self.askers = askers
        self.channel: Channel | None = None
        #: Rooms that are open and have no content yet.
        self.open: dict[Owner, tuple[BlockId, ...]] = {}


class Card:
    """
    Does the writes, one room after the other. Another transport has another card.

    Args:
        may: Asked before each layer; a yes makes the write outstanding.
        landed: Told after each.
        over: Told after the last one of a room, or when `may` said no.
    """

    def __init__(
        self,
        may: Callable[[Job, int], bool],
        landed: Callable[[Job, int], None],
        over: Callable[[Job], None],
    ) -> None:
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
        for layer, target, source in job.pieces:
            if not self._may(job, layer):
                break
            write(target, job.blocks, source, job.source)
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
        source: This rank's cache, a tensor for each layer that it keeps, by name.
        block_size: Unit: tokens.
        holding: What this rank keeps.
        keep: How long content waits for somebody to ask for it. Unit: seconds.
        rules: Clauses in force.
        card: Makes the card.
    """

    def __init__(
        self,
        me: Party,
        path: str,
        source: Mapping[str, Any],
        *,
        block_size: int,
        holding: Holding,
        keep: float = 60.0,
        rules: Rules = ALL,
        card: type[Card] = Card,
    ) -> None:
        self._me = me
        self._source = source
        self._holding = holding
        self._rules = rules
        self._block_size = block_size
        self._keep = keep
        self._lock = threading.RLock()
        #: Connections that could not be taken.
        self.short = Shortages()
        self._peers: dict[_Key, Peer] = {}
        self._shelf = Shelf()
        self._card = card(self._may, self._landed, self._over)
        self._listener, self._path_lock = listen(f"{path}.{me.rank}")
        threading.Thread(target=self._accept, name="guard-accept", daemon=True).start()

    def offer(self, content: Content) -> None:
        """A prefill has finished; its blocks stay until `taken` names the request."""
        with self._lock:
            if self._shelf.put(content, time.monotonic()):
                for peer in tuple(self._peers.values()):
                    self._match(peer, content.room)

    def give_up(self, room: str) -> None:
        """This engine will not compute the room's content."""
        with self._lock:
            self._drop(room)

    def taken(self) -> set[str]:
        """Requests whose blocks are read no more; each once."""
        with self._lock:
            now = time.monotonic()
            for room in self._shelf.overdue(now - self._keep):
                self._drop(room)
            self._shelf.forget(now - _REMEMBERED_SECONDS)
            return self._shelf.taken()

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
        for connection in connections(self._listener, self.short):
            try:
                threading.Thread(target=self._serve, args=(connection,), name="guard-serve", daemon=True).start()
            except RuntimeError as error:  # none can be had now; the peer comes again
                self.short.add()
                _log.error("guard: a connection is turned away: %s", error)
                connection.close()

    def _serve(self, connection: socket.socket) -> None:
        channel = Channel(connection)
        with contextlib.closing(channel):
            first = channel.receive()
            if not isinstance(first, Register):
                return
            gives = self._gives(first)
            if not gives.layers:
                # A mistake ends the connection; a rank that has nothing to give keeps it, so that it is seen to live.
                while channel.send(gives) and not gives.why and channel.receive() is not None:
                    pass
                return
            peer = self._peer(first, gives)
            with self._lock:
                peer.channel = channel
                channel.send(gives)
                channel.send(Hello(gives.name, gives.rank, gives.epoch))
            while (frame := channel.receive()) is not None:
                if isinstance(frame, Destination | Abort):
                    with self._lock:
                        self._perform(peer, peer.sender.handle(frame))
                        if isinstance(frame, Abort):
                            self._drop(frame.request)

    def _gives(self, register: Register) -> Gives:
        """What this decode rank gets from us, or why that cannot be."""
        names, layers, why = [layer.name for layer in register.layers], tuple[int, ...](), ""
        try:
            layers = given(self._holding, list(self._source), names, register.rank, register.ranks)
        except ValueError as error:
            why = str(error)
        if register.block_size != self._block_size:
            why = f"blocks of {self._block_size} tokens here, of {register.block_size} there"
        for layer in (register.layers[each] for each in layers):
            ours = self._source[layer.name]
            here, there = (dtype_of(ours), tuple(ours.shape[1:])), (layer.dtype, layer.shape[1:])
            if here != there:
                why = f"a block of {layer.name} is {here} here, {there} there"
        number = link_rank(self._me.rank, register.rank, register.ranks)
        return Gives(self._me.name, number, self._me.epoch, self._holding.ranks, () if why else layers, len(names), why)

    def _peer(self, register: Register, gives: Gives) -> Peer:
        """The process's state; it outlives its connections."""
        key = (register.name, register.rank, register.epoch)
        with self._lock:
            if key not in self._peers:
                for other in [other for other in self._peers if other[:2] == key[:2] and other[2] < register.epoch]:
                    self._forget(self._peers.pop(other))
                names, targets = [layer.name for layer in register.layers], attach(register)
                sender = Sender(Party(gives.name, gives.rank, gives.epoch), Party(*key), rules=self._rules)
                pieces = [Piece(layer, targets[layer], self._source[names[layer]]) for layer in gives.layers]
                asking = askers(self._holding, list(self._source), names, register.ranks)
                self._peers[key] = Peer(key, sender, gives, pieces, asking)
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
            if self._shelf.is_closed(room):
                del peer.open[owner]
                self._perform(peer, peer.sender.give_up(owner))
                continue
            content = self._shelf.take(room, peer.askers)
            if content is None:
                continue
            if len(blocks) > len(content.blocks):
                self._shelf.over(room, time.monotonic())
                self._drop(room)
                continue
            del peer.open[owner]
            # Both sides count blocks of the prompt from its end: what the decode side has already is at the start.
            source = content.blocks[-len(blocks) :]
            self._card.put(Job(owner, peer.key, peer.pieces, blocks, content, source))

    def _drop(self, room: str) -> None:
        """The room gets nothing any more."""
        self._shelf.close(room, time.monotonic())
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
            self._shelf.over(job.content.room, time.monotonic())
            peer = self._peers.get(job.key)
            if peer is not None:
                self._perform(peer, peer.sender.finish(job.owner))
            if self._shelf.is_closed(job.content.room):
                # Other choices of the request (n > 1) have asked for the same content, which is given once.
                self._drop(job.content.room)
