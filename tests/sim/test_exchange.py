"""The promises of one exchange in thousands of random worlds; and that the simulation would notice a broken one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from guard.core.delivery import StreamDelivery
from guard.core.events import SendBody
from guard.core.exchange import Exchange
from guard.core.factory import Shown
from guard.core.holdback import Held, HoldBack
from guard.core.ledger import Ledger
from tests.sim.exchange import main, simulate, simulate_all

SEEDS = 5000
PARTS = 10


@pytest.mark.parametrize("part", range(PARTS))
def test_every_promise_is_kept(part: int) -> None:
    each = SEEDS // PARTS
    outcomes, broken = simulate_all(part * each, each)
    assert broken == {}, "replay one with: python -m tests.sim.exchange --seed N --verbose"
    # The worlds are not all alike: every way to end comes about.
    assert len(outcomes) == 8


def test_a_seed_is_the_same_world_again_to_the_last_event() -> None:
    first: list[str] = []
    second: list[str] = []
    assert simulate(77, first) == simulate(77, second)
    assert first == second
    assert len(first) > 3


def _loses_a_chunk(whole: Callable[..., list[Held]]) -> Callable[..., list[Held]]:
    return lambda self: whole(self)[1:]


def _says_done(whole: Callable[..., Any]) -> Callable[..., Any]:
    def fail(self: StreamDelivery, failure: Any, record: Any) -> list[Any]:
        return [*whole(self, failure, record), SendBody(b"data: [DONE]\n\n")]

    return fail


def _forgets(whole: property) -> property:
    return property(lambda self: whole.fget(self)[:-1])


def _never(_: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *_: []


def _uncounted(_: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *_: None


@pytest.mark.parametrize(
    ("owner", "name", "spoil"),
    [
        (HoldBack, "flush", _loses_a_chunk),
        (StreamDelivery, "fail", _says_done),
        (Shown, "text", _forgets),
        (Exchange, "_abort", _never),
        (Ledger, "shown", _uncounted),
    ],
    ids=[
        "text is lost",
        "a failure looks whole",
        "a continuation misses a letter",
        "no abort",
        "tokens shown are not counted",
    ],
)
def test_a_defect_is_found(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], owner: type, name: str, spoil: Any
) -> None:
    monkeypatch.setattr(owner, name, spoil(getattr(owner, name)))
    _, broken = simulate_all(0, 300)
    assert broken
    seed = min(broken)
    assert main(["--seed", str(seed), "--verbose"]) == 1
    said = capsys.readouterr().out
    assert broken[seed] in said
    assert "attempt 1 begins" in said
