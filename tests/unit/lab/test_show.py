"""The account of the demo, as text."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from guard.core.record import AttemptRecord, ExchangeRecord
from guard.lab.show import Show, Sparkline, acceptance_length
from guard.lab.story import Answer, FaultOutcome


def console() -> Console:
    return Console(file=io.StringIO(), width=100, color_system=None)


def printed(made: Console) -> str:
    assert isinstance(made.file, io.StringIO)
    return made.file.getvalue()


def test_acceptance_length_counts_only_steps_with_a_draft() -> None:
    assert acceptance_length([0, 3, 1, 9], [3, 3, 0, -1]) == 2.5
    assert acceptance_length([], []) == 1.0


def test_a_bar_for_each_step_and_a_line_for_each_attempt() -> None:
    made = console()
    line = Sparkline(made)
    for step in ((1, 0, 3), (1, 3, 3), (1, 0, 0), (2, 3, 3)):
        line.step(*step)
    line.end()
    assert printed(made) == "  attempt 1  ▁█\n  attempt 2  █\n"


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"verdict": "retry", "client_text_clean": True, "equals_healthy_answer": True}, "byte for byte"),
        ({"verdict": "retry", "client_text_clean": True}, "continued on a clean cache"),
        ({"verdict": "pass", "known_miss": True}, "a known miss"),
        ({"verdict": "pass"}, "not rescued"),
    ],
)
def test_every_ending_has_its_line(fields: dict[str, object], says: str) -> None:
    values: dict[str, object] = {
        "fault": "noise", "onset_token": 5, "verdict": "retry", "kind": "garbled", "reason": "it fell",
        "attempts": 2, "detection_delay_tokens": 30, "client_text_clean": False, "equals_healthy_answer": False,
        "known_miss": False, "tokens_burned": 40, "seconds": 2.0, **fields,
    }  # fmt: skip
    record = ExchangeRecord("r", "route", "m", "p", stream=True, attempts=[AttemptRecord(1, "a", "x", "first")])
    made = console()
    Show(made).fault(FaultOutcome(**values), Answer("text " * 200, "", 2.0, record))  # type: ignore[arg-type]
    assert says in printed(made)
    assert "[…]" in printed(made)
