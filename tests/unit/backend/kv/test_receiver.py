"""Rules 3, 4 and 5 at the decode side, told as transcripts."""

from __future__ import annotations

from guard.backend.kv.effects import Effect, Freed, LayerReady, Lost, Quarantined, Received, Send
from guard.backend.kv.ids import BlockId, Owner, Party
from guard.backend.kv.messages import Abort, Destination, Done, Drained, Hello, LayerDone
from guard.backend.kv.pool import Pool
from guard.backend.kv.receiver import Phase, Receiver
from guard.backend.kv.states import State

R = Owner("R", 7)
P0, P1 = Party("P", 0), Party("P", 1)


def receiving(*parties: Party) -> tuple[Pool, Receiver, list[Effect]]:
    pool = Pool(1)
    blocks = pool.allocate(R, 1)
    assert blocks is not None
    receiver = Receiver(pool)
    return pool, receiver, receiver.begin(R, blocks, parties or (P0,))


def test_every_rank_is_told_the_destination() -> None:
    _, _, effects = receiving(P0, P1)
    assert effects == [Send(party, Destination("R", 7, (BlockId(0),), floor=7)) for party in (P0, P1)]


def test_the_content_is_complete_when_every_rank_says_done_and_this_is_told_once() -> None:
    _, receiver, _ = receiving(P0, P1)
    assert receiver.handle(Done(*R, *P0)) == []
    assert receiver.handle(Done(*R, *P0)) == []
    assert receiver.handle(Done(*R, *P1)) == [Received(R)]
    assert receiver.handle(Done(*R, *P1)) == []
    assert receiver.stale == 2


def test_an_aborted_block_is_free_when_every_rank_has_answered() -> None:
    pool, receiver, _ = receiving(P0, P1)
    assert receiver.abort(R) == [Send(party, Abort("R", 7, floor=7)) for party in (P0, P1)]
    pool.release(R)
    assert receiver.handle(Drained(*R, *P0)) == []
    assert receiver.handle(Done(*R, *P1)) == [Freed((BlockId(0),))]
    assert receiver.transfer(R) is None


def test_an_answer_of_another_generation_is_counted_and_ignored() -> None:
    pool, receiver, _ = receiving()
    receiver.abort(R)
    pool.release(R)
    assert receiver.handle(Drained("R", 6, *P0)) == []
    assert receiver.handle(Drained(*R, "P", 0, 1)) == [], "another process is another party"
    assert receiver.stale == 2
    assert pool.state(BlockId(0)) is State.DRAINING


def test_an_abort_after_the_last_answer_waits_for_nothing() -> None:
    pool, receiver, _ = receiving()
    receiver.handle(Done(*R, *P0))
    assert receiver.abort(R) == []
    assert pool.release(R) == (BlockId(0),)


def test_a_producer_that_gives_up_is_a_loss_and_the_other_ranks_are_aborted() -> None:
    pool, receiver, _ = receiving(P0, P1)
    effects = receiver.handle(Drained(*R, *P0))
    assert effects == [Lost(R, "the producer gave up"), Send(P1, Abort("R", 7, floor=7))]
    pool.release(R)
    assert receiver.handle(Done(*R, *P1)) == [Freed((BlockId(0),))], "no Received after a loss"


def test_a_deadline_quarantines_and_the_answer_frees() -> None:
    pool, receiver, _ = receiving()
    lost, abort, quarantined = receiver.timeout(R)
    assert lost == Lost(R, "timeout")
    assert abort == Send(P0, Abort("R", 7, floor=7))
    assert quarantined == Quarantined(R, (BlockId(0),), (P0,))
    pool.release(R)
    assert pool.state(BlockId(0)) is State.QUARANTINED
    assert receiver.timeout(R)[-1] == quarantined, "told again, lost once"
    assert receiver.handle(Drained(*R, *P0)) == [Freed((BlockId(0),))]
    assert receiver.timeout(R) == []


def test_proof_that_the_peer_is_gone_ends_a_quarantine() -> None:
    pool, receiver, _ = receiving()
    receiver.timeout(R)
    pool.release(R)
    assert receiver.gone(Party("P", 0, epoch=3)) == [], "proof about another process"
    assert receiver.gone(P0) == [Freed((BlockId(0),))]


def test_a_hello_of_a_later_epoch_is_that_proof_and_one_of_the_same_is_not() -> None:
    pool, receiver, _ = receiving()
    receiver.abort(R)
    pool.release(R)
    assert receiver.handle(Hello("P", 0, 0)) == []
    assert receiver.handle(Hello("P", 1, 9)) == []
    assert receiver.handle(Hello("P", 0, 1)) == [Freed((BlockId(0),))]


def test_an_abort_can_be_sent_again_and_only_to_those_that_have_not_answered() -> None:
    _, receiver, _ = receiving(P0, P1)
    assert receiver.resend(R) == []
    receiver.abort(R)
    receiver.handle(Drained(*R, *P1))
    assert receiver.resend(R) == [Send(P0, Abort("R", 7, floor=7))]


def test_a_layer_is_ready_when_it_is_on_every_rank_and_only_once() -> None:
    _, receiver, _ = receiving(P0, P1)
    assert receiver.handle(LayerDone(*R, *P0, layer=0)) == []
    assert receiver.handle(LayerDone(*R, *P0, layer=0)) == []
    assert receiver.handle(LayerDone(*R, *P1, layer=0)) == [LayerReady(R, 0)]
    assert receiver.handle(LayerDone(*R, *P1, layer=0)) == []
    receiver.abort(R)
    assert receiver.handle(LayerDone(*R, *P0, layer=1)) == []


def test_the_floor_is_the_oldest_generation_with_a_write_that_may_come() -> None:
    _, receiver, _ = receiving()
    assert receiver.floor(9) == 7
    transfer = receiver.transfer(R)
    assert transfer is not None
    assert transfer.phase is Phase.RECEIVING
    receiver.handle(Done(*R, *P0))
    assert receiver.floor(9) == 9


def test_what_is_asked_of_an_unknown_transfer_changes_nothing() -> None:
    _, receiver, _ = receiving()
    stranger = Owner("X", 1)
    assert receiver.abort(stranger) == receiver.timeout(stranger) == receiver.resend(stranger) == []
