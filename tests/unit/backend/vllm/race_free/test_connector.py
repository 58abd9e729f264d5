"""guard.backend.vllm.race_free.connector around connectors that follow vLLM's interface and little else."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from guard.backend.kv.effects import Send
from guard.backend.kv.ids import Owner, Party
from guard.backend.kv.messages import Abort, Destination, Done, Drained, Hello
from guard.backend.vllm.race_free.connector import Notices, RaceFree, StepReport, wrap

P = Party("P", 0, 5)


class Block:
    """As vLLM's KVCacheBlock."""

    def __init__(self, number: int) -> None:
        self.block_id = number
        self.ref_cnt = 0
        self.is_null = number == 0


class BlockPool:
    """The part of vLLM's that counts references."""

    def __init__(self, count: int) -> None:
        self.num_gpu_blocks = count
        self.blocks = [Block(number) for number in range(count)]

    def touch(self, blocks: list[Block]) -> None:
        for block in blocks:
            block.ref_cnt += 1

    def free_blocks(self, blocks: list[Block]) -> None:
        for block in blocks:
            block.ref_cnt -= 1
            assert block.ref_cnt >= 0

    def held(self) -> set[int]:
        return {block.block_id for block in self.blocks if block.ref_cnt}


class Plain:
    """A connector that loads in the background and sends when a request has ended."""

    def __init__(self, vllm_config: Any, role: Any, kv_cache_config: Any = None) -> None:
        self._vllm_config = vllm_config
        self._kv_cache_config = kv_cache_config
        self.sends_later = False
        self.is_async = True

    def bind_gpu_block_pool(self, gpu_block_pool: Any) -> None: ...

    def get_num_new_matched_tokens(self, request: Any, num_computed_tokens: int) -> tuple[int | None, bool]:
        return 64 - num_computed_tokens, self.is_async

    def update_state_after_alloc(self, request: Any, blocks: Any, num_external_tokens: int) -> None: ...

    def build_connector_meta(self, scheduler_output: Any) -> Any:
        return SimpleNamespace()

    def update_connector_output(self, connector_output: Any) -> None: ...

    def request_finished(self, request: Any, block_ids: list[int]) -> tuple[bool, Any]:
        return self.sends_later, None

    def request_finished_all_groups(self, request: Any, block_ids: tuple[list[int], ...]) -> tuple[bool, Any]:
        return self.sends_later, None

    def get_kv_connector_stats(self) -> Any:
        return None

    def has_pending_push_work(self) -> bool:
        return False

    def build_connector_worker_meta(self) -> Any:
        return None


class Carrier(Plain):
    """One that carries the handshake."""

    guard_carrier = True

    def guard_room(self, request: Any) -> str:
        return f"room of {request.request_id}"

    def guard_writers(self, request: Any) -> tuple[Party, ...]:
        return (P,)

    def guard_attach(self, meta: Any, sends: list[Send], failed: frozenset[str]) -> None:
        meta.sends, meta.failed = sends, failed


class Engine:
    """A scheduler with one request after the other."""

    def __init__(self, kind: Any, **settings: Any) -> None:
        transfer = SimpleNamespace(kv_connector_extra_config=settings)
        parallel = SimpleNamespace(decode_context_parallel_size=1, prefill_context_parallel_size=1)
        config = SimpleNamespace(kv_transfer_config=transfer, parallel_config=parallel)
        group = SimpleNamespace(kv_cache_spec=SimpleNamespace(block_size=16))
        self.connector = wrap(kind)(config, None, SimpleNamespace(kv_cache_groups=[group]))
        self.pool = BlockPool(10)
        self.connector.bind_gpu_block_pool(self.pool)
        self.request = SimpleNamespace(request_id="r")

    def allocate(self, numbers: list[int], local: int = 0) -> None:
        """A request gets blocks and a load, as in `Scheduler.schedule`."""
        found, _ = self.connector.get_num_new_matched_tokens(self.request, local)
        blocks = SimpleNamespace(blocks=([self.pool.blocks[number] for number in numbers],))
        self.connector.update_state_after_alloc(self.request, blocks, found)

    def step(self, notices: Any = None, **said: Any) -> Any:
        """A step; what vLLM then sees."""
        meta = self.connector.build_connector_meta(None)
        output = SimpleNamespace(
            finished_recving=said.get("received"), finished_sending=said.get("sent"), kv_connector_worker_meta=notices
        )
        self.connector.update_connector_output(output)
        return SimpleNamespace(meta=meta, received=output.finished_recving, sent=output.finished_sending)

    def stale(self) -> float:
        return float(self.connector.guard_scheduling.ledger.stats()["stale_notices"])


def test_a_wrapped_class_is_made_once_and_stays_one_of_its_own() -> None:
    made = wrap(Plain)
    assert wrap(Plain) is made
    assert wrap(made) is made
    assert issubclass(made, Plain)
    assert issubclass(made, RaceFree)
    assert made.__name__ == "Plain"
    assert wrap(Carrier) is not made
    assert wrap(Carrier).guard_carrier


def test_an_aborted_load_holds_its_blocks_until_the_connector_is_through() -> None:
    engine = Engine(Plain)
    engine.allocate([1, 2, 3, 4, 5])
    assert engine.pool.held() == {1, 2, 3, 4}
    engine.connector.request_finished(engine.request, [1, 2, 3, 4, 5])
    assert engine.step().received == {"r"}, "vLLM lets the request go"
    assert engine.pool.held() == {1, 2, 3, 4}
    assert engine.connector.has_pending_push_work()
    assert engine.step(received={"r"}).received is None, "and would die of hearing it again"
    assert engine.pool.held() == set()
    assert engine.stale() == 1
    assert not engine.connector.has_pending_push_work()


def test_only_what_the_load_writes_is_held() -> None:
    engine = Engine(Plain)
    engine.allocate([1, 2, 3, 4, 5], local=32)
    assert engine.pool.held() == {3, 4}


def test_a_late_or_repeated_notice_does_not_reach_vllm() -> None:
    engine = Engine(Plain)
    engine.allocate([1, 2, 3, 4])
    assert engine.step(received={"r"}).received == {"r"}
    seen = engine.step(received={"r", "nobody"}, sent={"nobody"})
    assert (seen.received, seen.sent) == (None, None)
    assert engine.stale() == 3


def test_a_synchronous_load_ends_with_its_step() -> None:
    engine = Engine(Plain)
    engine.connector.is_async = False
    engine.allocate([1, 2, 3, 4])
    assert engine.pool.held() == {1, 2, 3, 4}
    assert engine.step().received is None
    assert engine.pool.held() == set()


@pytest.mark.parametrize("groups", [False, True])
def test_what_is_sent_after_the_end_is_pinned(groups: bool) -> None:
    engine = Engine(Plain)
    engine.connector.sends_later = True
    if groups:
        engine.connector.request_finished_all_groups(engine.request, ([0, 1], [2]))
    else:
        engine.connector.request_finished(engine.request, [0, 1, 2])
    assert engine.pool.held() == {1, 2}
    assert engine.step(sent={"r"}).sent == {"r"}
    assert engine.pool.held() == set()
    assert engine.step(sent={"r"}).sent is None


def test_a_carrier_is_believed_only_with_the_peers_word() -> None:
    engine = Engine(Carrier)
    engine.allocate([1, 2, 3, 4])
    seen = engine.step(Notices([Hello(*P)]), received={"r"})
    (send,) = seen.meta.sends
    assert isinstance(send.message, Destination)
    assert seen.received is None
    owner = send.message.owner
    assert engine.step(Notices([Done(*owner, *P)])).received == {"r"}
    assert engine.pool.held() == set()


def test_a_carriers_abort_drains() -> None:
    engine = Engine(Carrier)
    engine.allocate([1, 2, 3, 4])
    owner = engine.step().meta.sends[0].message.owner
    engine.connector.request_finished(engine.request, [1, 2, 3, 4])
    seen = engine.step()
    assert [type(send.message) for send in seen.meta.sends] == [Abort]
    assert seen.received == {"r"}
    assert engine.pool.held() == {1, 2, 3, 4}
    engine.step(Notices([Drained(*owner, *P), Drained(*owner, *P), Done("other", 1, *P)]))
    assert engine.pool.held() == set()
    assert engine.stale() == 2


def test_a_loss_is_reported_by_the_workers_and_passes_once() -> None:
    engine = Engine(Carrier)
    engine.allocate([1, 2, 3, 4])
    owner = engine.step().meta.sends[0].message.owner
    assert engine.step(Notices([Drained(*owner, *P)])).received is None
    seen = engine.step(received={"r"})
    assert seen.meta.failed == {"r"}
    assert seen.received == {"r"}
    seen = engine.step(received={"r"})
    assert seen.meta.failed == frozenset()
    assert seen.received is None


def test_silence_is_quarantined_and_told(caplog: pytest.LogCaptureFixture) -> None:
    engine = Engine(Carrier, guard_timeout_seconds=0.0)
    engine.allocate([1, 2, 3, 4])
    engine.step()
    engine.step()
    assert engine.pool.held() == {1, 2, 3, 4}
    assert "4 blocks of request room of r are quarantined: P rank 0 did not answer in time" in caplog.text
    engine.step(Notices(gone=[P]))
    assert engine.pool.held() == set()


def test_notices_of_two_ranks_are_all_heard() -> None:
    one = Notices([Hello(*P)], [P])
    two = Notices([Drained(*Owner("r", 1), *P)], connections_failed=2)
    both = one.aggregate(two).aggregate(Notices(connections_failed=3))
    assert (len(both.messages), both.gone, both.connections_failed) == (2, (P,), 5)


def test_connections_that_failed_at_any_rank_add_up_in_the_books() -> None:
    engine = Engine(Carrier)
    engine.step(Notices(connections_failed=2))
    engine.step(Notices())
    engine.step(Notices(connections_failed=1))
    assert engine.connector.guard_scheduling.ledger.stats()["connections_failed"] == 3


def test_every_step_is_reported_and_the_connector_hears_its_own_part_of_it() -> None:
    connector = Engine(Plain).connector
    nothing = connector.build_connector_worker_meta()
    assert (nothing.inner, nothing.aggregate(nothing).inner) == (None, None)
    said = StepReport(Notices([Hello(*P)]))
    for both in (said.aggregate(nothing), nothing.aggregate(said)):
        assert both.inner is said.inner
    assert len(said.aggregate(said).inner.messages) == 2
    engine = Engine(Carrier)
    engine.step(said)
    assert engine.connector.guard_scheduling.ledger.peers == {(P.name, P.rank): P}


def test_a_connector_that_never_got_the_pool_says_so() -> None:
    config = SimpleNamespace(
        parallel_config=SimpleNamespace(decode_context_parallel_size=1, prefill_context_parallel_size=1)
    )
    made = wrap(Plain)(config, None)
    with pytest.raises(RuntimeError, match="block pool"):
        made.has_pending_push_work()


def test_where_blocks_cannot_be_told_apart_all_are_held() -> None:
    engine = Engine(Plain)
    engine.connector.get_num_new_matched_tokens(engine.request, 32)
    groups = ([engine.pool.blocks[number] for number in (1, 2)], [engine.pool.blocks[number] for number in (0, 3)])
    engine.connector.update_state_after_alloc(engine.request, SimpleNamespace(blocks=groups), 32)
    assert engine.pool.held() == {1, 2, 3}
