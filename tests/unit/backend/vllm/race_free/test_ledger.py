"""guard.backend.vllm.race_free.ledger: an engine's own references follow the leases."""

from __future__ import annotations

import pytest

from guard.backend.kv.ids import BlockId, Party
from guard.backend.kv.messages import Abort, Destination, Done, Drained, Hello, LayerDone
from guard.backend.kv.rules import without
from guard.backend.vllm.race_free.ledger import Ledger
from tests.unit.backend.vllm.references import Store

P0, P1 = Party("P", 0, 5), Party("P", 1, 5)
BLOCKS = (BlockId(3), BlockId(4))


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def ledger(store: Store) -> Ledger:
    made = Ledger(store, 8, epoch=7, timeout=10, resend=1)
    made.handle(Hello(*P0), 0)
    made.receive("r", "room", BLOCKS, (P0, P1), 0)
    return made


def sent(ledger: Ledger) -> list[type]:
    found = [type(send.message) for send in ledger.outbox]
    ledger.outbox.clear()
    return found


def done(ledger: Ledger, party: Party, kind: type[Done | Drained] = Done) -> Done | Drained:
    (owner,) = {lease.owner for lease in ledger.cache.pool.leases()}
    return kind(*owner, *party)


def test_blocks_of_a_receive_are_held_until_every_rank_is_through(ledger: Ledger, store: Store) -> None:
    assert sent(ledger) == [Destination, Destination]
    assert store.held == {3, 4}
    answer = done(ledger, P0)
    ledger.handle(answer, 1)
    ledger.handle(answer, 1)
    assert store.held == {3, 4}
    assert not ledger.received
    ledger.handle(done(ledger, P1), 2)
    assert ledger.received == {"r"}
    assert store.held == set()
    assert ledger.unsettled() == 0
    assert ledger.stats()["stale_notices"] == 1
    assert ledger.handshakes == []


def test_an_aborted_request_keeps_its_blocks_until_the_last_answer(ledger: Ledger, store: Store) -> None:
    sent(ledger)
    ledger.close("r", 1)
    assert sent(ledger) == [Abort, Abort]
    assert ledger.stats()["blocks_draining"] == 2
    ledger.tick(2.5)
    assert sent(ledger) == [Abort, Abort]
    first, second = done(ledger, P0, Drained), done(ledger, P1, Drained)
    ledger.handle(first, 3)
    assert store.held == {3, 4}
    ledger.handle(second, 4)
    assert store.held == set()
    assert not ledger.received
    assert ledger.handshakes == [3]


def test_a_deadline_quarantines_and_only_proof_ends_it(ledger: Ledger, store: Store) -> None:
    ledger.tick(10)
    assert ledger.lost == {"r": "timeout"}
    assert [alert.waiting for alert in ledger.alerts] == [(P0, P1)]
    assert ledger.stats()["blocks_quarantined"] == 2
    ledger.tick(1000)
    assert store.held == {3, 4}
    ledger.gone(P0, 1001)
    ledger.handle(Hello("P", 1, 6), 1002)
    assert store.held == set()
    assert ledger.peers == {("P", 1): Party("P", 1, 6)}
    ledger.cache.check_integrity()


def test_a_loss_is_told_once_and_the_request_is_asked_for_no_more(ledger: Ledger, store: Store) -> None:
    sent(ledger)
    ledger.handle(done(ledger, P0, Drained), 1)
    assert ledger.lost == {"r": "the producer gave up"}
    assert set(sent(ledger)) == {Abort}
    ledger.close("r", 2)
    assert store.held == {3, 4}
    ledger.handle(done(ledger, P1), 3)
    assert store.held == set()
    assert not ledger.received


def test_a_second_attempt_has_a_generation_of_its_own(ledger: Ledger, store: Store) -> None:
    old = done(ledger, P0)
    ledger.receive("r", "room", (BlockId(5),), (P0,), 1)
    ledger.handle(old, 2)
    assert store.held == {3, 4, 5}
    assert not ledger.received


def test_single_layers_cost_no_look_at_all_transfers(ledger: Ledger) -> None:
    (owner,) = {lease.owner for lease in ledger.cache.pool.leases()}
    ledger.handle(LayerDone(*owner, *P0, layer=0), 1)
    assert ledger.unsettled() == 1


def test_a_connector_without_a_handshake_settles_by_its_own_word(store: Store) -> None:
    ledger = Ledger(store, 8, epoch=7)
    ledger.load("r", BLOCKS, 0)
    ledger.close("r", 1)
    ledger.tick(1e9)
    assert store.held == {3, 4}
    assert ledger.loaded("r", 2)
    assert store.held == set()
    assert not ledger.loaded("r", 3)
    assert ledger.stats()["stale_notices"] == 1


def test_a_send_pins_shared_blocks_once_each(store: Store) -> None:
    ledger = Ledger(store, 8, epoch=7)
    ledger.pin("r", BLOCKS)
    ledger.pin("r", BLOCKS)
    ledger.pin("s", (BlockId(4), BlockId(5)))
    assert store.references == {3: 1, 4: 1, 5: 1}
    assert ledger.unpin("r")
    assert not ledger.unpin("r")
    assert store.held == {4, 5}
    assert ledger.unpin("s")
    assert store.held == set()
    assert ledger.unsettled() == 0


def test_without_leases_the_engine_gets_the_blocks_at_once(store: Store) -> None:
    ledger = Ledger(store, 8, epoch=7, rules=without("leases"))
    ledger.receive("r", "room", BLOCKS, (P0,), 0)
    ledger.close("r", 1)
    assert store.held == set()
