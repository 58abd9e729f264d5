"""guard.backend.vllm.host.worker on the CPU, with gates in place of sleeps; tests/gpu has the same copies on CUDA."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from guard.backend.kv.ids import Key, Owner
from guard.backend.vllm.host.books import HostBooks, Order
from guard.backend.vllm.host.worker import HostWorker, runs
from tests.vllm.backend.vllm.host import copies
from tests.vllm.backend.vllm.host.bed import closed


class Uncounted:
    """The engine's references do not matter here."""

    def hold(self, blocks: Any) -> None:
        pass

    def give_back(self, blocks: Any) -> None:
        pass


@pytest.fixture
def cache() -> dict[str, Any]:
    return copies.caches("cpu")


@pytest.fixture
def worker(cache: dict[str, Any]) -> Iterator[HostWorker]:
    made = HostWorker(cache, copies.SLOTS)
    yield made
    made.close()


@pytest.mark.parametrize("strided", [False, True])
def test_content_makes_the_round(strided: bool) -> None:
    copies.content_makes_the_round("cpu", strided=strided)


def test_copies_are_ordered_against_compute_work() -> None:
    assert copies.saved_after_it_is_written("cpu", fenced=True)
    assert copies.loaded_after_it_is_read("cpu", fenced=True)


def test_neighbours_are_copied_together() -> None:
    assert list(runs([(4, 0), (5, 1), (6, 2), (2, 3), (3, 5), (4, 6)])) == [(4, 0, 3), (2, 3, 1), (3, 5, 2)]
    assert list(runs([])) == []


@pytest.mark.parametrize("held", [True, False])
def test_a_slot_filled_while_a_load_reads_it_gives_the_wrong_content(
    worker: HostWorker, cache: dict[str, Any], held: bool
) -> None:
    books = HostBooks(Uncounted(), copies.BLOCKS, 1)
    first = books.save("r1", 0, Key("a"), None)
    assert first is not None
    worker.save([first])
    books.over(dict.fromkeys(copies.ended(worker), 1))
    gate = closed(worker.loads.transfer)
    load = books.load("r2", 1, Key("a"), None)
    worker.load([load])
    if not held:
        # The rule taken away: the load's slot is let go when the load is queued.
        books.tier.pool.release(Owner("host", load.number))
    other = books.save("r3", 2, Key("b"), None)
    assert (other is None) is held
    marks = worker._arriving
    worker._arriving = {}
    if other is not None:
        worker.save([other])
        worker.saves.wait(worker._flights[-1][1])
    gate.set()
    worker.loads.wait(marks.values())
    right = all(torch.equal(layer[1], layer[0]) for layer in cache.values())
    assert right is held


def test_a_save_is_over_when_its_last_layer_is(worker: HostWorker) -> None:
    gates: list[Any] = []
    transfer = worker.saves.transfer

    def first_layer_alone(after: Any, start: Any) -> Any:
        mark = transfer(after, start)
        if not gates:
            gates.append(closed(transfer))
        return mark

    worker.saves.transfer = first_layer_alone  # type: ignore[method-assign]
    worker.save([Order(0, 1, 2, 0)])
    worker.saves.wait(worker._flights[0][1][:1])
    assert worker.over() == ([], [])
    gates[0].set()
    assert copies.ended(worker) == {0}
    assert worker.over() == ([], [])


def test_another_generation_is_not_loaded_and_nothing_is_kept_of_the_step(
    worker: HostWorker, cache: dict[str, Any]
) -> None:
    worker.save([Order(0, 1, 2, 0)])
    copies.ended(worker)
    before = cache["l0"][5].clone()
    worker.load([Order(7, 1, 5, 3), Order(8, 1, 6, 0)])
    for name in copies.LAYERS:
        worker.wait(name)
    assert torch.equal(cache["l0"][5], before)
    assert torch.equal(cache["l0"][6], cache["l0"][2])
    worker.save([Order(9, 2, 4, 9)])
    assert (worker.invalid(), worker.invalid()) == ({5}, set())
    done, failed = worker.over()
    assert sorted(failed) == [7, 9]
    assert {7, 9} <= set(done) <= {7, 8, 9}


def test_a_pass_that_skips_a_layer_is_found_out(worker: HostWorker) -> None:
    worker.save([Order(0, 1, 2, 0)])
    copies.ended(worker)
    worker.load([Order(1, 1, 5, 0)])
    worker.wait("l0")
    worker.wait("l2")
    worker.wait("a layer without a cache")
    worker.save([Order(2, 2, 4, 2)])
    assert worker.invalid() == {5}
    assert worker.over()[1] == [2]
