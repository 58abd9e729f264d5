"""guard.backend.kv.layer_split_cost: what must hold whatever the numbers are, and the published points."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.backend.kv.layer_split import LayerSplitError
from guard.backend.kv.layer_split_cost import SHAPES, Load, Machine, Shape, predict, replication, seconds

GIB = float(1 << 30)
shapes = st.builds(
    Shape,
    name=st.just("any"),
    layers=st.integers(16, 100),
    kv_bytes=st.integers(64, 4096),
    flops=st.floats(1e8, 1e12),
    attention_flops=st.floats(1e4, 1e8),
    draft_layers=st.integers(0, 2),
)
machines = st.builds(
    Machine,
    ranks=st.integers(2, 16),
    memory=st.floats(4 * GIB, 200 * GIB),
    flops=st.floats(1e11, 1e15),
    link=st.floats(1e9, 1e12),
)


@given(shapes, machines, st.integers(1000, 200_000), st.floats(0, 0.99))
def test_more_fits_and_never_more_than_the_ranks_allow(
    shape: Shape, machine: Machine, context: int, hit_rate: float
) -> None:
    point = predict(shape, machine, Load(context, hit_rate))
    assert 0 < point.capacity_ratio <= machine.ranks
    assert point.hits_unsplit <= hit_rate
    assert point.ttft_no_hits >= 1


@given(shapes, machines, st.integers(1000, 200_000))
def test_nothing_is_won_where_everything_fits_anyway(shape: Shape, machine: Machine, context: int) -> None:
    machine = Machine(machine.ranks, 1e16, machine.flops, machine.link)
    assert predict(shape, machine, Load(context, sessions=4)).throughput_ratio <= 1


@given(shapes, machines, st.integers(1000, 200_000), st.floats(0, 0.9))
def test_a_faster_link_never_costs(shape: Shape, machine: Machine, context: int, hits: float) -> None:
    load = Load(context)
    faster = Machine(machine.ranks, machine.memory, machine.flops, machine.link * 2)
    assert seconds(shape, faster, load, hits, split=True) <= seconds(shape, machine, load, hits, split=True)
    assert seconds(shape, machine, load, hits, split=False) <= seconds(shape, faster, load, hits, split=True)


def test_a_first_chunk_moves_nothing() -> None:
    shape, machine = SHAPES["deepseek-v3-like"], Machine(8, 141 * GIB, 4e14, 1e11)
    load = Load(8000, chunk=8192)
    assert seconds(shape, machine, load, 0, split=True) == seconds(shape, machine, load, 0, split=False)


def test_the_published_capacities_come_out() -> None:
    # SGLang: 8 ranks, 7.1 x. vllm-ascend: 8 ranks, 6.25 x. Both with scratch slots of the whole cache or a part of it.
    shape, machine = SHAPES["glm-5-like"], Machine(8, 141 * GIB, 4e14, 1e11)
    whole = predict(shape, machine, Load(100_000, batch=10**6))
    bounded = predict(shape, machine, Load(100_000, batch=1))
    assert whole.capacity_ratio == pytest.approx(6.25, rel=0.2)
    assert bounded.capacity_ratio == pytest.approx(7.1, rel=0.05)
    # SGLang: 0.77 -> 0.20 GB a rank with 78 layers on 4 ranks.
    four = predict(Shape("dsa", 78, 1, 1, 1), Machine(4, 1e6, 1, 1), Load(1000))
    assert four.kv_bytes_split / four.kv_bytes_unsplit == pytest.approx(0.20 / 0.77, rel=0.03)


def test_the_published_cost_without_hits_is_small() -> None:
    # vllm-ascend: +0.2, +8.5, +11 % at 32K, 64K, 128K on links of some tens of GB/s.
    shape, machine = SHAPES["deepseek-v3-like"], Machine(8, 141 * GIB, 3e14, 3e10)
    costs = [predict(shape, machine, Load(context)).ttft_no_hits for context in (32_000, 64_000, 128_000)]
    assert all(1 <= cost <= 1.11 for cost in costs)


def test_where_nothing_is_replicated_or_nothing_fits_it_is_said() -> None:
    with pytest.raises(LayerSplitError, match="nothing is kept twice"):
        replication(SHAPES["llama-70b-like"], 8)
    assert replication(SHAPES["llama-70b-like"], 16) == 2
    with pytest.raises(LayerSplitError, match="no memory for KV"):
        predict(SHAPES["deepseek-v3-like"], Machine(2, 141 * GIB, 1e14, 1e11), Load(8000))


def least_recently_used(blocks: int, load: Load, turns: int) -> float:
    """Share of the contexts found, by doing it: whole blocks, of one request the end is let go of first."""
    dice = random.Random(3)
    shared = int(load.hit_rate * load.context) // load.block
    each = load.context // load.block
    cache: dict[tuple[int, int], None] = {}
    found = asked = 0
    for turn in range(turns):
        session = dice.randrange(load.sessions)
        names = [(session, place) for place in range(shared)]
        names += [(-turn - 1, place) for place in range(shared, each)]
        hits = next((place for place, name in enumerate(names) if name not in cache), each)
        if turn > turns // 10:
            found, asked = found + hits * load.block, asked + load.context
        for name in names:
            cache.pop(name, None)
        while len(cache) > blocks - each:
            del cache[next(iter(cache))]
        cache |= dict.fromkeys(reversed(names))
    return found / asked


@pytest.mark.parametrize("sessions", [6, 16])
@pytest.mark.parametrize("share", [0.3, 0.55, 0.8, 1.3])
def test_what_is_found_is_what_a_cache_that_lets_the_oldest_go_finds(sessions: int, share: float) -> None:
    load = Load(2048, 0.9, sessions, block=32)
    blocks = int(share * sessions * 2048 / 32)
    shape = Shape("any", 16, 64, 1e9, 1e5)
    machine = Machine(2, blocks * 32.0 * 64 * 16, 1e12, 1e10)
    assert predict(shape, machine, load).hits_unsplit == pytest.approx(
        least_recently_used(blocks, load, 1500), abs=0.06
    )


def test_what_cannot_run_beside_computing_is_waited_for() -> None:
    shape = Shape("any", 16, 64, 1e9, 1e5)
    load = Load(2048, chunk=512)
    beside, after = (Machine(2, 1e9, 1e12, 1e8, latency=1e-3, overlap=overlap) for overlap in (1.0, 0.0))
    alone = seconds(shape, after, load, 0.5, split=False)
    # Two chunks have something before them: 1024 and 1536 tokens.
    moved = sum(16 * (1e-3 + done * 64 / 1e8) for done in (1024, 1536))
    assert seconds(shape, after, load, 0.5, split=True) == pytest.approx(alone + moved)
    assert alone < seconds(shape, beside, load, 0.5, split=True) < alone + moved
