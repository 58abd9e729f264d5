"""guard.backend.vllm.push.memory: what one process shares another writes."""

from __future__ import annotations

import pytest
import torch

from guard.backend.vllm.push.memory import attach, share, write
from guard.backend.vllm.push.wire import Register


def caches(blocks: int = 6) -> dict[str, torch.Tensor]:
    """Two layers of one allocation, interleaved block by block as vLLM lays them out."""
    memory = torch.zeros(blocks * 2 * 4, dtype=torch.float32)
    return {f"layer.{n}": memory.as_strided((blocks, 4), (8, 1), 4 * n) for n in range(2)}


def test_writes_land_in_the_owners_tensors() -> None:
    mine = caches()
    mine["layer.1"][5] = 7
    path, size, layers = share(mine)
    assert mine["layer.1"][5].tolist() == [7] * 4, "sharing moves the content too"
    theirs = attach(Register("D", 0, 1, 1, path, size, 16, layers))
    source = torch.arange(24, dtype=torch.float32).reshape(6, 4)
    write(theirs[1], (2, 0), source, (5, 1))
    assert mine["layer.1"][2].tolist() == source[5].tolist()
    assert mine["layer.1"][0].tolist() == source[1].tolist()
    assert not mine["layer.0"].any()
    assert mine["layer.1"][5].tolist() == [7] * 4


def test_layers_of_several_allocations_are_refused() -> None:
    with pytest.raises(ValueError, match="one allocation"):
        share({"a": torch.zeros(2, 2), "b": torch.zeros(2, 2)})


def test_memory_of_an_accelerator_is_refused() -> None:
    with pytest.raises(ValueError, match="accelerator"):
        share({"a": torch.zeros(2, 2, device="meta")})
