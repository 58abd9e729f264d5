"""
The prefill side of the abort handshake: writes of ours into a peer's blocks. One `Sender` for each rank.

A state machine without input or output. The code that posts writes asks `post` first and reports `landed`; both, and
`handle`, run under one lock (or on one thread), so that nothing comes between "may I?" and "it is outstanding". A room
is one (request, generation) of the decode side.

- T2: the abort finds a write inside a blocking send; the answer "received" frees the block under it. The answer waits
  until every write issued is complete (`drained_means_complete`).
- T3: the answer is "nothing started", then the write starts. The room is marked dead first; `post` then says no
  (`dead_first`). The same mark, as a tombstone, stops a Destination that arrives after its own abort.
- T4: the send call returns a timeout with the batch still running, and is taken for the end of the write. `unknown`
  changes nothing: only completion, or a flushed queue pair, ends a write (`unknown_is_no_answer`).
- T10: both sides abort. An abort is answered whatever became of the room (`always_answered`).
- T11: the source is freed while a send reads it. The send lease is opened in `ready` and settles with the last write.
- T13: we give up by ourselves. The decode side hears Drained, not Done (`honest_completion`).

Tombstones do not grow for ever: every message of the decode side carries the floor below which all is settled there.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from guard.backend.kv.effects import Effect, Freed, Send, Start
from guard.backend.kv.ids import BlockId, LeaseId, Owner, Party
from guard.backend.kv.lease import Kind
from guard.backend.kv.messages import Abort, Done, Drained, Hello, LayerDone, ToPrefill
from guard.backend.kv.pool import Pool
from guard.backend.kv.rules import ALL, Rules


class Room(msgspec.Struct, frozen=True):
    """
    One transfer as this rank sees it.

    Args:
        blocks: Destination blocks; none in a tombstone.
        outstanding: Writes posted and not known to be complete.
        unknown: Those of them whose send call ended without an outcome.
        finished: No more writes will be posted: all have been.
        dead: No more writes will be posted: aborted.
        ours: We gave up by ourselves.
        answered: The last word has been said.
        lease: Send lease over the source blocks.
    """

    blocks: tuple[BlockId, ...] = ()
    outstanding: frozenset[int] = frozenset()
    unknown: frozenset[int] = frozenset()
    finished: bool = False
    dead: bool = False
    ours: bool = False
    answered: bool = False
    lease: LeaseId | None = None


class Sender:
    """
    All rooms of one prefill rank with one decode engine.

    Args:
        me: This process.
        peer: The decode engine, as addressee of answers.
        source: Pool of the blocks that sends read, if this rank keeps one.
        rules: Clauses in force.
    """

    def __init__(self, me: Party, peer: Party, source: Pool | None = None, rules: Rules = ALL) -> None:
        self._me = me
        self._peer = peer
        self._source = source
        self._rules = rules
        self._rooms: dict[Owner, Room] = {}
        self._floor = 0
        #: Messages ignored: repeated, or of a settled generation.
        self.stale = 0

    def room(self, owner: Owner) -> Room | None:
        """The room, until the decode side's floor has passed it."""
        return self._rooms.get(owner)

    def hello(self) -> Send:
        """First message of a process: proof to the peer that the one before it is gone."""
        return Send(self._peer, Hello(*self._me))

    def handle(self, message: ToPrefill) -> list[Effect]:
        """
        A message from the decode side.

        Returns:
            Start for a new room; the answer to an abort, or nothing if it has to wait; Hello if the message is for the
            process before this one, whose leases the peer may then settle.
        """
        if message.epoch != self._me.epoch:
            self.stale += 1
            return [self.hello()]
        self._raise_floor(message.floor)
        owner = message.owner
        if isinstance(message, Abort):
            return self._abort(owner)
        if owner in self._rooms or owner.generation < self._floor:
            self.stale += 1
            return []
        self._rooms[owner] = Room(blocks=message.blocks)
        return [Start(owner, message.blocks)]

    def ready(self, owner: Owner, source: Sequence[BlockId]) -> bool:
        """
        The content exists and these source blocks are about to be queued for sending: pin them.

        Returns:
            Whether the room still wants it.
        """
        room = self._rooms.get(owner)
        if room is None or room.dead or room.finished:
            return False
        if self._source is not None and room.lease is None:
            lease = self._source.open(Kind.SEND, owner, source, (self._me,))
            self._rooms[owner] = msgspec.structs.replace(room, lease=lease)
        return True

    def post(self, owner: Owner, write: int) -> bool:
        """
        May this write be handed to the transport? If yes, it is outstanding from now on.

        Args:
            owner: The room.
            write: Number of the write in the room; the layer, where one write carries a layer.
        """
        room = self._rooms.get(owner)
        if room is None or room.dead or room.finished:
            return False
        self._rooms[owner] = msgspec.structs.replace(room, outstanding=room.outstanding | {write})
        return True

    def landed(self, owner: Owner, write: int, layer: int | None = None) -> list[Effect]:
        """
        The write is complete in the peer's memory, or can never reach it (queue pair flushed).

        Args:
            owner: The room.
            write: Its number.
            layer: Layer that is complete with it, to tell the peer.
        """
        room = self._rooms.get(owner)
        if room is None or write not in room.outstanding:
            self.stale += 1
            return []
        me, effects = self._me, list[Effect]()
        if layer is not None and not room.dead:
            effects.append(Send(self._peer, LayerDone(*owner, me.name, me.rank, me.epoch, layer=layer)))
        return effects + self._retire(owner, room, write)

    def unknown(self, owner: Owner, write: int) -> list[Effect]:
        """The send call ended without saying whether the write is complete (a timeout): it may still land."""
        room = self._rooms.get(owner)
        if room is None or write not in room.outstanding:
            return []
        if not self._rules.unknown_is_no_answer:
            return self._retire(owner, room, write)
        self._rooms[owner] = msgspec.structs.replace(room, unknown=room.unknown | {write})
        return []

    def finish(self, owner: Owner) -> list[Effect]:
        """Every write of the room has been posted."""
        room = self._rooms.get(owner)
        if room is None or room.dead or room.finished:
            return []
        self._rooms[owner] = msgspec.structs.replace(room, finished=True)
        return self._last_word(owner)

    def give_up(self, owner: Owner) -> list[Effect]:
        """This side cannot or will not finish the room."""
        room = self._rooms.get(owner)
        if room is None or room.dead or room.finished:
            return []
        self._rooms[owner] = msgspec.structs.replace(room, dead=True, ours=True)
        return self._last_word(owner)

    def _abort(self, owner: Owner) -> list[Effect]:
        room = self._rooms.get(owner)
        if room is None or room.answered:
            return self._answer_again(owner, room)
        started = bool(room.outstanding)
        if self._rules.dead_first or started:
            room = msgspec.structs.replace(room, dead=True, ours=False)
            self._rooms[owner] = room
        if room.dead and (not started or self._rules.drained_means_complete):
            return self._last_word(owner)
        # Only with a clause switched off: "drained" is said here with a write outstanding, or one that may start.
        return [self._drained(owner)]

    def _answer_again(self, owner: Owner, room: Room | None) -> list[Effect]:
        """An abort of a room never heard of, or already answered: the answer may have been lost."""
        if room is None and owner.generation >= self._floor and self._rules.dead_first:
            self._rooms[owner] = Room(dead=True, answered=True)
        return [self._drained(owner)] if self._rules.always_answered else []

    def _retire(self, owner: Owner, room: Room, write: int) -> list[Effect]:
        self._rooms[owner] = msgspec.structs.replace(
            room, outstanding=room.outstanding - {write}, unknown=room.unknown - {write}
        )
        return self._last_word(owner)

    def _last_word(self, owner: Owner) -> list[Effect]:
        """Done or Drained, once nothing is outstanding and nothing can start; the source is let go with it."""
        room = self._rooms[owner]
        if room.outstanding or not (room.finished or room.dead) or room.answered:
            return []
        self._rooms[owner] = msgspec.structs.replace(room, answered=True)
        dishonest = room.ours and not self._rules.honest_completion
        complete = (room.finished and not room.dead) or dishonest
        me, effects = self._me, list[Effect]()
        if complete:
            effects.append(Send(self._peer, Done(*owner, me.name, me.rank, me.epoch)))
        elif not room.ours or self._rules.always_answered:
            effects.append(self._drained(owner))
        if self._source is not None and room.lease is not None:
            freed = self._source.settle(room.lease, self._me)
            effects += [Freed(freed)] if freed else []
        return effects

    def _drained(self, owner: Owner) -> Send:
        me = self._me
        return Send(self._peer, Drained(*owner, me.name, me.rank, me.epoch))

    def _raise_floor(self, floor: int) -> None:
        if floor <= self._floor:
            return
        self._floor = floor
        for owner, room in tuple(self._rooms.items()):
            if owner.generation < floor and not room.outstanding:
                del self._rooms[owner]
