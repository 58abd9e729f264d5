"""Answers of workers, put together."""

from __future__ import annotations

from typing import Any

from guard.server import workers_view


def budget(**fields: Any) -> dict[str, Any]:
    return {"in_flight": 1, "allowed": 3, "guards": 1, "degraded": False, "refused": 2, **fields}


def status(**fields: Any) -> dict[str, Any]:
    base = {
        "version": "1", "now": 10.0, "started_at": 5.0, "draining": False, "in_flight": 3, "policies": ["default"],
        "policy_generation": 2, "policy_reload_ok": True, "fleet": False, "retries": budget(),
    }  # fmt: skip
    return base | fields


def replica(**fields: Any) -> dict[str, Any]:
    base = {
        "name": "a", "url": "http://a", "engine": None, "standing": "ready", "in_flight": 2, "weight": 1.0,
        "ejections": {"quality": 0, "transport": 1}, "reason": "", "baseline": None,
        "suspected": "",
    }  # fmt: skip
    return base | fields


def test_the_status_of_all_is_the_sum_and_the_worst() -> None:
    told = workers_view.status(
        [status(), status(now=11.0, started_at=4.0, in_flight=4, policy_reload_ok=False, policy_generation=1)],
        draining=False,
        workers=3,
    )
    assert (told["now"], told["started_at"], told["in_flight"]) == (11.0, 4.0, 7)
    assert (told["policy_reload_ok"], told["policy_generation"], told["draining"]) == (False, 1, False)
    assert told["retries"] == {"in_flight": 2, "allowed": 6, "guards": 2, "degraded": False, "refused": 4}
    assert told["workers"] == {"serving": 2, "of": 3}
    assert workers_view.status([status()], draining=True, workers=1)["draining"]


def test_a_budget_that_is_shared_is_not_counted_twice() -> None:
    shared = [status(fleet=True), status(fleet=True, retries=budget(in_flight=2, degraded=True, guards=4))]
    told = workers_view.status(shared, draining=False, workers=2)["retries"]
    assert told == {"in_flight": 2, "allowed": 3, "guards": 4, "degraded": True, "refused": 4}


def test_a_replica_is_as_the_worker_sees_it_that_thinks_least_of_it() -> None:
    learned = {"probability": 0.6, "learned": True, "streams": 30, "weak_draft": False}
    young = {"probability": None, "learned": False, "streams": 3, "weak_draft": False}
    other = {"probability": 0.7, "learned": True, "streams": 10, "weak_draft": True}
    (told,) = workers_view.replicas(
        [
            [replica(baseline=learned)],
            [replica(standing="ejected", reason="bad", engine="vllm", weight=0.5, baseline=other)],
            [replica(baseline=young, suspected="2 of 6 answers bad")],
        ]
    )
    assert told["suspected"] == "2 of 6 answers bad"
    assert (told["standing"], told["reason"], told["engine"]) == ("ejected", "bad", "vllm")
    assert (told["in_flight"], told["weight"]) == (6, 0.833)
    assert told["ejections"] == {"quality": 0, "transport": 3}
    assert told["seen_by"] == {"workers": 1, "of": 3}
    assert told["baseline"] == {"probability": 0.625, "learned": True, "streams": 43, "weak_draft": True}


def test_replicas_that_only_one_worker_has_found_are_there() -> None:
    told = workers_view.replicas([[replica()], [replica(), replica(name="b", standing="new kind")]])
    assert [one["name"] for one in told] == ["a", "b"]
    assert told[0]["baseline"] is None


def test_baselines_by_name() -> None:
    one = {"probability": 0.5, "learned": True, "streams": 20, "weak_draft": False}
    assert workers_view.baselines([{"a": one}, {}]) == {"a": one}


def test_the_shadow_of_all_and_the_policies_with_it() -> None:
    def shadow(count: int, *latest: str) -> dict[str, Any]:
        pair = {"live": "pass", "shadow": "retry", "attempts": count}
        return {"shadow": "strict", "compared": 10 * count, "disagreed": [pair] if count else [], "latest": [*latest]}

    told = workers_view.shadow([shadow(1, "a", "b"), shadow(2, "c"), shadow(0)])
    assert (told["shadow"], told["compared"], told["latest"]) == ("strict", 30, ["a", "c", "b"])
    assert told["disagreed"] == [{"live": "pass", "shadow": "retry", "attempts": 3}]
    page = {"policies": ["p"], "signals": {}, "generation": 3, "reload_ok": True, "shadow": shadow(1)}
    both = workers_view.sources([page, {**page, "generation": 2, "reload_ok": False}])
    assert (both["policies"], both["generation"], both["reload_ok"]) == (["p"], 2, False)
    assert both["shadow"]["compared"] == 20


def test_exchanges_are_in_the_order_of_their_ends() -> None:
    told = workers_view.exchanges([[{"ended_at": 3.0}, {"ended_at": 1.0}], [], [{"ended_at": 2.0}]], 2)
    assert [line["ended_at"] for line in told] == [3.0, 2.0]
