"""
`check_integrity`: the books of a pool agree, and every block is in exactly one place (rule 9).

After every event in tests and in the model checker; on demand in production, where it costs one pass over all blocks.
"""

from __future__ import annotations

from collections import Counter

from guard.backend.kv.ids import BlockId
from guard.backend.kv.pool import Books, Pool, View, state_of
from guard.backend.kv.states import State
from guard.errors import GuardError


class IntegrityError(GuardError):
    """The books contradict themselves: a defect of this package or of a caller; no block may be handed out."""


def check_integrity(pool: Pool) -> None:
    """
    Pass if free + held + draining + quarantined + cached == total, and no block is in two places.

    Raises:
        IntegrityError: It is not so; the message names the first contradiction.
    """
    view = pool.view()
    _check_places(view)
    for block, books in enumerate(view.books):
        _check_block(view, BlockId(block), books)
    _check_owners(view)
    keyed = sum(books.key is not None for books in view.books)
    _check(keyed == len(view.prefixes), "the prefix cache serves a block that does not have the key")


def _check_places(view: View) -> None:
    found = Counter(state_of(books) for books in view.books)
    _check(all(found[state] == view.counts[state] for state in State), "the counts are not those of the blocks")
    for name, places, state in (("free", view.free, State.FREE), ("cached", view.cached, State.CACHED)):
        _check(len(set(places)) == len(places), f"a block is in the {name} list twice")
        _check(len(places) == found[state], f"the {name} list has {len(places)} blocks of {found[state]}")
        _check(all(state_of(view.books[block]) is state for block in places), f"the {name} list has one in use")


def _check_block(view: View, block: BlockId, books: Books) -> None:
    _check(books.suspects <= books.leases, f"block {block} suspects a lease it does not have")
    _check(books.key is None or view.prefixes.get(books.key) == block, f"block {block}: another one has its key")
    for lease in books.leases:
        found = view.leases.get(lease)
        _check(found is not None and block in found.blocks, f"block {block} waits for lease {lease}, which has settled")


def _check_owners(view: View) -> None:
    for owner, blocks in view.owned.items():
        _check(len(set(blocks)) == len(blocks), f"{owner} has a block twice")
        _check(all(owner in view.books[block].holders for block in blocks), f"{owner} lists a block it does not hold")
    held = sum(len(books.holders) for books in view.books)
    _check(held == sum(map(len, view.owned.values())), "a block has a holder that does not list it")


def _check(holds: bool, message: str) -> None:
    if not holds:
        raise IntegrityError(message)
