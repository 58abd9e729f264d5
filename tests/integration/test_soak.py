"""A short soak: a real guard under every fault of the schedule, and that its checks would notice a broken promise."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from guard.retry.budget import Budget
from tests.bench.soak import soak
from tests.bench.soak_load import LAST, Clients, Manner, judged
from tests.bench.soak_plan import AROUND, SICK, Done, Replica, schedule
from tests.bench.soak_script import CUT, position, stories
from tests.bench.soak_verdict import (
    Attempt,
    Ended,
    Excess,
    Sample,
    attempts,
    beyond_budget,
    closes,
    explained,
    flatness,
    lags_of,
    violations,
)

SECONDS, STREAMS, SEED = 22.0, 60, 13


@pytest.mark.timeout(300)
async def test_no_promise_is_broken_while_everything_around_the_guard_breaks() -> None:
    result = await soak(SECONDS, STREAMS, SEED)
    assert result["violations"] == []
    assert set(result["faults"]) == {*SICK, *AROUND}
    outcomes = result["outcomes"]
    assert outcomes["whole"] > STREAMS
    assert outcomes["error"] > 0
    assert outcomes["left"] > 0
    counted = result["metrics"]
    assert counted['guard_policy_reloads_total{result="failed"}'] >= 1
    assert counted['guard_recordings_total{result="failed"}'] >= 1


def test_a_schedule_is_the_same_again_and_has_every_fault() -> None:
    faults = schedule(7, 1800.0)
    assert faults == schedule(7, 1800.0)
    assert faults != schedule(8, 1800.0)
    kinds = Counter(fault.kind for fault in faults)
    assert set(kinds) == {*SICK, *AROUND}
    assert min(kinds.values()) >= 8
    sick = [fault for fault in faults if fault.replica >= 0]
    assert all(one.at + one.lasts < other.at for one, other in pairwise(sick))


def test_how_far_an_answer_has_got() -> None:
    story = stories()[0]
    truth, bad = story.text, story.bad_text
    turn = sum(len(one.text) for one in story.answer[:CUT])
    assert position(truth[:turn], truth, bad) == turn
    assert position(truth[:turn] + bad[:40], truth, bad) == turn
    assert position(truth[:turn] + bad[:40] + truth[turn:], truth, bad) == len(truth)
    assert position(truth[:turn] + truth[turn + 1 :], truth, bad) is None
    assert position(truth[:turn] + truth[turn - 1 :], truth, bad) is None


def said(text: str, *, end: bool = True, comment: bytes = b"") -> bytes:
    event = b'data: {"choices":[{"delta":{"content":%b},"finish_reason":null}]}\n\n' % json.dumps(text).encode()
    if end:
        event += b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n' + comment + b"data: [DONE]\n\n"
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    return head + b"%x\r\n%b" % (len(event), event) + LAST


def test_what_a_client_makes_of_an_answer() -> None:
    how, story = Manner(0, 10), stories()[0]
    turn = sum(len(one.text) for one in story.answer[:CUT])
    shown = story.text[:turn] + story.bad_text[:30] + story.text[turn:]
    told = b': guard {"bad_tokens_shown":9}\n\n'

    def outcome(raw: bytes) -> str:
        return judged(how, raw, raw.endswith(LAST))[0]

    assert outcome(said(story.text)) == "whole"
    assert outcome(said(story.text[:-1])) == "looks whole"
    assert outcome(said(story.text[1:])) == "wrong"
    assert outcome(said(story.text)[:-5]) == "looks whole"
    assert outcome(said(shown, comment=told)) == "garbage shown, told"
    assert outcome(said(shown)) == "missed"
    assert outcome(said(story.text[:turn] + story.bad_text)) == "missed"
    assert outcome(said(story.text[:turn], end=False)) == "broken off"
    assert outcome(b"") == "no answer"
    assert outcome(b"HTTP/1.1 503 x\r\n\r\n" + b'{"error":{"message":"too many requests at once"}}') == "wrong"


def attempt(request: str, began: float, ended: float) -> Attempt:
    return Attempt(request, began, ended, "done", 0.0)


def test_retries_beyond_the_budget_are_counted_where_they_begin() -> None:
    seen = [attempt(f"r{n}", 0.0, 1.0) for n in range(20)]
    seen += [attempt(f"r{n}", 2.0 + n / 100, 9.0) for n in range(5)]
    changes = [(0.0, 20), (1.9, 20)]
    assert beyond_budget(seen, changes, Budget(share=2_000, floor=3), []).by == 2
    assert beyond_budget(seen, changes, Budget(share=2_000, floor=5), []).by == 0
    # What a busy replica sees late does not count.
    seen += [attempt("r0", 8.9, 9.9), attempt("r6", 9.1, 9.9), attempt("r7", 9.2, 9.9)]
    assert beyond_budget(seen, [*changes, (8.8, 20)], Budget(share=0, floor=4), []).by == 1
    assert beyond_budget(seen[:25], changes, Budget(share=2_000, floor=3), [(2.0, 8.0)]).by < 0
    # Nor do clients of whose end a guard that was woken late could not know.
    left = [(0.0, 60), (1.9, 60), (1.95, 0)]
    late = [attempt(f"r{n}", 8.0 + n / 100, 30.0) for n in range(8)]
    assert beyond_budget(seen[:20] + late, left, Budget(share=2_000, floor=3), [(8.0, 0.1)]).by == 5
    assert beyond_budget(seen[:20] + late, left, Budget(share=2_000, floor=3), [(8.0, 6.0)]).by < 0
    # It was late from 2 on, and could only write that down at 10; late only after 10 is another matter.
    assert beyond_budget(seen[:25], changes, Budget(share=2_000, floor=3), [(10.0, 8.0)]).by < 0
    assert beyond_budget(seen[:25], changes, Budget(share=2_000, floor=3), [(18.0, 8.0)]).by == 2


def test_retries_are_held_against_the_requests_that_were_open_when_they_were_granted() -> None:
    first = [attempt(f"r{n}", 0.0, 10.0) for n in range(600)]
    # Nobody came or went for a while: as many are open as at the last change.
    quiet = first + [attempt(f"r{n}", 10.0 + n / 1000, 60.0) for n in range(100)]
    assert beyond_budget(quiet, [(0.0, 600)], Budget(), []).by == 0
    # After a rush fewer are allowed than are in flight, and none is added.
    fewer = [(0.0, 600), *((20.0 + n / 100, 600 - n) for n in range(1, 201))]
    assert beyond_budget(quiet, fewer, Budget(), []).by == 0
    # Three more then are three and what was too much already.
    added = beyond_budget(quiet + [attempt(f"r{n}", 30.0, 60.0) for n in range(100, 103)], fewer, Budget(), [])
    assert (added.by, added.allowed, added.at) == (103 - 66, 66, 30.0)
    # One that ends makes room for another only where it is allowed.
    renewed = [attempt(f"r{n}", 10.0 + n / 1000, 24.0) for n in range(35)]
    renewed += [attempt(f"r{n}", 10.0 + n / 1000, 60.0) for n in range(35, 100)]
    assert beyond_budget([*first, *renewed, attempt("r200", 30.0, 60.0)], fewer, Budget(), []).by == 0
    assert (
        beyond_budget([*first, *renewed, *(attempt(f"r{n}", 30, 60) for n in (200, 201))], fewer, Budget(), []).by == 1
    )


def test_an_excess_of_a_few_is_found_among_hundreds_of_streams() -> None:
    seen = [attempt(f"r{n}", 0.0, 10.0) for n in range(500)]
    seen += [attempt(f"r{n}", 10.0 + n / 1000, 40.0) for n in range(85)]
    changes = [(n / 100, 500 - n % 2) for n in range(4000)]
    assert beyond_budget(seen, changes, Budget(), [(10.0, 0.2)]).by == 2
    assert beyond_budget(seen[:-2], changes, Budget(), [(10.0, 0.2)]).by == 0


def test_the_worst_moment_is_explained() -> None:
    seen = [attempt(f"r{n}", 100.0, 102.0) for n in range(20)]
    seen += [attempt("r0", 103.0, 103.5)._replace(replica=1)]
    seen += [attempt(f"r{n}", 104.0 + n / 10, 109.0)._replace(replica=n % 3, how="killed") for n in range(5)]
    faults = [
        Done("rush", -1, 90.0, 95.0),
        Done("kill", 2, 101.0, 102.0),
        Done("redis stopped", -1, 103.0, 107.0),
        Done("stall", 0, 110.0, 114.0),
    ]
    samples = [good_end().before._replace(at=float(at), retries=at, in_flight=20) for at in (0, 3, 6, 12)]
    worst = beyond_budget(seen, [(99.0, 20), (103.9, 18)], Budget(), [])
    told = explained(worst, 99.0, faults, samples)
    assert json.loads(json.dumps(told)) == {
        "at_s": 5.4,
        "beyond": 2,
        "allowed": 3,
        "retries": 5,
        "requests": [18, 20],
        "by_replica": {"0": 2, "1": 2, "2": 1},
        "by_attempt": {"2": 4, "3": 1},
        "ended": {"killed": 5},
        "began_within_s": {"0.1": 1, "1": 5, "10": 5},
        "latest": ["r4", "r3", "r2", "r1", "r0"],
        "faults": {
            "under_way": [{"kind": "redis stopped", "replica": -1, "from_s": -1.4, "to_s": 2.6}],
            "before": [
                {"kind": "kill", "replica": 2, "from_s": -3.4, "to_s": -2.4},
                {"kind": "rush", "replica": -1, "from_s": -14.4, "to_s": -9.4},
            ],
            "after": [{"kind": "stall", "replica": 0, "from_s": 5.6, "to_s": 9.6}],
        },
        "guard_then": [
            {"at_s": 0.0, "retries": 0, "requests": 20},
            {"at_s": 3.0, "retries": 3, "requests": 20},
            {"at_s": 6.0, "retries": 6, "requests": 20},
        ],
    }


def test_what_a_replica_wrote_down_is_read_also_when_it_was_killed(tmp_path: Path) -> None:
    events = tmp_path / "events"
    events.write_text(
        "1.0 begin 7-1 a\n2.0 begin 7-2 b\n2.5 end 7-1 closed 0.100\n3.0 begin 8-1 c\n"
        "3.0 begin 8-2 d\n4.0 lag - 0.750\n8.0 end 8-2 closed 5.000\n"
    )
    replica = Replica(0, 1, events, 1, killed={7: 2.9})
    seen, late, wrong = attempts([replica], 4.0)
    assert [(one.request, one.how, one.ended) for one in seen] == [
        ("a", "closed", 2.5),
        ("b", "killed", 2.9),
        ("d", "closed", 7.25),
        ("c", "open", float("inf")),
    ]
    assert (late, wrong) == (0, 0)
    assert lags_of([replica]) == [(4.0, 0.75)]


def good_end() -> Ended:
    clients = Clients(1, 1, 1, (1, 2), requests=2, outcomes=Counter({"whole": 2}))
    sample = Sample(0.0, 60.0, 20, 9, 10, 0, 0)
    samples = [sample._replace(at=float(n)) for n in range(30)]
    metrics = {
        'guard_exchanges_total{outcome="healthy"}': 2.0,
        'guard_attempts_total{mode="first"}': 2.0,
        "guard_policy_last_reload_ok": 1.0,
        "guard_store_degraded": 0.0,
    }
    seen = [attempt("a", 0.0, 1.0), attempt("b", 0.0, 1.0)]
    return Ended(30.0, clients, Counter(), seen, 0, 0, sample, samples, sample, metrics, (2, 0), [], [], [], 0)


def found(end: Ended, excess: int = 0) -> str:
    return "; ".join(violations(end, Excess(excess, 12.5), flatness(end.samples, end.seconds)))


def test_every_broken_promise_is_told() -> None:
    good = good_end()
    assert found(good) == ""
    assert "2 retries beyond the budget at 12.5 s" in found(good, excess=2)
    again = good._replace(seen=[*good.seen, attempt("a", 2.0, 3.0)])
    assert "1 retries came to the replicas, 0 were granted" in found(again)
    granted = {**good.metrics, 'guard_retry_admissions_total{by="fleet",result="granted"}': 1.0}
    assert "retries" not in found(again._replace(metrics=granted))
    grows = [one._replace(rss_mib=60.0 + one.at) for one in good.samples]
    assert "rss_mib grew" in found(good._replace(samples=grows))
    leaks = [one._replace(at=7 * one.at, in_flight=10, tasks=20 + int(one.at)) for one in good.samples]
    assert "tasks_each grew" in found(good._replace(samples=leaks, seconds=200.0))
    assert "tasks: 10 before" in found(good._replace(after=good.after._replace(tasks=20)))
    assert "3 exchanges ended" in found(
        good._replace(metrics={**good.metrics, 'guard_exchanges_total{outcome="healthy"}': 3.0})
    )
    assert "in flight" in found(good._replace(metrics={**good.metrics, "guard_exchanges_in_flight": 1.0}))
    closed = good._replace(seen=[good.seen[0]._replace(how="closed"), good.seen[1]])
    assert closes(closed)["seen"] == 1
    assert "do not come out even" in found(closed)
    assert "do not come out even" in found(good._replace(metrics={**good.metrics, "guard_aborts_sent_total": 1.0}))
    assert "twice" in found(good._replace(metrics={**good.metrics, "guard_aborts_repeated_total": 1.0}))
    assert "broken ones" in found(good._replace(recorded=(2, 1)))
    assert "no effect" in found(good._replace(faults=Counter({"stall": 3})))
    assert "ended with 1" in found(good._replace(exit_code=1))
    assert "Traceback" in found(good._replace(problems=["Traceback"]))
