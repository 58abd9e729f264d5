"""The trace recorder's parts that need no engine, and its command line."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from guard.lab.cases import read_cases
from guard.lab.trace_labels import Half, Trace
from guard.lab.trace_plans import plans
from guard.lab.traces import chunks_of, main, missing, shown
from guard.types import Channel, Sample, StepAcceptance

TRACE = Trace(
    "a", "", "noise", 3, None, None, 2, Half.TUNING, "p", 0.0, "llama.cpp",
    [["one two", 2, 1, 3], [" three", 1, 0, 3], [" four", 1, 0, 3]],
)  # fmt: skip


def sample(text: str, tokens: int, *steps: tuple[int, int]) -> Sample:
    made = tuple(StepAcceptance(a, d, a + 1, exact=True) for a, d in steps)
    return Sample(0, ((Channel.CONTENT, text),), tokens, made)


def test_a_step_takes_all_text_since_the_step_before() -> None:
    samples = [sample("a", 1), sample("b", 1), sample("c", 1, (2, 3)), sample("d", 1, (0, 3)), sample("e", 1)]
    assert chunks_of(samples) == [["abc", 3, 2, 3], ["d", 1, 0, 3], ["e", 1, 0, 0]]


def test_a_reader_sees_where_tokens_and_acceptance_are() -> None:
    head, text, _ = shown(TRACE, every=2).split("\n")
    assert text == "one two⟦2·2.0⟧ three four⟦4·1.0⟧"
    assert "injected at 2" in head


def test_traces_are_shown_and_labelled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw, labels = tmp_path / "raw.jsonl", tmp_path / "labels.yaml"
    raw.write_bytes(msgspec.json.encode(TRACE) + b"\n")
    assert main(["show", str(raw)]) == 0
    assert "not labelled" in capsys.readouterr().out
    labels.write_text("a: garbled\n")
    assert main(["label", str(labels), str(tmp_path), str(raw)]) == 0
    (case,) = read_cases(tmp_path / "tuning.jsonl.gz")
    assert case.first_bad_token == 2
    labels.write_text("b: garbled\n")
    assert main(["label", str(labels), str(tmp_path), str(raw)]) == 2
    assert "no label for a" in capsys.readouterr().err


def test_a_recording_that_was_broken_off_goes_on_with_what_is_missing(tmp_path: Path) -> None:
    raw = tmp_path / "raw.jsonl"
    assert missing(raw) == plans()
    first, *others = plans()
    raw.write_bytes(msgspec.json.encode(msgspec.structs.replace(TRACE, id=first.id)) + b"\n")
    assert missing(raw) == others
