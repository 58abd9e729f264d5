"""Ranks as forked processes on gloo, a model of nothing but caches, and the same model unsplit."""

from __future__ import annotations

import multiprocessing
import os
import random
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist

from guard.backend.device.layer_split import LayerSplit, open_groups
from guard.backend.device.scratch import Scratch
from guard.backend.device.timeline import timeline_of
from guard.backend.kv.layer_split import Ownership, divide, rows_of
from guard.backend.kv.layer_split_steps import StepSchedule
from guard.backend.kv.rules import ALL, Rules
from guard.lab.ports import free_port

BLOCKS, SIZE, HEADS, WIDTH = 24, 4, 1, 6


def run_ranks(body: Callable[..., Any], count: int, *arguments: Any, seconds: float = 60.0) -> list[Any]:
    """
    Run `body(rank, count, *arguments)` in forked processes joined in a gloo world.

    Returns:
        What each returned; of one that raised, its exception's name and text.
    """
    context = multiprocessing.get_context("fork")
    port = free_port()
    answers = context.SimpleQueue()
    processes = [
        context.Process(target=_rank, args=(body, rank, count, port, answers, arguments), daemon=True)
        for rank in range(count)
    ]
    for process in processes:
        process.start()
    found: dict[int, Any] = {}
    reader = threading.Thread(target=lambda: found.update(answers.get() for _ in processes), daemon=True)
    reader.start()
    reader.join(seconds)
    for process in processes:
        process.kill()
        process.join()
    return [found.get(rank, "no answer") for rank in range(count)]


def _rank(body: Callable[..., Any], rank: int, count: int, port: int, answers: Any, arguments: tuple[Any, ...]) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
    torch.set_num_threads(1)
    try:
        dist.init_process_group("gloo", rank=rank, world_size=count)
        answer = body(rank, count, *arguments)
    except Exception as error:
        traceback.print_exc()
        answer = f"{type(error).__name__}: {error}"
    answers.put((rank, answer))
    # A peer may still be reading from this process.
    time.sleep(600)


class Batches:
    """Requests that grow by chunks and then token by token, share blocks, end and give their blocks back."""

    def __init__(self, seed: int, requests: int = 3) -> None:
        self.dice = random.Random(seed)
        self.free = list(range(1, BLOCKS))
        self.live: list[dict[str, Any]] = []
        self.wanted = requests

    def step(self) -> list[dict[str, Any]]:
        """Each with its table, tokens computed and length."""
        for request in [each for each in self.live if each["length"] >= each["end"]]:
            self.live.remove(request)
            shared = {block for other in self.live for block in other["table"]}
            self.free += [block for block in request["table"] if block not in shared]
        while len(self.live) < self.wanted:
            request = {"table": [], "length": 0, "end": self.dice.randint(6, 22), "id": self.dice.randint(1, 10**6)}
            donor = self.dice.choice(self.live) if self.live and self.dice.random() < 0.5 else None
            if donor is not None:
                whole = min(donor["length"], request["end"] - 1) // SIZE
                request["table"] = donor["table"][:whole]
                request["length"] = whole * SIZE
            self.live.append(request)
        for request in self.live:
            request["computed"] = request["length"]
            left = request["end"] - request["length"]
            request["length"] += min(left, self.dice.choice([1, 1, 3, 7]))
            while len(request["table"]) * SIZE < request["length"]:
                request["table"].append(self.free.pop(self.dice.randrange(len(self.free))))
        return self.live


def tensors(batch: list[dict[str, Any]]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Block table, slot mapping with padding, and the rows' own numbers."""
    widest = max(len(each["table"]) for each in batch)
    table = torch.zeros((len(batch), widest), dtype=torch.int32)
    slots, numbers = [], []
    for row, each in enumerate(batch):
        table[row, : len(each["table"])] = torch.tensor(each["table"], dtype=torch.int32)
        for position in range(each["computed"], each["length"]):
            slots.append(each["table"][position // SIZE] * SIZE + position % SIZE)
            numbers.append(each["id"] * 0.001 + position)
    return table, torch.tensor([*slots, -1]), torch.tensor([*numbers, 0.0])


def update(cache: torch.Tensor, slots: torch.Tensor, values: torch.Tensor) -> None:
    """Write a value to each slot; negative ones are padding."""
    for slot, value in zip(slots.tolist(), values.tolist(), strict=True):
        if slot >= 0:
            cache[slot // SIZE, :, slot % SIZE, :] = value


def attention(cache: torch.Tensor, table: torch.Tensor, batch: list[dict[str, Any]]) -> torch.Tensor:
    """Something that depends on every row of every request, and on their order."""
    sums = []
    for row, each in enumerate(batch):
        rows = [cache[table[row, p // SIZE], :, p % SIZE, :] * (p + 1) for p in range(each["length"])]
        sums.append(torch.stack(rows).sum())
    return torch.stack(sums)


def unsplit(layers: int, steps: int, seed: int) -> list[torch.Tensor]:
    """The attention of every layer of every step, with one whole cache."""
    caches = [torch.zeros(BLOCKS, HEADS, SIZE, WIDTH) for _ in range(layers)]
    batches, found = Batches(seed), []
    for _ in range(steps):
        batch = batches.step()
        table, slots, numbers = tensors(batch)
        for layer, cache in enumerate(caches):
            update(cache, slots, numbers + layer)
            found.append(attention(cache, table, batch))
    return found


def make(
    rank: int,
    ownership: Ownership,
    *,
    prefetch: bool = True,
    check: bool = False,
    rows: int = BLOCKS,
    copy_cost: float = 0.25,
    rules: Rules = ALL,
    broadcasts: Any = None,
    timeout: float = 20.0,
    device: str = "cpu",
) -> tuple[LayerSplit, dict[int, torch.Tensor]]:
    """A rank and the caches that it keeps."""
    shape = (BLOCKS, HEADS, SIZE, WIDTH)
    caches = {layer: torch.zeros(shape, device=device) for layer in ownership.layers_of(rank)}
    like = next(iter(caches.values()))
    split = LayerSplit(
        rank=rank,
        ownership=ownership,
        caches=caches,
        scratch=[Scratch(like, rows), Scratch(like, rows)],
        blocks=BLOCKS,
        block_size=SIZE,
        schedule=StepSchedule(len(ownership.owners), prefetch=prefetch, rules=rules),
        timeline=timeline_of(torch.device(device)),
        broadcasts=broadcasts or open_groups([range(ownership.ranks)], "gloo", timeout),
        check=check,
        copy_cost=copy_cost,
    )
    return split, caches


def walk(split: LayerSplit, caches: dict[int, torch.Tensor], layers: int, steps: int, seed: int) -> list[torch.Tensor]:
    """The same steps as `unsplit`, on this rank."""
    nowhere = torch.empty(0)
    batches, found = Batches(seed), []
    for _ in range(steps):
        batch = batches.step()
        table, slots, numbers = (each.to(split.device) for each in tensors(batch))
        split.begin(
            rows_of(
                [each["table"] for each in batch],
                [each["computed"] for each in batch],
                [each["length"] for each in batch],
                SIZE,
            )
        )
        for layer in range(layers):
            cache = caches.get(layer, nowhere)
            where, there = split.write(layer, cache, slots)
            update(where, there, numbers + layer)
            split.wrote()
            where, turned = split.attend(layer, cache, table)
            found.append(attention(where, turned, batch))
            split.attended()
    return found


def walked(rank: int, count: int, layers: int, steps: int, seed: int, options: dict[str, Any]) -> Any:
    """For `run_ranks`: the attentions of a rank, and what it moved."""
    split, caches = make(rank, divide(layers, count), **options)
    found = walk(split, caches, layers, steps, seed)
    return [each.tolist() for each in found], (split.totals.transfers, split.totals.whole, split.totals.bytes)
