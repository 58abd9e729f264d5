"""
Healthy answers that turn from sentences into something that has none, read as if the draft died just there.

That is the worst that acceptance can say of them: a draft that dies elsewhere finds either sentences, or what was
there before it died as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import yaml

from guard.core.monitor import Monitor
from guard.policy.judge import Judge
from guard.policy.schema import Policy
from guard.shipped import find_policy
from guard.types import Action, Channel, Sample, StepAcceptance

ANSWERS = yaml.safe_load((Path(__file__).parents[2] / "data" / "healthy_turns.yaml").read_text(encoding="utf-8"))
#: So that there is enough after every turn for all that looks at what follows a fall.
END = (
    " That is all of it, and if anything in it is not clear to you, ask me again and I will go through it with you "
    "piece by piece, as slowly as you like and as often as you want, until it is."
)
#: What is stopped: new words without end, of capitals alone or broken by numbers.
GIVEN_UP = {"airports", "chemistry"}
#: Characters from the turn to the place at which the draft dies.
PLACES = (-80, -40, 0, 40, 80)
_TOKEN = re.compile(r" ?[A-Za-z]{1,8}| ?[0-9]{1,3}|\n *| {2,}|[^\sA-Za-z0-9]{1,2}|\s|.")
#: Draft tokens kept in each verify step while the draft lives, of three.
_KEPT = (2, 3, 1, 3)


@cache
def judge(rule: str = "") -> Judge:
    policy: Policy = find_policy("default")
    rules = tuple(one for one in policy.rules if rule in ("", one.name))
    return Judge(Policy(name=policy.name, rules=rules, hold_back=policy.hold_back))


def samples(text: str, dies: int) -> Iterator[Sample]:
    """A text whose draft keeps nothing from a place on. Unit: characters."""
    tokens, place, steps = _TOKEN.findall(text), 0, 0
    while tokens:
        kept = 0 if place >= dies else _KEPT[steps % len(_KEPT)]
        piece, tokens = "".join(tokens[: kept + 1]), tokens[kept + 1 :]
        place, steps = place + len(piece), steps + 1
        yield Sample(0, ((Channel.CONTENT, piece),), kept + 1, (StepAcceptance(kept, 3, kept + 1, exact=True),))


def stopped(name: str, by: Judge) -> bool:
    """Whether it is, wherever near the turn the draft died."""
    answer = ANSWERS[name]
    before = answer["before"].strip()
    text = f"{before} {answer['turn'].strip()}{END}"
    for place in PLACES:
        monitor = Monitor(by, None, answer["prompt"])
        seen = [monitor.observe((sample,)).action for sample in samples(text, len(before) + place)]
        if any(action not in {Action.PASS, Action.HOLD} for action in seen):
            return True
    return False


@pytest.mark.parametrize("name", sorted(ANSWERS.keys() - GIVEN_UP))
def test_what_sentences_turn_into_is_not_taken_for_garbage(name: str) -> None:
    assert not stopped(name, judge())


def test_those_given_up_are_still_the_only_ones_and_one_is_because_its_sentences_broke_off() -> None:
    assert {name for name in GIVEN_UP if stopped(name, judge())} == GIVEN_UP
    assert [name for name in sorted(GIVEN_UP) if stopped(name, judge("broken-off"))] == ["chemistry"]
