"""Damaged policies are refused with a place and a reason, or they are right; nothing else can happen."""

from __future__ import annotations

import copy
import math
import random
from pathlib import Path
from typing import Any

import pytest
import yaml

from guard.detect.catalogue import CATALOGUE
from guard.errors import ConfigError
from guard.policy.judge import Judge, score
from guard.policy.load import load_policy
from guard.policy.schema import Policy
from guard.types import Finding

FOLDER = Path(__file__).parents[3] / "policies"
NAMES = ("coding-agents", "default", "published", "strict", "text-only")
TEXTS = [(FOLDER / f"{name}.yaml").read_text(encoding="utf-8") for name in NAMES]
DATA = [yaml.safe_load(text) for text in TEXTS]
KEYS = [
    "above",
    "below",
    "from",
    "to",
    "window",
    "after",
    "for",
    "not",
    "all",
    "any",
    "match",
    "kinds",
    "extends",
    "x",
    1,
]
VALUES: list[Any] = [
    None, True, -1, 0.5, 1e308, math.nan, math.inf, "", "x", "default", "12 tokens", "5 steps", [], {}, [1], {"a": 1},
    "garbled", "note", "pass", ["a", "a"], {"above": 1}, {"signal": "garble", "above": 0.5},
]  # fmt: skip


def damage(dice: random.Random, data: Any) -> None:
    """Replace, remove, add or double something somewhere."""
    node = data
    while isinstance(node, dict | list) and node:
        key: Any = dice.choice(list(node)) if isinstance(node, dict) else dice.randrange(len(node))
        if isinstance(node[key], dict | list) and node[key] and dice.random() < 0.75:
            node = node[key]
            continue
        choice = dice.random()
        if choice < 0.5:
            node[key] = copy.deepcopy(dice.choice(VALUES))
        elif choice < 0.7:
            del node[key]
        elif isinstance(node, dict):
            node[dice.choice(KEYS)] = copy.deepcopy(dice.choice(VALUES))
        else:
            node.append(copy.deepcopy(node[key]))
        return


def load(seed: int) -> Policy | ConfigError:
    dice = random.Random(seed)
    data = copy.deepcopy(dice.choice(DATA))
    for _ in range(dice.randint(1, 3)):
        damage(dice, data)
    try:
        return load_policy(yaml.safe_dump(data), CATALOGUE, "p.yaml", lambda _name, _path: (TEXTS[0], "parent.yaml"))
    except ConfigError as error:
        return error


@pytest.mark.parametrize("seed", range(100))
def test_damage(seed: int) -> None:
    found = load(seed)
    if isinstance(found, ConfigError):
        assert found.line is not None
        assert 0 < len(found.message) < 400
        return
    judge, dice = Judge(found), random.Random(seed)
    readings = {ref: dice.choice([math.nan, 0, 0.05, 0.3, 0.7, 1, 6, 20, 400]) for ref in judge.refs}
    verdict = judge.decide(
        readings.__getitem__, lambda ref: Finding(ref, readings[ref], 7, str(ref)), 500, 0, judge.state()
    )
    highest = max(score(rule.when, readings.__getitem__, 500) for rule in found.rules)
    assert verdict.suspicion <= highest <= 1.0
    assert (highest >= found.hold_back.act_at) or not verdict.rule
