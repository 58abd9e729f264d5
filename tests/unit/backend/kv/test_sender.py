"""Rule 4 at the prefill side, told as transcripts."""

from __future__ import annotations

from guard.backend.kv.effects import Freed, Send, Start
from guard.backend.kv.ids import BlockId, Owner, Party
from guard.backend.kv.messages import Abort, Destination, Done, Drained, Hello, LayerDone
from guard.backend.kv.pool import Pool
from guard.backend.kv.sender import Sender
from guard.backend.kv.states import State

R = Owner("R", 7)
ME, D = Party("P", 1, 3), Party("D")
DRAINED, DONE = Send(D, Drained(*R, *ME)), Send(D, Done(*R, *ME))
ABORT, DESTINATION = Abort("R", 7, epoch=3), Destination("R", 7, (BlockId(4),), epoch=3)


def started() -> Sender:
    sender = Sender(ME, D)
    assert sender.handle(DESTINATION) == [Start(R, (BlockId(4),))]
    return sender


def test_a_transfer_from_end_to_end() -> None:
    sender = started()
    assert sender.ready(R, ())
    assert sender.post(R, 0)
    assert sender.post(R, 1)
    assert sender.finish(R) == []
    assert sender.landed(R, 0, layer=0) == [Send(D, LayerDone(*R, *ME, layer=0))]
    assert sender.landed(R, 1) == [DONE]
    assert sender.landed(R, 1) == []


def test_an_abort_before_the_start_is_answered_at_once_and_nothing_starts_after_it() -> None:
    sender = started()
    assert sender.handle(ABORT) == [DRAINED]
    assert not sender.post(R, 0)
    assert not sender.ready(R, ())


def test_an_abort_during_a_write_is_answered_when_the_write_is_complete() -> None:
    sender = started()
    sender.post(R, 0)
    assert sender.handle(ABORT) == []
    assert not sender.post(R, 1)
    assert sender.landed(R, 0, layer=0) == [DRAINED], "and no layer of an aborted room is told"


def test_an_abort_that_overtakes_its_destination_leaves_a_tombstone() -> None:
    sender = Sender(ME, D)
    assert sender.handle(ABORT) == [DRAINED]
    assert sender.handle(DESTINATION) == []
    assert not sender.post(R, 0)
    assert sender.stale == 1


def test_an_abort_repeated_is_answered_again() -> None:
    sender = started()
    assert sender.handle(ABORT) == sender.handle(ABORT) == [DRAINED]
    done = started()
    done.post(R, 0)
    done.finish(R)
    done.landed(R, 0)
    assert done.handle(ABORT) == [DRAINED]


def test_a_send_call_without_an_outcome_is_not_an_answer() -> None:
    sender = started()
    sender.post(R, 0)
    sender.handle(ABORT)
    assert sender.unknown(R, 0) == []
    assert sender.unknown(R, 9) == []
    assert sender.landed(R, 0) == [DRAINED]


def test_giving_up_is_told_when_nothing_is_outstanding() -> None:
    sender = started()
    sender.post(R, 0)
    assert sender.give_up(R) == []
    assert sender.landed(R, 0) == [DRAINED]
    assert sender.give_up(R) == sender.finish(R) == []


def test_the_source_is_pinned_from_the_queue_to_the_last_word() -> None:
    source = Pool(1)
    mine = Owner("prefill of R", 1)
    blocks = source.allocate(mine, 1)
    assert blocks is not None
    sender = Sender(ME, D, source)
    sender.handle(DESTINATION)
    assert sender.ready(R, blocks)
    sender.post(R, 0)
    sender.finish(R)
    source.release(mine)
    assert source.state(blocks[0]) is State.DRAINING
    assert sender.landed(R, 0) == [DONE, Freed(blocks)]


def test_tombstones_below_the_floor_are_forgotten_and_refused() -> None:
    sender = Sender(ME, D)
    sender.handle(ABORT)
    sender.handle(Destination("S", 9, (), floor=8, epoch=3))
    assert sender.room(R) is None
    assert sender.handle(DESTINATION) == []
    assert sender.room(R) is None
    assert sender.handle(ABORT) == [DRAINED]
    assert sender.room(R) is None


def test_a_room_is_not_forgotten_while_a_write_is_outstanding() -> None:
    sender = started()
    sender.post(R, 0)
    sender.handle(Abort("S", 9, floor=9, epoch=3))
    room = sender.room(R)
    assert room is not None
    assert room.outstanding == {0}


def test_a_destination_repeated_starts_nothing_twice() -> None:
    assert started().handle(DESTINATION) == []


def test_a_new_process_introduces_itself() -> None:
    assert Sender(ME, D).hello() == Send(D, Hello("P", 1, 3))


def test_a_message_for_the_process_before_is_refused_with_proof_that_it_is_gone() -> None:
    sender = Sender(ME, D)
    for message in (Destination("R", 7, (BlockId(4),), epoch=2), Abort("R", 7, epoch=2)):
        assert sender.handle(message) == [sender.hello()]
    assert sender.room(R) is None
    assert not sender.post(R, 0)
