"""Choice: affinity, load, other replicas first, panic; ejection: evidence, cap, other guards."""

from __future__ import annotations

from collections import Counter

import pytest

from guard.errors import UpstreamError
from guard.fleet.affinity import stable_hash
from guard.fleet.fleet import Ejection, Fleet
from guard.fleet.replica import Replica, Standing
from guard.fleet.settings import AffinitySettings, EjectionSettings, PoolSettings
from guard.types import ReplicaId


def fleet(*names: str, settings: PoolSettings | None = None) -> Fleet:
    made = Fleet(settings)
    for name in names or [f"r{i}" for i in range(8)]:
        made.add(ReplicaId(name))
    return made


def named(made: Fleet, name: str) -> Replica:
    return next(r for r in made if r.name == name)


def eject(made: Fleet, *names: str) -> None:
    made.adopt([Ejection(ReplicaId(name), 60.0, "bad") for name in names], 0.0)


# -- choice ---------------------------------------------------------------------------------------------


def test_a_prompt_keeps_its_replica() -> None:
    made = fleet()
    assert len({made.choose(0.0, key=42).name for _ in range(20)}) == 1


def test_no_replica_gets_more_than_its_share_whatever_the_prompts() -> None:
    made = fleet()
    for _ in range(80):
        made.choose(0.0, key=42).in_flight += 1
    assert max(r.in_flight for r in made) <= 13  # ceil(81 / 8 * 1.25)


@pytest.mark.parametrize("factor", [float("inf"), 1e308])
def test_without_a_bound_a_prompt_keeps_its_replica_however_busy_it_is(factor: float) -> None:
    made = fleet("a", "b", settings=PoolSettings(affinity=AffinitySettings(load_factor=factor)))
    first = made.choose(0.0, key=7)
    first.in_flight = 10_000
    assert made.choose(0.0, key=7) is first


def test_without_a_key_the_least_busy_is_asked_and_ties_rotate() -> None:
    made = fleet("a", "b")
    named(made, "a").in_flight = 1
    assert made.choose(0.0).name == "b"
    named(made, "a").in_flight = 0
    assert set(Counter(made.choose(0.0).name for _ in range(50))) == {"a", "b"}


def test_a_retry_goes_elsewhere_first_even_where_it_is_busier() -> None:
    made = fleet("a", "b")
    named(made, "b").in_flight = 9
    assert made.choose(0.0, key=1, tried={ReplicaId("a")}).name == "b"


def test_what_is_drained_is_chosen_for_nothing_not_even_in_panic_and_counts_for_none() -> None:
    made = fleet("a", "b", "c")
    made.drain({"a", "later"})
    assert {made.choose(0.0, key=key, tried={ReplicaId("b")}).name for key in range(50)} <= {"b", "c"}
    eject(made, "b", "c")
    assert made.panics(0.0)
    assert {made.choose(0.0, key=key).name for key in range(50)} == {"b", "c"}
    made.add(ReplicaId("later"))
    assert named(made, "later").standing(0.0) is Standing.DRAINED
    made.drain({"a", "b", "c", "later"})
    with pytest.raises(UpstreamError, match="every replica is drained") as caught:
        made.choose(0.0)
    assert caught.value.kind == "unavailable"
    made.drain(())
    assert {made.choose(100.0, key=key).name for key in range(50)} == {"a", "b", "c", "later"}


def test_only_with_no_replica_or_all_drained_is_nobody_asked() -> None:
    with pytest.raises(UpstreamError, match="no replica is known") as caught:
        Fleet().choose(0.0)
    assert caught.value.kind == "unavailable"
    made = fleet("ejected", "failed", "unhealthy", "busy")
    eject(made, "ejected")
    named(made, "busy").asked_to_wait(60.0, 0.0)
    for _ in range(20):
        named(made, "failed").failed(0.0, "no answer")
        named(made, "unhealthy").checked(good=False, now=0.0)
    standings = [Standing.EJECTED, Standing.FAILED, Standing.UNHEALTHY, Standing.BUSY]
    assert [replica.standing(0.0) for replica in made] == standings
    for name in ("ejected", "failed", "unhealthy", "busy"):
        alone = {"ejected", "failed", "unhealthy", "busy"} - {name}
        made.drain(alone)
        assert made.choose(0.0).name == name


def test_a_retry_takes_the_least_busy_of_the_others() -> None:
    made = fleet("a", "b", "c")
    named(made, "b").in_flight = 1
    assert made.choose(0.0, key=1, tried={ReplicaId("a")}).name == "c"


def test_a_tried_replica_in_choice_comes_before_one_left_out() -> None:
    made = fleet("a", "b", "c")
    eject(made, "b")
    assert made.choose(1.0, tried={ReplicaId("a"), ReplicaId("c")}).name in ("a", "c")


def test_the_only_replica_is_asked_again() -> None:
    made = fleet("a")
    assert made.choose(0.0, tried={ReplicaId("a")}).name == "a"


def test_an_engine_is_kept_where_there_is_one() -> None:
    made = fleet("a", "b")
    named(made, "a").engine, named(made, "b").engine = "vllm", "sglang"
    named(made, "a").in_flight = 5
    assert made.choose(0.0, tried={ReplicaId("a")}, engine="vllm").name == "a"
    assert made.choose(0.0, engine="llama.cpp").name == "b"


def test_an_empty_fleet_is_a_plain_fault() -> None:
    made = fleet("a")
    made.remove(ReplicaId("a"))
    made.remove(ReplicaId("a"))
    with pytest.raises(UpstreamError, match="no replica"):
        made.choose(0.0)


def test_the_ejected_and_the_paused_are_left_out() -> None:
    made = fleet("a", "b", "c")
    eject(made, "a")
    named(made, "b").failed(0.0, "reset")
    assert {made.choose(0.5, key=k).name for k in range(50)} == {"c"}
    assert {made.choose(2.0, key=k).name for k in range(50)} == {"b", "c"}


def test_when_all_are_paused_they_are_asked_nevertheless_and_the_unhealthy_last() -> None:
    made = fleet("a", "b", "c")
    named(made, "a").failed(0.0, "reset")
    for name in ("b", "c"):
        for _ in range(2):
            named(made, name).checked(good=False, now=0.0)
    assert made.choose(0.5).name == "a"


def test_panic_voids_ejections_but_not_health() -> None:
    made = fleet("a", "b", "c", "d")
    eject(made, "a", "b")
    assert not made.panics(1.0)
    assert {made.choose(1.0, key=stable_hash(str(k))).name for k in range(99)} == {"c", "d"}
    for _ in range(2):
        named(made, "c").checked(good=False, now=1.0)
    assert made.panics(1.0)
    assert {made.choose(1.0, key=stable_hash(str(k))).name for k in range(99)} == {"a", "b", "d"}


def test_traffic_returns_gradually_after_an_ejection() -> None:
    made = fleet()
    eject(made, "r0")
    keys = [stable_hash(str(k)) for k in range(2000)]
    shares = [sum(made.choose(t, key=k).name == "r0" for k in keys) / 2000 for t in (30.0, 61.0, 75.0, 120.0)]
    assert shares[0] == 0.0
    assert 0.005 < shares[1] < 0.03
    assert 0.04 < shares[2] < 0.09
    assert 0.1 < shares[3] < 0.15


def test_names_are_unique_and_newcomers_start_slowly() -> None:
    made = fleet("a")
    with pytest.raises(ValueError, match="two replicas"):
        made.add(ReplicaId("a"))
    assert made.add(ReplicaId("b"), 100.0).weight(100.0) == pytest.approx(0.1)
    assert ReplicaId("b") in made
    assert len(made) == 2


# -- ejection -------------------------------------------------------------------------------------------


def counts(**both: tuple[int, int]) -> dict[ReplicaId, tuple[int, int]]:
    return {ReplicaId(name): value for name, value in both.items()}


def test_a_bad_replica_is_ejected_for_the_fleet_to_know() -> None:
    made = fleet("a", "b", "c")
    (ejection,) = made.judge(counts(a=(14, 6), b=(70, 0), c=(70, 0)), 100.0)
    assert (ejection.replica, ejection.seconds) == ("a", 60.0)
    assert named(made, "a").standing(159.0) is Standing.EJECTED
    assert made.judge(counts(a=(14, 6), b=(70, 0), c=(70, 0)), 101.0) == []


def test_the_share_ejected_is_capped_and_a_lone_replica_never() -> None:
    bad = counts(**{f"r{i}": (10, 30) for i in range(3)}, **{f"r{i}": (40, 0) for i in range(3, 8)})
    settings = PoolSettings(ejection=EjectionSettings(share=0.25))
    assert len(fleet(settings=settings).judge(bad, 0.0)) == 2
    assert fleet("a").judge(counts(a=(0, 99)), 0.0) == []
    two = fleet("a", "b")
    assert [e.replica for e in two.judge(counts(a=(14, 6), b=(140, 0)), 0.0)] == ["a"]


def test_a_fleet_that_is_bad_throughout_loses_nobody() -> None:
    assert fleet().judge(counts(**{f"r{i}": (10, 30) for i in range(8)}), 0.0) == []


def test_ejections_of_other_guards_are_adopted_once() -> None:
    made = fleet("a", "b")
    told = [Ejection(ReplicaId("a"), 60.0, "bad"), Ejection(ReplicaId("gone"), 60.0, "bad")]
    assert made.adopt(told, 0.0) == ["a"]
    assert made.adopt(told, 0.5) == []
    assert named(made, "a").quality.number == 1


def test_a_returned_replica_that_is_still_bad_goes_at_once_and_for_longer() -> None:
    made = fleet("a", "b")
    made.judge(counts(a=(14, 6), b=(140, 0)), 0.0)
    (again,) = made.judge(counts(a=(2, 3), b=(300, 0)), 70.0)
    assert again.seconds == 180.0


# -- suspicion ------------------------------------------------------------------------------------------


def test_a_replica_that_came_back_is_suspect_until_it_is_forgiven() -> None:
    made = fleet("a", "b", "c")
    a = ReplicaId("a")
    assert made.suspicion(a, 0.0) == ""
    eject(made, "a")
    forgiven = 60.0 + made.settings.ejection.forgive
    for now in (1.0, 61.0, forgiven):
        assert "bad" in made.suspicion(a, now)
    assert made.suspicion(a, forgiven + 1.0) == ""
    assert made.suspicion(ReplicaId("b"), 61.0) == ""
    assert made.suspicion(ReplicaId("nobody"), 61.0) == ""


def test_one_that_begins_to_stand_out_is_suspect_before_it_is_left_out() -> None:
    made = fleet()
    counts = {ReplicaId(f"r{i}"): (20, 0) for i in range(8)}
    assert made.judge({**counts, ReplicaId("r0"): (10, 1)}, 0.0) == []
    assert made.suspicion(ReplicaId("r0"), 0.0) == ""
    assert made.judge({**counts, ReplicaId("r0"): (10, 2)}, 1.0) == []
    assert made.suspicion(ReplicaId("r0"), 1.0).startswith("2 of 12 answers bad, 0 of 140 elsewhere")
    assert made.judge(counts, 2.0) == []
    assert made.suspicion(ReplicaId("r0"), 2.0) == "", "the window has passed"


def test_nobody_is_suspect_where_a_wrong_alarm_could_not_be_mended() -> None:
    alone = fleet("a")
    eject(alone, "a")
    assert alone.suspicion(ReplicaId("a"), 61.0) == ""
    both = fleet("a", "b")
    eject(both, "a", "b")
    assert both.suspicion(ReplicaId("a"), 61.0) == ""
    panicking = fleet("a", "b", "c", "d")
    eject(panicking, "a")
    assert panicking.suspicion(ReplicaId("a"), 61.0)
    for name in ("b", "c", "d"):
        for _ in range(2):
            named(panicking, name).checked(good=False, now=60.0)
    assert panicking.suspicion(ReplicaId("a"), 61.0) == ""


def test_a_fleet_that_is_bad_throughout_has_no_suspect() -> None:
    made = fleet()
    made.judge({ReplicaId(f"r{i}"): (14, 6) for i in range(8)}, 0.0)
    assert all(made.suspicion(r.name, 0.0) == "" for r in made)
