"""guard.lab.trace_labels: halves, labels, and what is written."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from guard.errors import ConfigError
from guard.lab.cases import CaseKind, read_cases
from guard.lab.trace_labels import HALVES, Label, Trace, half_of, labelled, read_labels, read_traces, write_halves

HEALTHY, GARBLED = Label(CaseKind.HEALTHY), Label(CaseKind.GARBLED)


def trace(name: str = "a", prompt: str = "p", injected_at: int | None = 51, hard_negative: str | None = None) -> Trace:
    return Trace(
        name, "", "noise", 3, None, hard_negative, injected_at, half_of(prompt), prompt, 0.0, "llama.cpp",
        [["x", 1, 0, 3]],
    )  # fmt: skip


def test_the_half_depends_on_the_prompt_alone_and_never_changes() -> None:
    assert [half_of(prompt) for prompt in ("a", "b", "c", "d")] == ["tuning", "tuning", "tuning", "tuning"]
    assert {half_of(str(number)) for number in range(20)} == set(HALVES)


def test_garble_begins_at_the_injection_and_a_loop_where_a_reader_saw_it() -> None:
    assert labelled(trace(), GARBLED).first_bad_token == 51
    assert labelled(trace(), Label(CaseKind.REPETITION, 90)).first_bad_token == 90
    assert labelled(trace(), HEALTHY).first_bad_token is None


def test_a_bad_trace_is_no_hard_negative() -> None:
    assert labelled(trace(hard_negative="text"), GARBLED).hard_negative is None
    assert labelled(trace(hard_negative="text"), HEALTHY).hard_negative == "text"


def test_a_loop_of_the_models_own_needs_its_beginning() -> None:
    with pytest.raises(ValueError, match="needs the token"):
        labelled(trace(injected_at=None), Label(CaseKind.REPETITION))


def test_labels_are_kinds_or_kinds_with_a_token(tmp_path: Path) -> None:
    file = tmp_path / "labels.yaml"
    file.write_text("a: healthy\nb: [repetition, 40]\nc: undecided\n")
    assert read_labels(file) == {"a": HEALTHY, "b": Label(CaseKind.REPETITION, 40), "c": None}
    file.write_text("a: fine\n")
    with pytest.raises(ConfigError, match="a: not a label"):
        read_labels(file)


def test_a_line_that_is_no_trace_is_named(tmp_path: Path) -> None:
    file = tmp_path / "raw.jsonl"
    file.write_bytes(msgspec.json.encode(trace()) + b"\n{}\n")
    with pytest.raises(ConfigError, match=r"raw\.jsonl:2"):
        list(read_traces(file))


@pytest.mark.parametrize(
    ("name", "data"), [("none.jsonl", None), ("cut.jsonl.gz", b"\x1f\x8b\x08\0"), ("no.gz", b"text")]
)
def test_traces_that_cannot_be_read_are_named(tmp_path: Path, name: str, data: bytes | None) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(ConfigError, match=f"{name}: cannot be read"):
        list(read_traces(tmp_path / name))


@pytest.mark.parametrize(
    ("text", "says"), [(None, "cannot be read"), ("a: [", "not YAML"), ("- a\n", "not labels"), ("", "not labels")]
)
def test_labels_that_cannot_be_read_are_named(tmp_path: Path, text: str | None, says: str) -> None:
    file = tmp_path / "labels.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ConfigError, match=f"labels.yaml: {says}"):
        read_labels(file)


def test_each_half_is_a_file_of_cases(tmp_path: Path) -> None:
    prompts = {half: next(str(n) for n in range(20) if half_of(str(n)) is half) for half in HALVES}
    traces = [trace(str(half), prompts[half]) for half in HALVES]
    counts = write_halves(traces, dict.fromkeys(("tuning", "unseen"), GARBLED), tmp_path)
    assert counts == dict.fromkeys(HALVES, 1)
    for half in HALVES:
        (case,) = read_cases(tmp_path / f"{half}.jsonl.gz")
        assert (case.id, case.kind, case.first_bad_token) == (half, CaseKind.GARBLED, 51)


def test_relabelling_the_halves_themselves_changes_no_byte(tmp_path: Path) -> None:
    labels = {"a": GARBLED, "b": HEALTHY}
    write_halves([trace("b"), trace("a")], labels, tmp_path)
    files = [tmp_path / f"{half}.jsonl.gz" for half in HALVES]
    before = [file.read_bytes() for file in files]
    write_halves([one for file in files for one in read_traces(file) if file.stat().st_size], labels, tmp_path)
    assert [file.read_bytes() for file in files] == before


def test_an_undecided_trace_is_written_nowhere(tmp_path: Path) -> None:
    assert write_halves([trace("a"), trace("b")], {"a": HEALTHY, "b": None}, tmp_path)[half_of("p")] == 1
    assert write_halves([trace("a")], {"a": HEALTHY, "b": None}, tmp_path)[half_of("p")] == 1


def test_a_trace_without_label_and_a_label_without_trace_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no label for b"):
        write_halves([trace("a"), trace("b")], {"a": GARBLED}, tmp_path)
    with pytest.raises(ConfigError, match="no trace for b"):
        write_halves([trace("a")], {"a": GARBLED, "b": GARBLED}, tmp_path)
