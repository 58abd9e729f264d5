"""Prompts with one beginning meet on one replica, and only those of a lost replica move."""

from __future__ import annotations

from collections import Counter

from guard.fleet.affinity import distance, prefix_key, stable_hash

NAMES = [f"http://10.0.0.{i}:8000" for i in range(8)]
PLACES = {name: stable_hash(name) for name in NAMES}


def owner(key: int, names: list[str], **weights: float) -> str:
    return min(names, key=lambda n: distance(key, PLACES[n], weights.get(n, 1.0)))


def test_the_hash_is_the_same_in_every_process() -> None:
    assert stable_hash("guard") == 0xFC52800D49A270F0
    assert stable_hash("\ud800") != stable_hash("")


def test_only_the_beginning_decides() -> None:
    assert prefix_key("m", "same beginning, one end", 14) == prefix_key("m", "same beginning, another", 14)
    assert prefix_key("m", "same", 14) != prefix_key("n", "same", 14)
    assert prefix_key("m", "text", 0) is None
    assert prefix_key("m", "", 14) is None


def test_keys_spread_evenly() -> None:
    load = Counter(owner(stable_hash(str(i)), NAMES) for i in range(8000))
    assert min(load.values()) > 850
    assert max(load.values()) < 1150


def test_only_the_keys_of_a_lost_replica_move() -> None:
    keys = [stable_hash(str(i)) for i in range(2000)]
    for key in keys:
        before, after = owner(key, NAMES), owner(key, NAMES[1:])
        assert before == after or before == NAMES[0]


def test_a_weight_is_a_share() -> None:
    keys = [stable_hash(str(i)) for i in range(8000)]
    slow = [distance(k, PLACES[NAMES[0]], 0.1) < min(distance(k, PLACES[n], 1.0) for n in NAMES[1:]) for k in keys]
    assert abs(sum(slow) / 8000 - 0.1 / 7.1) < 0.005
