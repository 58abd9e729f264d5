"""
Healthy answers that go round by right, each round with a word of its own: rules on loops leave nearly all alone.

They are read as in test_answers_alike: the draft guesses every token.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import yaml

from guard.core.monitor import Monitor
from guard.policy.judge import Judge
from guard.shipped import find_policy
from guard.types import Action
from tests.unit.policy.test_answers_alike import samples

ANSWERS = yaml.safe_load((Path(__file__).parents[2] / "data" / "healthy_rounds.yaml").read_text(encoding="utf-8"))

#: What is still stopped: it says nothing new for longer than a round, or one word in fifty.
GIVEN_UP = {"log analysis", "rooms", "gingerbread"}


@cache
def judge(policy: str) -> Judge:
    return Judge(find_policy(policy))


def stopped(name: str, policy: str) -> list[str]:
    monitor = Monitor(judge(policy), None, ANSWERS[name]["prompt"])
    seen = [monitor.observe((sample,)) for sample in samples(ANSWERS[name]["text"])]
    return [verdict.reason for verdict in seen if verdict.action not in {Action.PASS, Action.HOLD}]


@pytest.mark.parametrize("name", sorted(ANSWERS.keys() - GIVEN_UP))
def test_what_goes_round_by_right_is_no_loop(name: str) -> None:
    assert not stopped(name, "default")


def test_those_given_up_are_still_the_only_ones() -> None:
    assert {name for name in GIVEN_UP if stopped(name, "default")} == GIVEN_UP


def test_for_code_none_is_given_up() -> None:
    assert not [name for name in ANSWERS if stopped(name, "coding-agents")]
