"""SGLang's own generation route, whichever way its server streams."""

from __future__ import annotations

import json
from typing import Any

import pytest

from guard.errors import ProtocolError
from guard.proto.chunks import LastChunk
from guard.proto.client import ClientRequest
from guard.proto.family import Notice
from guard.proto.prompt import prompt_text
from guard.proto.request import stream_hazards, upstream_body
from guard.proto.sglang import GENERATE
from guard.proto.sse import SseParser
from guard.wire import Chunk
from tests.unit.proto.streams import (
    SGLANG_CUMULATIVE,
    SGLANG_ERROR,
    SGLANG_INCREMENTAL,
    SGLANG_TWO,
    generated,
    plain,
)


def request(**fields: Any) -> ClientRequest:
    return GENERATE.parse("/generate", json.dumps({"text": "once", "stream": True, **fields}).encode())


def read(stream: bytes) -> list[Chunk]:
    reader = GENERATE.reader()
    return [reader.read(event) for event in SseParser().feed(stream) if event.data is not None]


@pytest.mark.parametrize("stream", [SGLANG_CUMULATIVE, SGLANG_INCREMENTAL])
def test_only_what_is_new_counts(stream: bytes) -> None:
    chunks = read(stream)
    choices = [choice for chunk in chunks for choice in chunk.choices]
    assert [choice.text for choice in choices] == ["Red", ", blue", " 😀"]
    assert [choice.token_ids for choice in choices] == [[1], [2, 3], [4]]
    assert [choice.finish_reason for choice in choices] == [None, None, "length"]
    assert chunks[0].id == "r1"
    assert isinstance(chunks[-1], LastChunk)


def test_choices_are_kept_apart() -> None:
    said = [(c.index, c.text, c.finish_reason) for chunk in read(SGLANG_TWO) for c in chunk.choices]
    assert said == [(0, "Red", None), (1, "Uno", None), (1, " dos", "stop"), (0, "!", "stop")]


def test_a_character_that_was_cut_in_half_is_taken_from_where_it_differs() -> None:
    stream = plain(generated("a\ufffd", [1], total=1), generated("aé", [1, 2], total=2))
    assert [c.text for chunk in read(stream) for c in chunk.choices] == ["a\ufffd", "é"]


def test_a_server_without_tokenizer_or_ids_is_read_too() -> None:
    ids = read(plain({"output_ids": [5], "meta_info": {"id": "r", "completion_tokens": 1}}))[0].choices[0]
    assert (ids.text, ids.token_ids) == ("", [5])
    old = read(plain({"text": "a"}, {"text": "ab"}, {"text": "c"}))
    assert [c.text for chunk in old for c in chunk.choices] == ["a", "b", "c"]


def test_an_error_is_known_although_the_marker_follows() -> None:
    assert read(plain(SGLANG_ERROR))[0].error


def whole(stream: bytes) -> Any:
    gatherer = GENERATE.gatherer(request(stream=False), "sglang")
    for event in SseParser().feed(stream):
        gatherer.add(event.data or b"")
    return json.loads(gatherer.result())


@pytest.mark.parametrize("stream", [SGLANG_CUMULATIVE, SGLANG_INCREMENTAL])
def test_both_kinds_come_to_the_same_answer(stream: bytes) -> None:
    assert whole(stream) == generated("Red, blue 😀", [1, 2, 3, 4], total=4, finish={"type": "length", "length": 4})


def test_several_give_a_list_without_numbers() -> None:
    answer = whole(SGLANG_TWO)
    assert [part["text"] for part in answer] == ["Red!", "Uno dos"]
    assert all("index" not in part for part in answer)


def test_log_probabilities_of_an_incremental_stream_are_joined() -> None:
    parts = [generated("a", [1], total=1), generated("b", [2], total=2)]
    for number, part in enumerate(parts):
        part["meta_info"]["output_token_logprobs"] = [[-0.5, number, None]]
    assert whole(plain(*parts))["meta_info"]["output_token_logprobs"] == [[-0.5, 0, None], [-0.5, 1, None]]


def test_no_chunk_is_no_answer() -> None:
    with pytest.raises(ProtocolError):
        whole(b"data: [DONE]\n\n")


def test_changes_are_named_as_this_route_has_them() -> None:
    asked = request(sampling_params={"temperature": 0.5, "sampling_seed": 3, "top_p": 1})
    assert GENERATE.sampling(asked) == {"temperature": 0.5, "seed": 3}
    body = upstream_body(
        asked,
        switches={"rid": "01x", "return_token_ids": True},
        changes={"cache_salt": "s", "seed": 4, "temperature": 0.6},
        engine="sglang",
    )
    assert json.loads(body) == {
        "text": "once",
        "stream": True,
        "rid": "01x",
        "extra_key": "s",
        "sampling_params": {"temperature": 0.6, "sampling_seed": 4, "top_p": 1},
    }
    several = request(sampling_params=[{}, {}])
    assert "sampling_params" not in GENERATE.changes(several, "sglang", {"seed": 1})


@pytest.mark.parametrize(
    ("fields", "n"),
    [
        ({}, 1),
        ({"sampling_params": {"n": 2}}, 2),
        ({"text": ["a", "b"]}, 2),
        ({"text": None, "input_ids": [[1], [2], [3]]}, 3),
        ({"text": None, "input_ids": [1, 2]}, 1),
    ],
)
def test_choices_are_counted_over_all_prompts(fields: dict[str, Any], n: int) -> None:
    assert request(**fields).n == n


def test_limits_hazards_and_the_prompt() -> None:
    asked = request(sampling_params={"max_new_tokens": 7}, return_hidden_states=True, stream=False)
    assert asked.max_tokens == 7
    assert stream_hazards(asked, "sglang") == ("return_hidden_states is set",)
    assert asked.resume_hazards
    assert prompt_text(asked) == "once"


def test_chunks_pass_as_they_came() -> None:
    rewriter = GENERATE.rewriter(request(), engine="sglang", annotate=False, continuation=None)
    events = SseParser().feed(SGLANG_TWO)
    assert b"".join(rewriter.apply(event, Chunk()) for event in events) == SGLANG_TWO


def test_errors_are_in_sglangs_form() -> None:
    (event,) = SseParser().feed(GENERATE.error_event(Notice("it broke", status=504, code="upstream_timeout")))
    error = json.loads(event.data or b"")["error"]
    assert error["code"] == 504
    assert error["reason"] == "upstream_timeout"
    assert json.loads(GENERATE.error_body(Notice("x")))["error"].keys() == SGLANG_ERROR["error"].keys()


def told(text: str, ids: list[int], logprobs: object, *, total: int) -> dict[str, Any]:
    """A chunk whose tokens come with what `return_logprob` asks for."""
    event = generated(text, ids, total=total)
    event["meta_info"]["output_token_logprobs"] = logprobs
    return event


@pytest.mark.parametrize("whole", [True, False])
def test_log_probabilities_are_those_of_what_is_new(whole: bool) -> None:
    tokens = [[-0.5, 1, None], [-1.5, 2, ", "], [None, 3, "blue"]]
    first = told("Red", [1], tokens[:1], total=1)
    last = told("Red, blue", [1, 2, 3], tokens, total=3) if whole else told(", blue", [2, 3], tokens[1:], total=3)
    found = [bytes(choice.logprobs) for chunk in read(plain(first, last)) for choice in chunk.choices]
    assert found == [b'{"token_logprobs":[-0.5]}', b'{"token_logprobs":[-1.5,null]}']


@pytest.mark.parametrize("odd", [None, {"a": 1}, [[]], "words"])
def test_log_probabilities_of_another_form_are_left_out(odd: object) -> None:
    (chunk, _) = read(plain(told("Red", [1], odd, total=1)))
    assert bytes(chunk.choices[0].logprobs) in (b"", b'{"token_logprobs":[]}')
