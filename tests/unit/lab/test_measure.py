"""guard.lab.measure: steps are read from llama.cpp's cumulative counters."""

import pytest

from guard.lab.measure import Generation, main, speed, steps_of
from guard.lab.profile import Step
from guard.wire import Chunk, Timings


def chunk(drafted: int, accepted: int) -> Chunk:
    return Chunk(timings=Timings(draft_n=drafted, draft_n_accepted=accepted))


def test_counters_are_differenced() -> None:
    # Tokens accepted together come as chunks with unchanged counters.
    stream = [Chunk(), chunk(0, 0), chunk(3, 2), chunk(3, 2), chunk(3, 2), chunk(6, 2), chunk(8, 4)]
    assert steps_of(stream) == (Step(2, 3), Step(0, 3), Step(2, 2))


def test_a_stream_without_speculation_has_no_steps() -> None:
    assert steps_of([Chunk(), chunk(0, 0)]) == ()


def test_speed_weighs_by_time() -> None:
    assert speed([Generation((), 10, 1.0), Generation((), 30, 3.0)]) == 10
    assert speed([]) == 0


def test_a_draft_that_is_none_is_told_before_anything_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--draft", "none"]) == 2
    assert "no draft named 'none'; known: " in capsys.readouterr().err
