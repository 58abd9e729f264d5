"""
Which prefill rank gives which layer to which decode rank, and whether all layers come.

Both sides may have any number of tensor-parallel ranks, as long as a rank has the same KV heads on both. A prefill rank
gives what it alone keeps (its own layers, with LayerSplit) to every decode rank with the same heads; what several ranks
keep, one of them gives. The decode side believes none of this: it counts, and asks only when every layer has exactly
one giver.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from guard.backend.kv.ids import Party
from guard.backend.vllm.push.wire import Gives


class Holding(msgspec.Struct, frozen=True):
    """
    What a prefill rank keeps.

    Args:
        rank: Of the tensor-parallel group.
        ranks: Of that group.
        heads: KV heads of the whole model; None where its draft has another number.
        owned: Layers that no other rank with the same heads keeps.
    """

    rank: int = 0
    ranks: int = 1
    heads: int | None = 1
    owned: frozenset[str] = frozenset()


def link_rank(rank: int, of_decode: int, decode_ranks: int) -> int:
    """The number by which the handshake knows a prefill rank's writes into one decode rank."""
    return rank * decode_ranks + of_decode


def given(me: Holding, kept: Sequence[str], wanted: Sequence[str], rank: int, ranks: int) -> tuple[int, ...]:
    """
    What a prefill rank gives to a decode rank.

    Args:
        me: The prefill rank.
        kept: Layers that it keeps.
        wanted: Layers of the decode rank, in its order.
        rank: The decode rank.
        ranks: Decode ranks.

    Returns:
        Places in `wanted`.

    Raises:
        ValueError: The ranks of the two sides do not have the same heads; it says so.
    """
    slices = _slices(me, ranks)
    if me.rank * slices // me.ranks != rank * slices // ranks:
        return ()
    here, there = me.ranks // slices, ranks // slices
    shared = me.rank % here == rank % there % here
    found = set(kept)
    return tuple(n for n, name in enumerate(wanted) if name in found and (name in me.owned or shared))


def askers(me: Holding, kept: Sequence[str], wanted: Sequence[str], ranks: int) -> int:
    """How many of the decode ranks this prefill rank gives something to."""
    return sum(bool(given(me, kept, wanted, rank, ranks)) for rank in range(ranks))


def _slices(me: Holding, ranks: int) -> int:
    """Sets of heads, of which each rank has one."""
    if me.heads is None:
        if ranks == me.ranks and not me.owned:
            return ranks
        raise ValueError("a draft with other KV heads than its model is only given from rank to like rank, unsplit")
    slices = min(me.heads, me.ranks)
    if slices != min(me.heads, ranks) or me.ranks % slices or ranks % slices:
        raise ValueError(
            f"{me.heads} KV heads lie differently on {me.ranks} ranks here and {ranks} ranks there: "
            "as many ranks, or no fewer ranks than heads on either side"
        )
    return slices


class Givers:
    """
    At the decode side's scheduler: who gives what.

    Args:
        ranks: Decode ranks.
    """

    def __init__(self, ranks: int) -> None:
        self._ranks = ranks
        self._told: dict[tuple[str, int], Gives] = {}

    def heard(self, gives: Gives) -> None:
        """A prefill rank said what it gives; a later process counts more than an earlier one."""
        known = self._told.get((gives.name, gives.rank))
        if known is None or known.epoch <= gives.epoch:
            self._told[gives.name, gives.rank] = gives

    def writers(self, name: str, peers: Mapping[tuple[str, int], Party]) -> tuple[Party, ...]:
        """
        All that write a transfer from this engine.

        Args:
            name: The prefill engine's.
            peers: Those that have said Hello and live, by name and rank.

        Returns:
            None of them while a layer of any decode rank has no giver, or two.
        """
        return () if self.missing(name, peers) else tuple(self._givers(name, peers))

    def missing(self, name: str, peers: Mapping[tuple[str, int], Party]) -> str:
        """What stands against a transfer from this engine; empty if nothing does."""
        givers = self._givers(name, peers)
        for rank in range(self._ranks):
            mine = [gives for party, gives in givers.items() if party.rank % self._ranks == rank]
            layers = sorted(layer for gives in mine for layer in gives.layers)
            count = max((gives.of for gives in mine), default=0)
            if not count:
                return f"nothing is given to rank {rank}"
            if layers != list(range(count)):
                none, twice = (
                    sorted(set(range(count)) - set(layers)),
                    sorted({n for n in layers if layers.count(n) > 1}),
                )
                return f"of {count} layers of rank {rank} nobody gives {none}, several give {twice}"
        return ""

    def _givers(self, name: str, peers: Mapping[tuple[str, int], Party]) -> dict[Party, Gives]:
        found = {}
        for (engine, rank), party in sorted(peers.items()):
            gives = self._told.get((engine, rank))
            if engine == name and gives is not None and gives.epoch == party.epoch and gives.layers:
                found[party] = gives
        return found
