"""The prompt's fault is not charged to the replicas."""

from __future__ import annotations

from guard.fleet.evidence import Answer, charges
from guard.types import ReplicaId

A, B = ReplicaId("a"), ReplicaId("b")


def test_bad_here_and_good_there_speaks_of_the_replica() -> None:
    assert charges([Answer(A, bad=True), Answer(B, bad=False)]) == [(A, True), (B, False)]


def test_bad_on_two_replicas_and_good_on_none_speaks_of_the_prompt() -> None:
    assert charges([Answer(A, bad=True), Answer(B, bad=True)]) == []
    assert charges([Answer(A, bad=True), Answer(B, bad=True), Answer(A, bad=None)]) == []


def test_bad_twice_on_the_same_replica_is_no_control() -> None:
    assert charges([Answer(A, bad=True), Answer(A, bad=True)]) == [(A, True), (A, True)]


def test_what_cannot_be_judged_counts_for_nobody() -> None:
    assert charges([Answer(A, bad=None)]) == []
    assert charges([]) == []
