"""History: the right bin, the right sums, and never more memory than its rings."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from guard.core.record import AttemptRecord, ExchangeRecord, Outcome
from guard.observe.history import COARSE, FINE, MOST_POINTS, History, Stretch, drawn, merged
from guard.observe.metrics import MOST_MODELS
from guard.types import Kind

NOW = 1_000_000_000.0


def record(at: float, *, outcome: Outcome = Outcome.HEALTHY, model: str = "m", **fields: Any) -> ExchangeRecord:
    attempts = fields.pop("attempts", [AttemptRecord(1, "a", "vllm", "first", accepted=[1, 2], drafted=[3, 3])])
    return ExchangeRecord(
        "r", "route", model, "p", stream=True, outcome=outcome, attempts=attempts, ended_at=at, **fields
    )


def bad(replica: str = "a") -> AttemptRecord:
    return AttemptRecord(
        1, replica, "vllm", "first", verdict="retry", kind=Kind.GARBLED, onset_token=4, verdict_token=9, tokens_shown=7
    )


def test_an_exchange_counts_in_the_bin_of_its_end() -> None:
    history = History(lambda: ["a"])
    history.count(record(NOW - 100, tokens_shown=5, tokens_burned=2, ttft_upstream=0.1, ttft_delivered=0.1))
    history.count(record(NOW, outcome=Outcome.RESCUED, attempts=[bad()], ttft_upstream=0.1, ttft_delivered=0.3))
    told: Any = history.answer(NOW, 300)
    columns = told["columns"]
    places = [i for i, count in enumerate(columns["exchanges"]) if count]
    assert [told["start"] + told["step"] * place for place in places] == [NOW - 100, NOW]
    assert [columns["kind_garbled"][place] for place in places] == [0, 1]
    assert [columns["rescued"][place] for place in places] == [0, 1]
    assert columns["added_p50"][places[0]] == 0.0  # nothing was added, not a little
    assert 0.1 < columns["added_p50"][places[1]] <= 0.25
    assert (told["total"]["shown"], told["total"]["burned"], told["total"]["bad_shown"]) == (5, 2, 3)
    assert told["replicas"]["a"]["total"] == {"attempts": 2, "bad": 1, "faults": 0, "length": 2.5}


@pytest.mark.parametrize("seconds", [60, 300, 900, 3600, 21600, 86400])
def test_every_stretch_has_few_points_and_loses_nothing_of_it(seconds: int) -> None:
    history = History()
    for at in range(0, 86400, 60):
        history.count(record(NOW - 86400 + at))
    told: Any = history.answer(NOW, seconds)
    assert told["points"] <= MOST_POINTS
    assert told["start"] + told["step"] * told["points"] > NOW
    # One a minute; the first bin may begin a little before or after.
    assert abs(told["total"]["exchanges"] - seconds / 60) <= told["step"] / 60 + 1
    assert sum(told["columns"]["exchanges"]) == told["total"]["exchanges"]


def test_memory_is_bounded_whatever_the_traffic() -> None:
    history = History()
    for second in range(0, 3 * FINE[0] * FINE[1], FINE[0]):
        history.count(record(NOW + second, model=f"model-{second}"))
    rings = [bins for _, bins in history._rings]
    assert [len(bins) for bins in rings] == [FINE[1], 3 * FINE[0] * FINE[1] // COARSE[0] + 1]
    told: Any = history.answer(NOW + 3 * FINE[0] * FINE[1], 86400)
    assert len(told["models"]) <= MOST_MODELS + 1


def test_what_is_only_relayed_is_no_watched_exchange() -> None:
    history = History()
    history.count(record(NOW, outcome=Outcome.RELAYED))
    total: Any = history.answer(NOW, 60)["total"]
    assert (total["exchanges"], total["watched"], total["attempts"]) == (1, 0, 0)


def test_an_answer_that_the_guard_broke_off_as_it_stopped_failed_and_one_that_its_client_left_did_not() -> None:
    history = History()
    history.count(record(NOW, outcome=Outcome.SHUTDOWN))
    history.count(record(NOW, outcome=Outcome.CLIENT_GONE))
    total: Any = history.answer(NOW, 60)["total"]
    assert (total["exchanges"], total["failed"], total["outcome_shutdown"]) == (2, 1, 1)


def test_a_clock_that_steps_back_loses_nothing() -> None:
    history = History()
    history.count(record(NOW))
    history.count(record(NOW - 50))
    total: Any = history.answer(NOW, 60)["total"]
    assert total["exchanges"] == 2


def test_what_comes_after_a_clock_was_put_back_grows_old_as_ever() -> None:
    history = History()
    history.count(record(NOW + 86_400))
    for second in range(0, 1800, 60):
        history.count(record(NOW + second))
    total: Any = history.answer(NOW + 1800, 300)["total"]
    assert total["exchanges"] == 4
    total = history.answer(NOW + 1800, 3600)["total"]
    assert total["exchanges"] == 31


@pytest.mark.parametrize("seconds", [60, 900, 86400])
def test_the_sums_of_several_processes_are_those_of_one(seconds: int) -> None:
    """As they cross a wire: quantiles, lengths and all are of the whole, never of averages."""
    together, parts = (
        History(lambda: ["a", "b"]),
        [History(lambda: ["a", "b"]), History(lambda: ["a", "b"]), History(lambda: ["a", "b"])],
    )
    for number in range(200):
        one = record(
            NOW - 7 * (200 - number),
            outcome=Outcome.RESCUED if number % 5 == 0 else Outcome.HEALTHY,
            model=f"m{number % 3}",
            attempts=[bad("b"), bad("a")] if number % 5 == 0 else [bad("a")] if number % 7 == 0 else [],
            ttft_upstream=0.1,
            ttft_delivered=0.1 + 0.01 * (number % 11),
            tokens_shown=number,
        )
        together.count(one)
        parts[number % 2].count(one)  # the third has seen nothing
    told = [msgspec.json.encode(part.stretch(NOW, seconds)) for part in parts]
    assert drawn(merged([msgspec.json.decode(line, type=Stretch) for line in told])) == together.answer(NOW, seconds)


@pytest.mark.parametrize(("mode", "retried"), [("restart", 1), ("whole", 0)])
def test_a_second_look_is_no_retry(mode: str, retried: int) -> None:
    history = History(lambda: ["a"])
    history.count(record(NOW, attempts=[AttemptRecord(n, "a", "vllm", m) for n, m in ((1, "first"), (2, mode))]))
    told: Any = history.answer(NOW, 300)
    assert told["total"]["retried"] == retried
