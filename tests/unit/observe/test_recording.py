"""Which attempts become lines, what a line holds, and what redaction leaves of a text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from guard.core.record import AttemptRecord, ExchangeRecord, Outcome
from guard.lab.cases import Case, read_cases, samples
from guard.observe.recording import Recording, line_of, recordings, rows, rows_told
from guard.types import Channel, Kind, Sample, StepAcceptance


def sample(text: str, tokens: int, *steps: tuple[int, int], choice: int = 0) -> Sample:
    made = tuple(StepAcceptance(accepted, drafted, accepted + 1, exact=True) for accepted, drafted in steps)
    return Sample(choice, ((Channel.CONTENT, text),) if text else (), tokens, made)


def exchange(*attempts: AttemptRecord, outcome: Outcome = Outcome.HEALTHY) -> ExchangeRecord:
    return ExchangeRecord("r1", "/v1/chat/completions", "m", "default", True, outcome=outcome, attempts=list(attempts))


def attempt(number: int = 1, **fields: Any) -> AttemptRecord:
    return AttemptRecord(number, "replica", "vllm", **{"mode": "first", **fields})


def read_back(folder: Path, line: bytes) -> Case:
    path = folder / "line.jsonl"
    path.write_bytes(line)
    (case,) = read_cases(path)
    return case


TALK = [sample("Anna paid 42 euros", 4, (3, 3)), sample(".", 1, (0, 3))]


def test_a_healthy_answer_is_one_line() -> None:
    record = exchange(attempt())
    (found,) = recordings(record, [(record.attempts[0], TALK)])
    line = json.loads(line_of(found))
    assert line == {
        "id": "r1/1", "kind": "healthy", "subkind": "recorded", "num_speculative_tokens": 3, "first_bad_token": None,
        "hard_negative": None, "request_id": "r1", "model": "m", "route": "/v1/chat/completions", "policy": "default",
        "engine": "vllm", "attempt": 1, "rule": "", "reason": "", "text": "redacted", "prompt": "",
        "chunks": [["Xxxx xxxx 00 xxxxx", 4, 3, 3], [".", 1, 0, 3]],
    }  # fmt: skip


def test_a_rescued_answer_is_two_lines_the_bad_one_by_its_verdict() -> None:
    bad = attempt(1, kind=Kind.GARBLED, rule="low", onset_token=7, reason="said 'Anna'")
    record = exchange(bad, attempt(2, mode="resume"), outcome=Outcome.RESCUED)
    found = recordings(record, [(bad, TALK), (record.attempts[1], TALK)], prompt="Who paid 42?")
    first, second = (json.loads(line_of(one)) for one in found)
    assert (first["id"], first["kind"], first["first_bad_token"], first["rule"]) == ("r1/1", "garbled", 7, "low")
    assert (second["id"], second["kind"], second["subkind"]) == ("r1/2", "healthy", "continued")
    # What was said is nowhere, also not in the reason or the prompt.
    assert first["reason"] == ""
    assert first["prompt"] == "Xxx xxxx 00?"
    full = json.loads(line_of(found[0], "full"))
    assert (full["reason"], full["prompt"], full["text"]) == ("said 'Anna'", "Who paid 42?", "full")
    assert full["chunks"][0][0] == "Anna paid 42 euros"


def test_what_broke_off_is_no_evidence() -> None:
    for outcome in (Outcome.CLIENT_GONE, Outcome.UPSTREAM_ERROR, Outcome.RELAYED):
        record = exchange(attempt(), outcome=outcome)
        assert recordings(record, [(record.attempts[0], TALK)]) == []
    fault = attempt(1, fault="reset")
    record = exchange(fault, attempt(2))
    assert [one.attempt.number for one in recordings(record, [(fault, TALK), (record.attempts[1], TALK)])] == [2]
    assert recordings(exchange(), []) == []
    assert recordings(record, [(record.attempts[1], [])]) == []


def test_a_line_is_a_case_that_says_the_same(tmp_path: Path) -> None:
    record = exchange(attempt())
    case = read_back(tmp_path, line_of(Recording(record, record.attempts[0], TALK), "full"))
    assert list(samples(case)) == TALK
    assert case.engine == "vllm"


def test_without_verify_steps_chunks_have_two_values(tmp_path: Path) -> None:
    said = [sample("one ", 1), sample("two", 1)]
    assert rows(said) == [("one ", 1), ("two", 1)]
    record = exchange(attempt())
    case = read_back(tmp_path, line_of(Recording(record, record.attempts[0], said)))
    assert [one.steps for one in samples(case)] == [(), ()]


def test_tokens_of_one_step_that_came_as_several_chunks_are_joined() -> None:
    said = [sample("a", 1), sample("b", 1), sample("c", 1, (2, 3)), sample("d", 1, (0, 3)), sample("e", 1)]
    assert rows(said) == [("abc", 3, 2, 3), ("d", 1, 0, 3), ("e", 1, 0, 0)]


def test_several_steps_in_one_chunk_share_its_tokens() -> None:
    assert rows([sample("abcdef", 6, (2, 3), (1, 3), (0, 3))]) == [("abcdef", 3, 2, 3), ("", 2, 1, 3), ("", 1, 0, 3)]
    assert rows([sample("abc", 2, (2, 3), (1, 3))]) == [("abc", 2, 2, 3), ("", 0, 1, 3)]  # cut by a limit


def test_a_long_stretch_without_steps_is_not_one_chunk() -> None:
    said = [sample("a", 1, (0, 3)), *[sample("b", 1)] * 40, sample("c", 1, (0, 3))]
    assert [row[1] for row in rows(said)] == [1, 17, 17, 7]


def test_only_the_first_choice_is_recorded() -> None:
    assert rows([sample("a", 1), sample("x", 1, choice=1)]) == [("a", 1)]


def test_words_are_scrambled_whole_also_where_chunks_cut_them() -> None:
    record = exchange(attempt())
    said = [sample("An", 1, (0, 3)), sample("na met An", 3, (2, 3)), sample("na.", 1, (0, 3))]
    line = json.loads(line_of(Recording(record, record.attempts[0], said, "Anna"), "scrambled", b"key"))
    text = "".join(chunk[0] for chunk in line["chunks"])
    first, _, last = text.rstrip(".").split(" ")
    assert first == last == line["prompt"] != "Anna"
    assert [len(chunk[0]) for chunk in line["chunks"]] == [2, 9, 3]
    assert line["text"] == "scrambled"


def told(text: str, logprobs: tuple[float, ...], *steps: tuple[int, int]) -> Sample:
    made = sample(text, len(logprobs), *steps)
    made.logprobs = logprobs
    return made


def test_log_probabilities_are_kept_with_the_full_text_only(tmp_path: Path) -> None:
    record = exchange(attempt())
    said = [told("one two", (-0.123456, -2.0)), told(" three", (-1.0, -3.0, -4.0), (1, 3), (0, 3)), sample(".", 1)]
    (found,) = recordings(record, [(record.attempts[0], said)])
    line = json.loads(line_of(found, "full"))
    assert line["chunks"] == [["one two three", 2, 1, 3], ["", 3, 0, 3], [".", 1, 0, 0]]
    assert line["logprobs"] == [[-0.1235, -2.0], [-1.0, -3.0, -4.0], []]
    kept = [one.logprobs for one in samples(read_back(tmp_path, line_of(found, "full")))]
    assert kept == [(-0.1235, -2.0), (-1.0, -3.0, -4.0), ()]
    assert "logprobs" not in json.loads(line_of(found, "scrambled"))
    assert "logprobs" not in json.loads(line_of(found))


def test_log_probabilities_without_any_step_go_chunk_by_chunk() -> None:
    said = [told("one", (-1.0,)), told(" two", (-2.0,))]
    assert rows_told(said) == ([("one", 1), (" two", 1)], [[-1.0], [-2.0]])
