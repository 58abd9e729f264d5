"""What a worker's copies must do on any device; on the CPU and on CUDA the same."""

from __future__ import annotations

from typing import Any

import torch

from guard.backend.vllm.host.books import Order
from guard.backend.vllm.host.worker import HostWorker

LAYERS = ("l0", "l1", "l2")
BLOCKS, SLOTS = 8, 6
SHAPE = (2, 4, 8)


def caches(device: str, *, strided: bool = False) -> dict[str, Any]:
    """Layers whose blocks are all different; `strided`: a block's layers are neighbours, as some layouts have it."""
    shape = (BLOCKS, len(LAYERS), *SHAPE) if strided else (len(LAYERS), BLOCKS, *SHAPE)
    whole = torch.arange(len(LAYERS) * BLOCKS * 64, dtype=torch.float32, device=device).view(shape)
    return {name: whole[:, number] if strided else whole[number] for number, name in enumerate(LAYERS)}


def delay(device: str) -> None:
    """Compute work that takes its time, where compute work is queued."""
    if device != "cpu":
        torch.cuda._sleep(200_000_000)


def ended(worker: HostWorker) -> set[int]:
    """Wait until every copy is over; which."""
    done: list[int] = []
    while worker._flights:
        done += worker.over()[0]
    return set(done)


def content_makes_the_round(device: str, *, strided: bool) -> None:
    """Saved, overwritten, loaded into other blocks."""
    cache = caches(device, strided=strided)
    before = {name: layer.clone() for name, layer in cache.items()}
    worker = HostWorker(cache, SLOTS)
    worker.save([Order(0, 4, 1, 0), Order(1, 5, 2, 1), Order(2, 0, 7, 2)])
    assert ended(worker) == {0, 1, 2}
    for layer in cache.values():
        layer[1:4].zero_()
    worker.load([Order(3, 4, 3, 0), Order(4, 0, 1, 2)])
    for name in LAYERS:
        worker.wait(name)
        assert torch.equal(cache[name][3], before[name][1])
        assert torch.equal(cache[name][1], before[name][7])
    worker.save([])
    assert (ended(worker), worker.invalid()) == ({3, 4}, set())
    worker.close()


def saved_after_it_is_written(device: str, *, fenced: bool) -> bool:
    """A step writes a block late, and it is saved behind it; whether that is what host memory has (H3)."""
    cache = caches(device)
    worker = HostWorker(cache, SLOTS)
    if not fenced:
        passed = worker.saves.mark()
        worker.saves.mark = lambda: passed  # type: ignore[method-assign]
    delay(device)
    for layer in cache.values():
        layer[2].fill_(-7)
    worker.save([Order(0, 1, 2, 0)])
    ended(worker)
    worker.close()
    return all(bool((slots[1] == -7).all()) for slots in worker.slots.values())


def loaded_after_it_is_read(device: str, *, fenced: bool) -> bool:
    """A block is loaded into while an earlier step reads it; whether that step read its own content (H2, H4)."""
    cache = caches(device)
    worker = HostWorker(cache, SLOTS)
    worker.save([Order(0, 1, 2, 0)])
    ended(worker)
    if not fenced:
        passed = worker.loads.mark()
        worker.loads.mark = lambda: passed  # type: ignore[method-assign]
    mine = {name: layer[5].clone() for name, layer in cache.items()}
    delay(device)
    read = {name: layer[5].clone() for name, layer in cache.items()}
    worker.load([Order(1, 1, 5, 0)])
    for name in LAYERS:
        worker.wait(name)
        assert torch.equal(cache[name][5], cache[name][2]), "a layer is read after its load (H1)"
    worker.save([])
    ended(worker)
    worker.close()
    return all(torch.equal(read[name], mine[name]) for name in LAYERS)
