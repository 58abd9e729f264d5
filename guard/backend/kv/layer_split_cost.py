"""
What LayerSplit buys and costs: a model of a prefill node, for planning.

Plain and coarse. A request brings a context of which a share was seen before; what of that is still in the cache
depends on how much of the sessions' contexts fits. The rest is computed in chunks; every chunk of a split model moves
the context before it, layer by layer, behind the computing of the layer before. What it leaves out: decode, scheduling,
stragglers. Its predictions are for ratios, not for seconds.
"""

from __future__ import annotations

import math
from typing import Final

import msgspec

from guard.backend.kv.layer_split import SLOTS, LayerSplitError


class Shape(msgspec.Struct, frozen=True):
    """
    A model, as far as its KV and its work go.

    Args:
        name: For people.
        layers: Layers whose KV is split.
        kv_bytes: KV of one token in one layer on a rank that replicates it. Unit: bytes.
        flops: Multiply-adds of one token without attention, times two, in all ranks together.
        attention_flops: The same of one token with one token of its context, in all layers and ranks.
        draft_layers: Draft layers that every rank keeps.
        kv_heads: Heads of the KV cache; 1 where all ranks keep the same (MLA).
        weight_bytes: Of all ranks together.
    """

    name: str
    layers: int
    kv_bytes: int
    flops: float
    attention_flops: float
    draft_layers: int = 0
    kv_heads: int = 1
    weight_bytes: float = 0.0


class Machine(msgspec.Struct, frozen=True):
    """
    What the model runs on.

    Args:
        ranks: Ranks of the tensor-parallel group.
        memory: For weights and KV on each rank. Unit: bytes.
        flops: What each rank does in a second, as seen in prefill.
        link: What a broadcast moves in a second, as seen. Unit: bytes a second.
        latency: What a broadcast takes besides its bytes. Unit: seconds.
        overlap: Share of a broadcast that runs beside computing; 0 where the computing processors move the bytes.
    """

    ranks: int
    memory: float
    flops: float
    link: float
    latency: float = 0.0
    overlap: float = 1.0


class Load(msgspec.Struct, frozen=True):
    """
    What is asked.

    Args:
        context: Tokens of a request.
        hit_rate: Share of them that an endless cache would have.
        sessions: Different contexts asked in turn at random; 0: so many that their contexts would fill `span` times
            what the unsplit cache holds.
        span: See `sessions`.
        chunk: Most tokens of a step.
        block: Tokens of a cache block; what is found is found in whole ones.
        batch: Requests that a step may touch; bounds the scratch slots.
        per_request: What a request costs besides its tokens, such as its decode steps. Unit: seconds.
    """

    context: int
    hit_rate: float = 0.9
    sessions: int = 0
    span: float = 4.0
    chunk: int = 8192
    batch: int = 1
    per_request: float = 0.0
    block: int = 1


class Prediction(msgspec.Struct, frozen=True):
    """
    One point.

    Args:
        context: Tokens of a request.
        ranks: Ranks.
        kv_bytes_unsplit: KV of one request's context on each rank, unsplit. Unit: bytes.
        kv_bytes_split: The same with LayerSplit, the scratch slots not counted.
        tokens_unsplit: Capacity of the cache. Unit: tokens.
        tokens_split: The same with LayerSplit.
        hits_unsplit: Share of the context found in the cache.
        hits_split: The same with LayerSplit.
        seconds_unsplit: Time of a request.
        seconds_split: The same with LayerSplit.
        ttft_no_hits: Time of a fresh request, with LayerSplit / without.
    """

    context: int
    ranks: int
    kv_bytes_unsplit: float
    kv_bytes_split: float
    tokens_unsplit: int
    tokens_split: int
    hits_unsplit: float
    hits_split: float
    seconds_unsplit: float
    seconds_split: float
    ttft_no_hits: float

    @property
    def capacity_ratio(self) -> float:
        """Tokens held with LayerSplit / without; infinite where the context does not fit without."""
        return self.tokens_split / self.tokens_unsplit if self.tokens_unsplit else math.inf

    @property
    def throughput_ratio(self) -> float:
        """Requests a second with LayerSplit / without."""
        return self.seconds_unsplit / self.seconds_split


#: Turns since a session's last one that are looked at, for each session.
_MOST_GAPS: Final = 40

#: Multiply-adds count twice. KV in bytes of bf16, or of MLA's latent and its position part.
SHAPES: Final[dict[str, Shape]] = {
    # Public configurations, rounded: 61 layers, 37e9 active parameters, latent 512 + 64, 128 heads of 128 + 64.
    "deepseek-v3-like": Shape("deepseek-v3-like", 61, 576 * 2, 74e9, 61 * 128 * 2 * (192 + 128), 1, 1, 671e9),
    # 78 layers, 40e9 active, the same latent; sparse attention reads at most 2048 tokens, its indexer all of them.
    "glm-5-like": Shape("glm-5-like", 78, 576 * 2, 80e9, 78 * 32 * 2 * 128, 1, 1, 744e9),
    # 80 layers, 8 KV heads of 128: kept more than once only beyond eight ranks.
    "llama-70b-like": Shape("llama-70b-like", 80, 2 * 128 * 2, 140e9, 80 * 64 * 4 * 128, 0, 8, 140e9),
    # The same size with one KV head, as multi-query models have.
    "llama-mqa-like": Shape("llama-mqa-like", 80, 2 * 128 * 2, 140e9, 80 * 64 * 4 * 128, 0, 1, 140e9),
}


def predict(shape: Shape, machine: Machine, load: Load) -> Prediction:
    """
    One point of the plan.

    Raises:
        LayerSplitError: Nothing is replicated at this number of ranks, or the weights leave no memory for KV.
    """
    replicas = replication(shape, machine.ranks)
    room = machine.memory - shape.weight_bytes / machine.ranks
    if room <= 0:
        raise LayerSplitError(f"{shape.name} on {machine.ranks} ranks: the weights leave no memory for KV")
    kept = math.ceil(shape.layers / replicas)
    unsplit = int(room / (shape.kv_bytes * (shape.layers + shape.draft_layers)))
    split = _split_tokens(shape, room, kept, load)
    hits = [_hits(tokens, unsplit, load) for tokens in (unsplit, split)]
    fresh = [seconds(shape, machine, load, 0.0, split=each) for each in (False, True)]
    return Prediction(
        context=load.context,
        ranks=machine.ranks,
        kv_bytes_unsplit=load.context * shape.kv_bytes * (shape.layers + shape.draft_layers),
        kv_bytes_split=load.context * shape.kv_bytes * (kept + shape.draft_layers),
        tokens_unsplit=unsplit,
        tokens_split=split,
        hits_unsplit=hits[0],
        hits_split=hits[1],
        seconds_unsplit=seconds(shape, machine, load, hits[0], split=False),
        seconds_split=seconds(shape, machine, load, hits[1], split=True),
        ttft_no_hits=fresh[1] / fresh[0],
    )


def _hits(tokens: int, unsplit: int, load: Load) -> float:
    """Share of a context that is found in a cache of so many tokens, if `unsplit` of them fit without LayerSplit."""
    if tokens < load.context:
        return 0.0
    if not load.sessions:
        working = load.span * max(unsplit, load.context)
        return load.hit_rate * min(1.0, tokens / working)
    # The least recently used goes first, of one request its end: what the other sessions brought since a session was
    # asked last decides what is left of it. They bring their contexts once, and a fresh end each time.
    end = (1 - load.hit_rate) * load.context
    others = load.sessions - 1
    found, reached = 0.0, 1.0
    for gap in range(_MOST_GAPS * load.sessions):
        different = others * (1 - (1 - 1 / others) ** gap) if others else 0.0
        brought = different * load.context + (gap - different) * end + end
        kept = min(max(tokens - brought, 0.0), load.hit_rate * load.context) // load.block * load.block
        chance = reached / load.sessions
        found += chance * kept / load.context
        reached -= chance
    return found


def replication(shape: Shape, ranks: int) -> int:
    """
    How many ranks keep the same KV.

    Raises:
        LayerSplitError: None does.
    """
    replicas = ranks // shape.kv_heads
    if replicas < 2:
        raise LayerSplitError(f"{shape.name} on {ranks} ranks: each has KV heads of its own, nothing is kept twice")
    return replicas


def _split_tokens(shape: Shape, room: float, kept: int, load: Load) -> int:
    """Capacity; the scratch slots need no more rows than a step touches."""
    per_token = shape.kv_bytes * (kept + shape.draft_layers)
    slots = SLOTS * shape.kv_bytes
    tokens = room / (per_token + slots)
    step = load.batch * load.context
    return int(tokens if tokens <= step else (room - step * slots) / per_token)


def seconds(shape: Shape, machine: Machine, load: Load, hits: float, *, split: bool) -> float:
    """
    Time of one request's prefill.

    Args:
        shape: The model.
        machine: What it runs on.
        load: The request.
        hits: Share of its context that is in the cache.
        split: With LayerSplit.
    """
    rate = machine.ranks * machine.flops
    done = int(hits * load.context)
    total = load.per_request
    while done < load.context:
        tokens = min(load.chunk, load.context - done)
        work = tokens * (shape.flops + shape.attention_flops * (done + tokens / 2)) / rate
        moved = shape.layers * (machine.latency + done * shape.kv_bytes / machine.link) if split and done else 0.0
        # All but the first layer's transfer can run beside the computing of a layer.
        beside = moved * machine.overlap
        total += max(work, beside) + min(work, beside) / shape.layers + moved - beside
        done += tokens
    return total
