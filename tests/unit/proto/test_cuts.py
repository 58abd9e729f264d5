"""Cuts without decoding: nothing else changes, and what looks otherwise is left to the decoder."""

from __future__ import annotations

import itertools
import json

import pytest

from guard.proto.chunks import decode_chunk
from guard.proto.cuts import cut_bytes, cut_step, has_token_ids
from guard.proto.sse import SseEvent, SseParser

STEPS = '"metrics":{"speculative_decoding":{"per_step_accepted":[2],"per_step_drafted":[3]}}'


def event_of(data: str) -> SseEvent:
    (event,) = SseParser().feed(b"data: " + data.encode() + b"\n\n")
    return event


def chunk_of(said: str, *, logprobs: str = "null", ids: str = '"token_ids":[1,2]', more: str = STEPS) -> str:
    choice = f'{{"index":0,{said},"logprobs":{logprobs},"finish_reason":null,{ids}}}'
    return f'{{"id":"a","choices":[{choice}],{more}}}'


TEXTS = [
    '"delta":{"content":"plain"}',
    '"text":"plain"',
    r'"delta":{"content":"},\"metrics\":{\"speculative_decoding\":{ \"token_ids\":[1]}]"}',
    '"delta":{"content":"träge ü"}',
    '"delta":{"reasoning":"hm"}',
    '"delta":{}',
    '"delta":{"content":""}',
]
IDS = ['"token_ids":[1,2]', '"token_ids":[]', '"token_ids":null', '"token_ids":[1],"prompt_token_ids":[3]']
MORE = [STEPS, '"usage":null,' + STEPS, STEPS + ',"usage":null', '"prompt_token_ids":[5],' + STEPS, '"usage":null']


@pytest.mark.parametrize(("said", "ids", "more"), list(itertools.product(TEXTS, IDS, MORE)))
@pytest.mark.parametrize("logprobs", ["null", '{"content":[]}'])
def test_the_quick_cut_of_a_step_is_the_other_one_or_none(said: str, ids: str, more: str, logprobs: str) -> None:
    event = event_of(chunk_of(said, logprobs=logprobs, ids=ids, more=more))
    assert event.data is not None
    chunk = decode_chunk(event.data)
    quick = cut_step(event, chunk)
    if quick is None:
        return
    assert quick == cut_bytes(event, chunk, timings=False, tokens=True, metrics=True, logprobs=False)
    left = json.loads(quick[6:])
    before = json.loads(event.data)
    del before["metrics"]
    before["choices"][0]["token_ids"] = None
    assert left == before


@pytest.mark.parametrize("said", TEXTS[:4])
def test_the_usual_chunk_takes_the_quick_way(said: str) -> None:
    event = event_of(chunk_of(said))
    assert event.data is not None
    assert cut_step(event, decode_chunk(event.data)) is not None


def test_token_ids_of_the_prompt_count_too() -> None:
    assert has_token_ids(b'"prompt_token_ids":[1]', decode_chunk(b"{}"))
    assert not has_token_ids(b'"prompt_token_ids":null', decode_chunk(b"{}"))


OPENING = (
    '{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null,"token_ids":null%s}'
)


def cut_ids(data: str) -> bytes | None:
    event = event_of(data)
    assert event.data is not None
    return cut_bytes(event, decode_chunk(event.data), timings=False, tokens=True, metrics=False, logprobs=False)


@pytest.mark.parametrize("ids", ["[]", "[7]", "[1,2,3]"])
def test_the_prompts_token_ids_go_from_an_opening_without_decoding_it(ids: str) -> None:
    at_the_top = f'{{"id":"a","choices":[{OPENING % ""}],"prompt_token_ids":%s,"prompt_text":null}}'
    in_the_choice = '{"id":"a","choices":[' + OPENING % ',"prompt_token_ids":%s' + '],"usage":null}'
    for form in (at_the_top, in_the_choice):
        assert cut_ids(form % ids) == b"data: " + (form % "null").encode() + b"\n\n"


def test_two_places_with_the_prompts_token_ids_are_left_to_the_decoder() -> None:
    one = OPENING % ',"prompt_token_ids":%s'
    for first, second in (("[1]", "[1]"), ("null", "[1]"), ("[1]", "null")):
        assert cut_ids('{"choices":[' + one % first + '],"prompt_token_ids":' + second + "}") is None
