"""guard.backend.kv.layer_split_cost: what must hold whatever the numbers are, and the published points."""

from __future__ import annotations

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
