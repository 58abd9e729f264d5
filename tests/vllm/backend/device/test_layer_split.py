"""guard.backend.device.layer_split on real gloo ranks: the same attention as unsplit, and what goes wrong is told."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch

from guard.backend.device.layer_split import LayerSplit, checksum, open_groups
from guard.backend.kv.layer_split import LayerSplitError, Ownership, Rows, divide
from guard.backend.kv.rules import without
from tests.vllm.backend.device.ranks import make, run_ranks, unsplit, walk, walked

STEPS = 12


def expected(layers: int, seed: int) -> list[list[float]]:
    return [each.tolist() for each in unsplit(layers, STEPS, seed)]


@pytest.mark.parametrize(
    ("ranks", "layers", "options"),
    [
        (2, 4, {}),
        (2, 5, {"prefetch": False}),
        (2, 5, {"check": True}),
        (2, 4, {"copy_cost": 20.0, "check": True}),
        (3, 3, {}),
    ],
)
def test_every_attention_is_that_of_a_whole_cache(ranks: int, layers: int, options: dict[str, Any]) -> None:
    right = expected(layers, seed=layers)
    for answer in run_ranks(walked, ranks, layers, STEPS, layers, options):
        found, (transfers, whole, moved) = answer
        assert found == right
        # The first step has no context to move.
        assert transfers == layers * (STEPS - 1)
        assert moved > 0
        assert (whole > 0) == ("copy_cost" in options)


def test_only_the_context_is_moved_and_shared_blocks_once() -> None:
    (_, (_, _, moved)), _ = run_ranks(walked, 2, 4, STEPS, 4, {})
    (_, (_, _, whole)), _ = run_ranks(walked, 2, 4, STEPS, 4, {"copy_cost": 20.0})
    assert moved < 0.6 * whole


class Sabotage:
    """Broadcasts that go wrong at the n-th, on one rank or on both."""

    def __init__(self, inner: Any, number: int, kind: str) -> None:
        self.inner, self.left, self.kind = inner, number, kind

    def send(self, payload: torch.Tensor, source: int) -> Any:
        self.left -= 1
        if self.left == 0 and self.kind == "omitted":
            return _Done()
        if self.left == 0 and self.kind == "other bytes":
            payload = payload.clone()
        return self.inner.send(payload, source)


class _Done:
    def wait(self) -> None:
        pass

    def is_completed(self) -> bool:
        return True


def sabotaged(rank: int, count: int, kind: str, check: bool) -> Any:
    # A layer of rank 0 in the third step; with the check each has a header before it, the first step's too. In the
    # second step the peer's slot still holds what it wrote there itself.
    broadcasts = Sabotage(open_groups([range(count)], "gloo", 2.0), 14 if check else 6, kind)
    split, caches = make(rank, divide(4, count), broadcasts=broadcasts, check=check)
    return [each.tolist() for each in walk(split, caches, 4, STEPS, 4)]


def test_a_broadcast_that_moves_nothing_changes_the_answer_and_the_check_tells() -> None:
    # The hazard is real: without the check the attention of the peer is another one. The owner reads its own cache.
    right = expected(4, 4)
    owner, peer = run_ranks(sabotaged, 2, "omitted", False)
    assert owner == right
    assert isinstance(peer, list)
    assert peer != right
    told = run_ranks(sabotaged, 2, "omitted", True)
    assert any("WrongLayer" in str(each) for each in told)


def silent(rank: int, count: int) -> Any:
    split, caches = make(rank, divide(4, count), broadcasts=Recorder(), check=True)
    return [each.tolist() for each in walk(split, caches, 4, STEPS, 4)]


def test_broadcasts_that_are_all_left_out_are_told_at_the_first() -> None:
    # Rank 0 meets a layer of its peer third; nothing that it has itself may look like a header.
    told = run_ranks(silent, 2)
    assert all("WrongLayer" in str(each) and "-1" in str(each) for each in told), told


def test_bytes_that_came_to_another_place_are_told() -> None:
    assert any("WrongLayer" in str(each) for each in run_ranks(sabotaged, 2, "other bytes", True))


def swapped(rank: int, count: int, check: bool) -> Any:
    owners = divide(4, count)
    split, caches = make(rank, owners, check=check, timeout=2.0)
    # Rank 1 believes that the layers lie the other way round.
    if rank == 1:
        split._ownership = Ownership(tuple(reversed(owners.owners)), count)
    return [each.tolist() for each in walk(split, caches, 4, STEPS, 4)]


def test_ranks_with_other_owners_do_not_answer_as_if_nothing_were() -> None:
    for check in (False, True):
        answers = run_ranks(swapped, 2, check)
        assert expected(4, 4) not in answers


class Late:
    """A link so slow that a transfer is not there when its layer is wanted, unless that is waited for."""

    def __init__(self, inner: Any, source: int) -> None:
        self.inner, self.rank = inner, source

    def send(self, payload: torch.Tensor, source: int) -> Any:
        if source == self.rank:
            # The owner is late; the peer has queued its half and goes on as far as the schedule lets it.
            time.sleep(0.02)
        return self.inner.send(payload, source)


def delayed(rank: int, count: int, waits: bool) -> Any:
    rules = without() if waits else without("load_before_read", "last_access_before_write")
    broadcasts = Late(open_groups([range(count)], "gloo", 20.0), rank)
    split, caches = make(rank, divide(4, count), broadcasts=broadcasts, rules=rules)
    return [each.tolist() for each in walk(split, caches, 4, STEPS, 4)]


def test_a_late_transfer_is_waited_for_and_without_the_rule_it_is_not() -> None:
    right = expected(4, 4)
    assert run_ranks(delayed, 2, True) == [right, right]
    assert run_ranks(delayed, 2, False) != [right, right]


class Recorder:
    def send(self, payload: torch.Tensor, source: int) -> Any:
        return _Done()


def alone(**options: Any) -> LayerSplit:
    return make(0, divide(4, 2), broadcasts=Recorder(), **options)[0]


def test_a_layer_left_out_or_a_step_that_broke_off_is_an_error() -> None:
    split = alone()
    slots = torch.tensor([4])
    with pytest.raises(LayerSplitError, match="expected layer 4"):
        split.write(0, torch.empty(0), slots)
    split.begin(Rows((1, 2), 1))
    with pytest.raises(LayerSplitError, match="expected layer 0"):
        split.write(1, torch.empty(0), slots)
    with pytest.raises(LayerSplitError, match="stopped before layer 0"):
        split.begin(Rows((1, 2), 1))


def test_a_step_that_does_not_fit_the_scratch_is_an_error() -> None:
    with pytest.raises(LayerSplitError, match="touches 3 blocks, a scratch slot has 2 rows"):
        alone(rows=2).begin(Rows((1, 2, 3), 0))


def test_a_rank_must_keep_what_it_owns() -> None:
    split, caches = make(0, divide(4, 2), broadcasts=Recorder())
    assert [split.owns(layer) for layer in range(4)] == [True, True, False, False]
    with pytest.raises(LayerSplitError, match="rank 1 keeps layers"):
        LayerSplit(
            rank=1,
            ownership=divide(4, 2),
            caches=caches,
            scratch=split._scratch,
            blocks=24,
            block_size=4,
            schedule=split._schedule,
            timeline=split._timeline,
            broadcasts=Recorder(),
        )


def outside(rank: int, count: int) -> Any:
    return open_groups([[0]] if rank else [[0], [1]], "gloo", 2.0)


def test_a_rank_in_no_group_is_an_error() -> None:
    assert "LayerSplitError: rank 1 is in none of the groups" in str(run_ranks(outside, 2, seconds=5.0)[1])


def test_the_checksum_sees_changed_and_moved_bytes() -> None:
    payload = torch.arange(200, dtype=torch.uint8)
    changed, moved = payload.clone(), payload.roll(32)
    changed[7] += 1
    assert len({int(checksum(each)) for each in (payload, changed, moved)}) == 3
