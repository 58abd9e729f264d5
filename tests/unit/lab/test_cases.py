"""The case format: what is read, what is refused with file and line, and a case run as live traffic is."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from guard.core.monitor import Monitor
from guard.detect.baseline import Baseline
from guard.errors import ConfigError
from guard.lab import cases as module
from guard.lab.cases import MAX_LINE, CaseKind, acceptance_trace, read_cases, run_case, samples
from guard.policy.judge import Judge
from guard.types import Action, Channel, Kind
from tests.unit.lab.streams import POLICY, bad, good, judge, line


def write(folder: Path, *lines: dict[str, Any] | str) -> Path:
    path = folder / "c.jsonl"
    path.write_text("".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in lines))
    return path


def test_two_numbers_are_one_verify_step_of_the_case_depth(tmp_path: Path) -> None:
    (case,) = read_cases(write(tmp_path, line("a", [["Ha", 3], ["rbour", 1]], prompt="Tell.", mood="unknown field")))
    first, second = samples(case)
    assert first.texts == ((Channel.CONTENT, "Ha"),)
    assert [(s.accepted, s.drafted, s.tokens, s.exact) for s in first.steps] == [(2, 3, 3, True)]
    assert [(s.accepted, s.drafted, s.tokens) for s in second.steps] == [(0, 3, 1)]
    assert (case.prompt, case.kind, case.tokens) == ("Tell.", CaseKind.HEALTHY, 4)


def test_four_numbers_say_it_themselves(tmp_path: Path) -> None:
    chunks = [["a", 1, 0, 0], ["b", 5, 4, 5], ["", 0, 0, 2], ["c", 2, 1, -1]]
    (case,) = read_cases(write(tmp_path, line("a", chunks)))
    steps = [step for sample in samples(case) for step in sample.steps]
    assert [(s.accepted, s.drafted, s.exact) for s in steps] == [
        (0, 0, True), (4, 5, True), (0, 2, True), (1, -1, False),
    ]  # fmt: skip
    # Without a draft there is no acceptance; an unknown depth is the deployment's.
    assert acceptance_trace(case) == ((6, 4, 5), (6, 0, 2), (8, 1, 3))


def test_without_speculation_short_chunks_tell_of_no_step(tmp_path: Path) -> None:
    (case,) = read_cases(write(tmp_path, line("a", [["x", 2], ["", 0]], num_speculative_tokens=0)))
    assert [sample.steps for sample in samples(case)] == [(), ()]


def test_compressed_files_and_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps(line("a", good(1))).encode() + b"\n\n"))
    assert [case.id for case in read_cases(path)] == ["a"]
    path.write_bytes(gzip.compress(b"x" * 100_000)[:40])
    with pytest.raises(ConfigError, match="cannot be read"):
        list(read_cases(path))


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        ('{"id": "x"', "not a case"),
        ("\udcff", "not a case"),
        (f'{{"x": {"[" * 100_000}', "not a case"),
        ("1" * (MAX_LINE + 1), f"the line has more than {MAX_LINE} bytes"),
        (line("x", good(1), kind="odd"), "kind: not a case: 'odd' is not known here; one of garbled, healthy"),
        (line("x", good(1), kind="garbeld"), "did you mean 'garbled'?"),
        ("{x}", "not a case: JSON is malformed"),
        (
            json.dumps(line("x", [["a\udcff", 1]]), ensure_ascii=False),
            "it has a byte 0xff that is not UTF-8; mend this",
        ),
        ("[1]", "not a case: expected a mapping, got a list"),
        ('{"id": "x", "kind', "not a case: it is cut off, as where a file is copied while it is written; take this"),
        (line("", good(1)), "id: a case needs a name"),
        (line("x", []), "chunks: a case needs at least one chunk"),
        (line("x", good(1), num_speculative_tokens=65), "num_speculative_tokens: 65 is no draft depth"),
        (line("x", good(1), kind="garbled"), "first_bad_token: a garbled case must say"),
        (line("x", good(1), kind="garbled", first_bad_token=-1), "counted from 0"),
        (line("x", [["a", 1], ["b"]]), "chunks[1]: a chunk is [text, tokens] or"),
        (line("x", [["a", 1, 2]]), "not 3 values"),
        (line("x", [[1, 1]]), "a text followed by whole numbers"),
        (line("x", [["a", "1"]]), "a text followed by whole numbers"),
        (line("x", [["a", 1.5]]), "chunks[0][1]: not a case"),
        (line("x", [["a", -1]]), "not negative"),
        (line("x", [["a", 1, 0, -2]]), "not negative"),
        (line("x", [["a", 5]]), "5 tokens are more than one verify step of 3 drafted tokens can give (4)"),
        (line("x", [["a", 5, 4, 3]]), "accepted 4 of 3 drafted tokens"),
    ],
)
def test_a_bad_line_is_named(broken: dict[str, Any] | str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    text = broken if isinstance(broken, str) else json.dumps(broken)
    path.write_bytes(json.dumps(line("fine", good(1))).encode() + b"\n" + text.encode(errors="surrogateescape"))
    with pytest.raises(ConfigError) as failure:
        list(read_cases(path))
    assert str(failure.value).startswith(f"{path}:2: ")
    assert says in str(failure.value)


def test_what_is_packed_is_unpacked_whatever_it_is_called(tmp_path: Path) -> None:
    plain = json.dumps(line("a", good(1))).encode() + b"\n"
    for name, data in (("c.jsonl", gzip.compress(plain)), ("c.jsonl.1", gzip.compress(plain)), ("c.jsonl.gz", plain)):
        (tmp_path / name).write_bytes(data)
        assert [case.id for case in read_cases(tmp_path / name)] == ["a"]


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(line("a", good(1))).encode())
    assert [case.id for case in read_cases(path)] == ["a"]
    path.write_bytes(b"\xef\xbb\xbf")
    assert not list(read_cases(path))


def test_of_a_folder_the_files_are_wanted(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as failure:
        list(read_cases(tmp_path))
    assert str(failure.value) == f"{tmp_path}: a folder; name the files in it, as in {tmp_path}/*.jsonl"


def test_a_case_says_whether_its_text_is_only_a_shape(tmp_path: Path) -> None:
    path = write(
        tmp_path, line("a", good(1), text="redacted"), line("b", good(1), text="scrambled"), line("c", good(1))
    )
    assert [case.redacted for case in read_cases(path)] == [True, False, False]


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^/nowhere/c\.jsonl: cannot be read: No such file"):
        list(read_cases(Path("/nowhere/c.jsonl")))


def test_the_first_acting_verdict_ends_a_case_as_it_ends_a_stream(tmp_path: Path) -> None:
    (case,) = read_cases(write(tmp_path, line("a", good(20) + bad(40), kind="garbled", first_bad_token=80)))
    result = run_case(judge(tmp_path), case, trace=True)
    assert (result.action, result.kind, result.rule) == (Action.RETRY, Kind.GARBLED, "low")
    assert result.acted
    assert 80 < result.token <= 96
    assert result.onset is not None
    assert 64 <= result.onset <= result.token
    assert len(result.suspicion) == result.chunk < len(case.chunks)
    assert result.suspicion[-1] == result.peak == 1.0
    assert 0 < result.held_chunks < 16
    assert result.shown == result.token - result.held_chunks
    assert len(result.acceptance) == len(case.chunks)


def test_a_healthy_case_is_read_to_its_end(tmp_path: Path) -> None:
    (case,) = read_cases(write(tmp_path, line("a", good(30))))
    result = run_case(judge(tmp_path), case, Baseline(0.9, 1000.0, 3))
    assert (result.action, result.token, result.onset, result.chunk) == (Action.PASS, 120, None, 30)
    assert (result.peak, result.held_chunks, result.suspicion, result.acceptance) == (0.0, 0, (), ())
    assert result.shown == 120


@pytest.mark.parametrize(("mode", "shown"), [("off", 89), ("window, window: 32 tokens", 48), ("full", 0)])
def test_what_the_client_had_when_a_rule_acted(mode: str, shown: int, tmp_path: Path) -> None:
    """It acts at token 90, and is under suspicion from 80 on; chunks have four tokens until then."""
    policy = POLICY.replace("{mode: suspicion, hold_at: 0.5, act_at: 1.0, limit: 64 tokens}", f"{{mode: {mode}}}")
    assert policy != POLICY
    (case,) = read_cases(write(tmp_path, line("a", good(20) + bad(40), kind="garbled", first_bad_token=80)))
    result = run_case(judge(tmp_path, policy), case)
    assert result.acted
    assert (result.token, result.shown) == (90, shown)


def test_a_note_is_a_verdict_that_stops_nothing(tmp_path: Path) -> None:
    (case,) = read_cases(write(tmp_path, line("a", bad(40))))
    noting = POLICY.replace("action: retry", "action: note")
    result = run_case(judge(tmp_path, noting), case)
    assert (result.action, result.acted, result.rule, result.chunk) == (Action.NOTE, False, "low", 40)
    assert result.token == 16
    # A rule that acts later still does.
    both = noting + POLICY.split("rules:\n")[1].replace("low", "lower").replace(
        "to: 1.5}", "to: 1.5, after: 30 tokens}"
    )
    result = run_case(judge(tmp_path, both), case)
    assert (result.action, result.rule, result.token) == (Action.RETRY, "lower", 30)


def test_the_prompt_is_known_to_the_detectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known: list[str] = []

    class Watching(Monitor):
        def __init__(self, judge: Judge, baseline: Baseline | None, prompt: str = "") -> None:
            known.append(prompt)
            super().__init__(judge, baseline, prompt)

    monkeypatch.setattr(module, "Monitor", Watching)
    for case in read_cases(write(tmp_path, line("a", good(1), prompt="Say it twice."), line("b", good(1)))):
        run_case(judge(tmp_path), case)
    assert known == ["Say it twice.", ""]


def test_log_probabilities_stand_beside_the_chunks(tmp_path: Path) -> None:
    told = [[-0.5, None, -1], []]
    (case,) = read_cases(write(tmp_path, line("a", [["Ha", 3], ["rbour", 1]], logprobs=told)))
    assert [sample.logprobs for sample in samples(case)] == [(-0.5, -1.0), ()]
    with pytest.raises(ConfigError, match=r"logprobs: 2 lists of log-probabilities for 1 chunks"):
        list(read_cases(write(tmp_path, line("a", [["Ha", 3]], logprobs=told))))
    with pytest.raises(ConfigError, match="not a case"):
        list(read_cases(write(tmp_path, line("a", [["Ha", 3]], logprobs=[["low"]]))))
