"""Other thresholds: the one named is changed, nothing else, and what is not there is refused."""

from __future__ import annotations

import copy
import math

import pytest
import yaml

from guard.dashboard.edits import MOST_EDITS, Edit, edited, leaves
from guard.detect.catalogue import CATALOGUE
from guard.errors import ConfigError
from guard.policy.load import load_policy
from guard.policy.written import written
from guard.shipped import find_policy

SOURCE = written(find_policy("default"))


def test_one_threshold_changes_and_the_source_stays() -> None:
    before = copy.deepcopy(SOURCE)
    out = edited(SOURCE, [Edit(rule="garbled", leaf=0, field="to", value=0.9), Edit(field="hold_at", value=0.25)])
    assert before == SOURCE
    rules = {rule.name: rule for rule in load_policy(yaml.safe_dump(out), CATALOGUE).rules}
    live = {rule.name: rule for rule in find_policy("default").rules}
    assert [name for name in rules if rules[name] != live[name]] == ["garbled"]
    assert leaves(written_rule(out, "garbled"))[0] == {
        "signal": "acceptance_fall", "window": "32 tokens", "from": 0.4, "to": 0.9,
    }  # fmt: skip
    assert out["hold_back"]["hold_at"] == 0.25  # type: ignore[index, call-overload]


def written_rule(source: object, name: str) -> object:
    assert isinstance(source, dict)
    return next(rule["when"] for rule in source["rules"] if rule["name"] == name)


def test_leaves_are_numbered_as_they_are_written() -> None:
    when = {"all": [{"signal": "a"}, {"not": {"signal": "b"}}, {"any": [{"signal": "c"}, {"signal": "d"}]}]}
    assert [leaf["signal"] for leaf in leaves(when)] == ["a", "b", "c", "d"]  # type: ignore[index, call-overload]


@pytest.mark.parametrize(
    ("edit", "complaint"),
    [
        (Edit(rule="nope", field="to", value=1.0), "no rule"),
        (Edit(rule="garbled", leaf=99, field="to", value=1.0), "no number 99"),
        (Edit(rule="garbled", leaf=-1, field="to", value=1.0), "no number -1"),
        (Edit(rule="garbled", leaf=0, field="above", value=1.0), "no 'above'"),
        (Edit(rule="garbled", leaf=0, field="to", value=math.nan), "no number"),
        (Edit(field="to", value=0.5), "no 'to'"),
    ],
)
def test_what_is_not_there_cannot_be_edited(edit: Edit, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        edited(SOURCE, [edit])


def test_their_number_is_bounded() -> None:
    with pytest.raises(ConfigError, match="at most"):
        edited(SOURCE, [Edit(field="hold_at", value=0.5)] * (MOST_EDITS + 1))
