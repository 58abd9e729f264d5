"""The nine rules as clauses."""

from __future__ import annotations

import pytest

from guard.backend.kv.rules import ALL, CLAUSES, Rules, without, without_rule


def test_every_clause_belongs_to_exactly_one_rule() -> None:
    clauses = [clause for group in CLAUSES.values() for clause in group]
    assert sorted(clauses) == sorted(Rules.__struct_fields__)
    assert list(CLAUSES) == list(range(1, 10))


def test_all_are_in_force_by_default() -> None:
    assert all(getattr(ALL, name) for name in Rules.__struct_fields__)
    assert Rules() == ALL


def test_a_rule_is_switched_off_with_all_its_clauses() -> None:
    rules = without_rule(8)
    assert not rules.publish_complete
    assert not rules.separate_releases
    assert rules.leases


def test_an_unknown_clause_is_named() -> None:
    with pytest.raises(ValueError, match="no such clause: luck"):
        without("luck", "leases")


def test_each_clause_says_which_rule_it_belongs_to() -> None:
    text = Rules.__doc__ or ""
    for number, clauses in CLAUSES.items():
        for clause in clauses:
            assert f"{clause}: [{number}]" in text
