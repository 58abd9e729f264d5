"""The gate counts what is inside, whatever order requests leave in."""

from __future__ import annotations

import asyncio
from hashlib import sha256

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from guard.config import AccessSettings, ApiKey, Limits
from guard.errors import RequestError
from guard.server.gate import MOST_PREFLIGHTS, PREFLIGHT, Gate, Held

ACCESS = AccessSettings(keys=[ApiKey(name=n, sha256=sha256(n.encode()).hexdigest()) for n in ("a", "b")])


def key(name: str) -> CIMultiDictProxy[str]:
    return CIMultiDictProxy(CIMultiDict({"x-api-key": name}))


NOBODY = CIMultiDictProxy(CIMultiDict())


def refusal(gate: Gate, headers: CIMultiDictProxy[str], target: str = "/") -> int:
    with pytest.raises(RequestError) as caught:
        gate.enter(target, headers)
    return caught.value.status


def test_room_for_all_and_for_one() -> None:
    gate = Gate(ACCESS, Limits(max_in_flight=3, max_in_flight_per_key=2))
    assert [gate.enter("/", key("a")), gate.enter("/", key("a"))] == ["a", "a"]
    assert refusal(gate, key("a")) == 429
    assert gate.enter("/", key("b")) == "b"
    assert refusal(gate, key("b")) == 503
    gate.leave("a")
    assert gate.enter("/", key("b")) == "b"
    for owner in ("b", "b", "a"):
        gate.leave(owner)
    assert gate.inside == 0
    assert gate.refused == {"rate_limited": 1, "overloaded": 1}


def test_strangers_take_no_room() -> None:
    gate = Gate(ACCESS, Limits(max_in_flight=1))
    assert refusal(gate, NOBODY) == 401
    assert gate.inside == 0
    assert gate.enter("/", key("a")) == "a"


def test_without_keys_nobody_is_asked() -> None:
    gate = Gate(AccessSettings(), Limits())
    assert gate.enter("/", NOBODY) == ""
    assert gate.enter("/", NOBODY, preflight=True) == ""


def test_preflights_without_a_key_take_little_room_and_none_of_a_keys() -> None:
    gate = Gate(ACCESS, Limits(max_in_flight_per_key=1))
    assert {gate.enter("/", NOBODY, preflight=True) for _ in range(MOST_PREFLIGHTS)} == {PREFLIGHT}
    with pytest.raises(RequestError) as caught:
        gate.enter("/", NOBODY, preflight=True)
    assert (caught.value.status, caught.value.code) == (503, "overloaded")
    assert gate.enter("/", key("a"), preflight=True) == "a"
    assert gate.enter("/", key("b")) == "b"
    assert gate.refused == {"overloaded": 1}
    for owner in [PREFLIGHT] * MOST_PREFLIGHTS:
        gate.leave(owner)
    assert gate.enter("/", NOBODY, preflight=True) == PREFLIGHT
    assert gate.inside == 3


@pytest.mark.parametrize("target", ["", "*", "http://h/", "@h/", "h:1"])
def test_a_target_that_is_no_path_is_refused(target: str) -> None:
    assert refusal(Gate(AccessSettings(), Limits()), NOBODY, target) == 400


async def test_waiting_until_it_is_empty() -> None:
    gate = Gate(AccessSettings(), Limits())
    await gate.empty()
    for _ in range(2):
        gate.enter("/", NOBODY)
    waiting = [asyncio.create_task(gate.empty()) for _ in range(2)]
    await asyncio.sleep(0)
    gate.leave("")
    await asyncio.sleep(0)
    assert not any(each.done() for each in waiting)
    gate.leave("")
    await asyncio.gather(*waiting)


@pytest.mark.parametrize(
    "target", ["/../x", "/v1/./x", "/a/..", "/a/%2e%2E/b", "/a/.%2e", "/a%2F..%2Fb", "/a\\..\\b", "/..?x", "/a/.#b"]
)
def test_a_path_that_climbs_is_none(target: str) -> None:
    assert refusal(Gate(ACCESS, Limits()), NOBODY, target) == 400


@pytest.mark.parametrize(
    "target", ["/", "/v1/models/a.b..c", "/.well-known/x", "/...", "/a?next=/../b", "/v1/x.", "/a..b/c"]
)
def test_dots_in_a_name_are_nothing_special(target: str) -> None:
    gate = Gate(ACCESS, Limits())
    assert gate.enter(target, key("a")) == "a"


@pytest.mark.parametrize(
    ("others", "open_to", "shut"),
    [
        (None, ["/", "/flush_cache"], []),
        ([], [], ["/", "/flush_cache", "/v1/models"]),
        (
            ["/v1/models", "/tokenize/"],
            ["/v1/models", "/v1/models/a", "/tokenize"],
            ["/", "/v1/models2", "//v1/models"],
        ),
        (["/"], ["/", "/flush_cache"], []),
    ],
)
def test_other_paths_pass_where_they_are_offered(others: list[str] | None, open_to: list[str], shut: list[str]) -> None:
    gate = Gate(AccessSettings(other_paths=others), Limits())
    for path in open_to:
        gate.check_other(path)
    for path in shut:
        with pytest.raises(RequestError) as caught:
            gate.check_other(path)
        assert (caught.value.status, caught.value.code) == (404, "not_offered")
    assert gate.refused["not_offered"] == len(shut)


def test_bodies_are_held_up_to_a_bound_and_one_alone_whatever_its_size() -> None:
    gate = Gate(AccessSettings(), Limits(max_held_bytes=100))
    with Held(gate) as alone:
        alone.add(90)
        alone.add(1000)
    assert gate.held == 0
    with Held(gate) as first, Held(gate) as second:
        first.add(60)
        second.add(40)
        for one in (first, second):
            with pytest.raises(RequestError) as caught:
                one.add(1)
            assert (caught.value.status, caught.value.code) == (503, "overloaded")
        assert gate.held == 100
    assert gate.held == 0
    assert gate.refused["overloaded"] == 2
