"""What the player makes of recordings, before any network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from guard.errors import ConfigError, ProtocolError
from guard.lab.cases import samples
from guard.lab.tape_player import chat_events, continued_text, load, of_sse
from guard.proto.openai import decode_chunk, is_done, sample_texts
from guard.proto.sse import SseParser
from guard.signals.logprobs import LogprobAdapter
from guard.signals.text import TextAdapter
from guard.signals.vllm import VllmAdapter
from tests.unit.lab.streams import bad, corpus, good, line


def datas(events: list[tuple[bytes, int]]) -> list[bytes]:
    parsed = SseParser().feed(b"".join(data for data, _ in events))
    return [event.data for event in parsed if event.data is not None]


def write(folder: Path, *lines: dict[str, Any]) -> Path:
    path = folder / "c.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    return path


def test_a_case_arrives_at_the_detectors_as_it_stands_in_the_file(tmp_path: Path) -> None:
    chunks = [*good(3), ["a", 1, 0, 0], ["b", 2, 1, 5], ["c", 2, 1, -1], *bad(2)]
    (recorded,) = load(write(tmp_path, line("a", chunks)))
    assert recorded.case is not None
    *data, last = datas(chat_events(recorded.case, recorded.case.chunks))
    assert is_done(last)
    adapter = VllmAdapter(recorded.num_speculative_tokens)
    seen = [sample for one in data for sample in adapter.observe(decode_chunk(one), sample_texts)]
    want = list(samples(recorded.case))
    assert [sample.texts for sample in seen] == [sample.texts for sample in want]
    assert [sample.tokens for sample in seen] == [sample.tokens for sample in want]
    assert [[(s.accepted, s.drafted) for s in one.steps] for one in seen] == [
        [(s.accepted, s.drafted) for s in one.steps] for one in want
    ]


def test_a_case_without_speculation_tells_of_no_step(tmp_path: Path) -> None:
    (recorded,) = load(write(tmp_path, line("a", [["a", 1], ["bcd", 3], ["", 0], ["e", 2]], num_speculative_tokens=0)))
    assert recorded.case is not None
    assert (recorded.engine, recorded.num_speculative_tokens) == ("text", None)
    adapter = TextAdapter()
    data = datas(chat_events(recorded.case, recorded.case.chunks))[:-1]
    seen = [sample for one in data for sample in adapter.observe(decode_chunk(one), sample_texts)]
    assert [(sample.tokens, sample.steps) for sample in seen] == [(1, ()), (3, ()), (2, ())]


def test_a_file_of_cases_is_as_many_recordings(tmp_path: Path) -> None:
    recorded = load(corpus(tmp_path))
    assert [one.name for one in recorded][:2] == ["good", "copy"]
    assert {(one.route, one.engine, one.num_speculative_tokens) for one in recorded} == {
        ("/v1/chat/completions", "vllm", 3)
    }


def sse(*chunks: dict[str, Any]) -> bytes:
    return b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks) + b"data: [DONE]\n\n"


@pytest.mark.parametrize(
    ("chunk", "engine", "route"),
    [
        ({"choices": [{"index": 0, "delta": {"content": "x"}}]}, "text", "/v1/chat/completions"),
        ({"choices": [{"index": 0, "text": "x"}]}, "text", "/v1/completions"),
        ({"choices": [{"index": 0, "text": "x", "token_ids": [1]}]}, "vllm", "/v1/completions"),
        ({"choices": [{"index": 0, "delta": {}}], "metrics": {}}, "vllm", "/v1/chat/completions"),
        ({"choices": [{"index": 0, "delta": {}}], "timings": {}}, "llama.cpp", "/v1/chat/completions"),
    ],
)
def test_engine_and_route_are_read_off_a_captured_stream(chunk: dict[str, Any], engine: str, route: str) -> None:
    recorded = of_sse("x", sse(chunk))
    assert (recorded.engine, recorded.route, len(recorded.events)) == (engine, route, 2)


@pytest.mark.parametrize("data", [b"", b"data: [DONE]\n\n", b"data: {\n\n", b": only a comment\n\n"])
def test_what_is_no_stream_is_refused(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(ProtocolError):
        of_sse("x", data)
    path = tmp_path / "x.sse"
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=r"x\.sse: not a captured stream"):
        load(path)


def test_a_missing_capture_is_named() -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load(Path("/nowhere/x.sse"))


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"messages": [{"role": "assistant", "content": "so far"}], "continue_final_message": True}, "so far"),
        ({"messages": [{"role": "assistant", "content": "so far"}]}, ""),
        ({"messages": [], "continue_final_message": True}, ""),
        ({"messages": ["x"], "continue_final_message": True}, ""),
        ({"messages": [{"content": [1]}], "continue_final_message": True}, ""),
        ([], ""),
    ],
)
def test_what_a_request_asks_to_continue(body: object, text: str) -> None:
    assert continued_text(body) == text


def test_log_probabilities_are_told_to_who_asks(tmp_path: Path) -> None:
    (recorded,) = load(write(tmp_path, line("a", [["a", 2], ["b", 1]], logprobs=[[-0.5, -1.5], []])))
    assert recorded.case is not None
    asked = datas(chat_events(recorded.case, recorded.case.chunks, logprobs=True))
    adapter = LogprobAdapter(VllmAdapter(3))
    seen = [sample for one in asked[:-1] for sample in adapter.observe(decode_chunk(one), sample_texts)]
    assert [sample.logprobs for sample in seen] == [(-0.5, -1.5), ()]
    assert b"logprobs" not in b"".join(datas(chat_events(recorded.case, recorded.case.chunks)))


def test_a_captured_stream_may_have_any_name(tmp_path: Path) -> None:
    event = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":null}]}\n\n'
    for begins in (b"", b"\n", b": ping\n\n"):
        (tmp_path / "curl.txt").write_bytes(begins + event + b"data: [DONE]\n\n")
        (recorded,) = load(tmp_path / "curl.txt")
        assert (recorded.name, recorded.case) == ("curl.txt", None)
    with pytest.raises(ConfigError, match=r"^/nowhere/x\.txt: cannot be read"):
        load(Path("/nowhere/x.txt"))
