"""Rule 1: the table of legal moves."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from guard.backend import kv
from guard.backend.kv.states import LEGAL, IllegalMove, Move, State, as_markdown, check_move


def test_the_readme_prints_the_table() -> None:
    readme = (Path(kv.__file__).parent / "README.md").read_text(encoding="utf-8")
    assert as_markdown() in readme


@pytest.mark.parametrize(("before", "move", "after"), list(product(State, Move, State)))
def test_what_is_not_in_the_table_raises(before: State, move: Move, after: State) -> None:
    if after in LEGAL.get((before, move), ()):
        check_move(before, move, after)
    else:
        with pytest.raises(IllegalMove, match=f"no {move} leads from {before} to {after}"):
            check_move(before, move, after)


def test_only_a_release_or_a_settlement_frees_a_block_in_use() -> None:
    for state in (State.HELD, State.DRAINING, State.QUARANTINED):
        frees = {move for (before, move), after in LEGAL.items() if before is state and State.FREE in after}
        assert frees <= {Move.RELEASE, Move.SETTLE}


def test_nothing_takes_a_quarantined_block_back_into_use() -> None:
    for move in Move:
        assert State.HELD not in LEGAL.get((State.QUARANTINED, move), ())
