"""guard.backend.vllm.push.givers: every layer of every decode rank has one giver, or nothing is asked for."""

from __future__ import annotations

from itertools import product

import pytest

from guard.backend.kv.ids import Party
from guard.backend.kv.layer_split import divide, replica_group
from guard.backend.vllm.push.givers import Givers, Holding, askers, given, link_rank
from guard.backend.vllm.push.wire import Gives

NAMES = [f"layer.{number}" for number in range(6)]
DRAFTS = ["draft.0", "draft.1"]


def keeps(rank: int, ranks: int, heads: int, *, split: bool) -> tuple[Holding, list[str]]:
    """A prefill rank, and the layers that it keeps."""
    if not split:
        return Holding(rank, ranks, heads), [*NAMES, *DRAFTS]
    group = replica_group(rank, ranks, heads)
    owned = [NAMES[each] for each in divide(len(NAMES), len(group)).layers_of(rank - group.start)]
    return Holding(rank, ranks, heads, frozenset(owned)), [*owned, *DRAFTS]


def told(prefill: int, decode: int, heads: int, *, split: bool) -> list[Gives]:
    """What all prefill ranks say to all decode ranks."""
    wanted = [*NAMES, *DRAFTS]
    found = []
    for rank, to in product(range(prefill), range(decode)):
        me, kept = keeps(rank, prefill, heads, split=split)
        layers = given(me, kept, wanted, to, decode)
        found.append(Gives("P", link_rank(rank, to, decode), 5, prefill, layers, len(wanted)))
    return found


def heard(gives: list[Gives], decode: int) -> tuple[Givers, dict[tuple[str, int], Party]]:
    givers = Givers(decode)
    for each in gives:
        givers.heard(each)
    return givers, {("P", each.rank): Party("P", each.rank, each.epoch) for each in gives if each.layers}


SHAPES = [
    *(((prefill, decode, 1), True) for prefill, decode in product((2, 3, 4), (1, 2, 3, 4))),
    *(((4, decode, 2), True) for decode in (2, 4, 8)),
    *(((prefill, decode, 1), False) for prefill, decode in product((1, 2, 4), (1, 2, 4))),
    *(((ranks, ranks, heads), False) for ranks, heads in ((2, 8), (4, 2), (8, 8))),
]


@pytest.mark.parametrize(("ranks", "split"), SHAPES)
def test_all_ranks_together_give_every_layer_once(ranks: tuple[int, int, int], split: bool) -> None:
    prefill, decode, heads = ranks
    gives = told(*ranks, split=split)
    givers, peers = heard(gives, decode)
    assert givers.missing("P", peers) == ""
    assert set(givers.writers("P", peers)) == set(peers.values())
    for each in gives:
        # Whoever gives has the heads of whoever gets.
        rank, to = divmod(each.rank, decode)
        slices = min(prefill, heads)
        assert not each.layers or rank * slices // prefill == to * slices // decode
    for rank in range(prefill):
        me, kept = keeps(rank, prefill, heads, split=split)
        mine = sum(bool(each.layers) for each in gives if each.rank // decode == rank)
        assert askers(me, kept, [*NAMES, *DRAFTS], decode) == mine


@pytest.mark.parametrize("left_out", range(4))
def test_without_one_owners_layers_nobody_is_asked(left_out: int) -> None:
    gives = told(2, 2, 1, split=True)
    givers, peers = heard(gives, 2)
    assert len(givers.writers("P", peers)) == 4
    # Its process is gone, or was never heard of.
    rest = {key: party for key, party in peers.items() if party.rank != left_out}
    assert givers.writers("P", rest) == ()
    assert f"rank {left_out % 2} nobody gives" in givers.missing("P", rest)
    # It lives, and gives nothing, or less than it should.
    for layers in ((), gives[left_out].layers[1:]):
        fewer = [each if each.rank != left_out else Gives("P", left_out, 5, 2, layers, 8) for each in gives]
        assert heard(fewer, 2)[0].writers("P", peers) == ()


def test_a_layer_that_two_give_is_not_asked_for() -> None:
    gives = [Gives("P", rank, 5, 2, (0, 1), 2) for rank in range(2)]
    givers, peers = heard(gives, 1)
    assert givers.writers("P", peers) == ()
    assert "several give [0, 1]" in givers.missing("P", peers)


def test_what_an_earlier_process_gave_does_not_count() -> None:
    gives = told(2, 1, 1, split=True)
    givers, peers = heard(gives, 1)
    again = Party("P", 1, 6)
    assert givers.writers("P", {**peers, ("P", 1): again}) == ()
    givers.heard(Gives("P", 1, 6, 2, gives[1].layers, gives[1].of))
    givers.heard(gives[1])
    assert givers.writers("P", {**peers, ("P", 1): again}) == (Party("P", 0, 5), again)
    assert givers.writers("Q", peers) == ()
    assert givers.missing("Q", peers) == "nothing is given to rank 0"


def test_a_layer_that_the_prefill_side_has_not_is_missed() -> None:
    layers = given(Holding(), NAMES, [*NAMES, "other"], 0, 1)
    givers, peers = heard([Gives("P", 0, 5, 1, layers, 7)], 1)
    assert givers.missing("P", peers) == "of 7 layers of rank 0 nobody gives [6], several give []"
    # The other way round is a draft that the decode side does without.
    assert given(Holding(), [*NAMES, "other"], NAMES, 0, 1) == tuple(range(6))


@pytest.mark.parametrize(("prefill", "decode", "heads"), [(2, 1, 8), (2, 4, 8), (4, 1, 2), (2, 4, 3)])
def test_ranks_with_other_heads_are_refused(prefill: int, decode: int, heads: int) -> None:
    with pytest.raises(ValueError, match=f"{heads} KV heads lie differently on {prefill} ranks"):
        given(Holding(0, prefill, heads), NAMES, NAMES, 0, decode)


def test_a_draft_with_heads_of_its_own_goes_from_rank_to_like_rank() -> None:
    assert given(Holding(1, 2, None), NAMES, NAMES, 1, 2) == tuple(range(6))
    assert given(Holding(1, 2, None), NAMES, NAMES, 0, 2) == ()
    for me, ranks in ((Holding(1, 2, None), 1), (Holding(1, 2, None, frozenset(NAMES)), 2)):
        with pytest.raises(ValueError, match="rank to like rank"):
            given(me, NAMES, NAMES, 0, ranks)
