"""Plain chunks: told by their bytes, and nothing else is taken for one."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.proto.chunks import decode_chunk, sample_texts
from guard.proto.cuts import cut_step
from guard.proto.plain import PlainForm, Run
from guard.proto.sse import SseParser
from guard.signals.vllm import VllmAdapter
from guard.types import Channel
from guard.wire import Plain


def chunk(text: str, accepted: int = 2, tokens: int = 3, field: str = "content", **more: Any) -> bytes:
    """As vLLM with the plugin writes it."""
    choice = {"index": 0, "delta": {field: text}, "logprobs": None, "finish_reason": None, "token_ids": [7] * tokens}
    steps = {"per_step_accepted": [accepted], "per_step_drafted": [3]}
    fields = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 17, "model": "m/x", "choices": [choice]}
    return event({**fields, "metrics": {"speculative_decoding": steps}, **more})


def event(fields: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode() + b"\n\n"


def changed(text: str, old: bytes, new: bytes) -> bytes:
    raw = chunk(text)
    assert old in raw
    return raw.replace(old, new)


FORM = PlainForm.of(chunk("a"))
assert FORM is not None


def run_of(*chunks: Plain) -> Run:
    run = Run()
    for plain in chunks:
        run.add(plain)
    return run


@pytest.mark.parametrize("text", ["a", " the", 'say "hi"\n\t\\', "Füße", "日本", "😀", "\x7f"])
def test_one_is_read_and_cut_as_the_long_way_does(text: str) -> None:
    raw = chunk(text, 1, 2)
    plain = FORM.read(raw)
    assert plain is not None
    (parsed,) = SseParser().feed(raw)
    decoded = decode_chunk(parsed.data or b"")
    assert FORM.cut(plain) == cut_step(parsed, decoded)
    assert plain.json == parsed.data
    (sample,) = VllmAdapter(3).observe(decoded, sample_texts)
    run = run_of(plain)
    assert FORM.sample(run.text).texts == sample.texts
    assert run.tokens == sample.tokens
    (step,) = sample.steps
    assert run.take() == bytes([step.accepted, step.drafted, sample.tokens])


def test_several_are_read_as_one_text_and_a_step_that_was_cut_emits_no_more_than_its_chunk() -> None:
    chunks = [FORM.read(chunk(text, 3, tokens)) for text, tokens in (("a\n", 4), ("é", 4), ("c", 2))]
    found = [plain for plain in chunks if plain is not None]
    assert run_of(*found[:2]).text == "a\né"
    counts = bytes([3, 3, 4, 3, 3, 4, 3, 3, 2])
    at_once = run_of(found[0])
    at_once.add_all(counts[3:], "éc", found[2])
    for run in (run_of(*found), at_once):
        assert (run.text, run.tokens, run.counts, run.last) == ("a\néc", 10, counts, found[2])


def test_counts_are_taken_once_and_the_text_stays() -> None:
    one, two, three = (FORM.read(chunk(text, 1, tokens)) for text, tokens in (("a", 2), ("b", 2), ("c", 1)))
    assert one is not None
    assert two is not None
    assert three is not None
    run = run_of(one, two)
    assert (run.unjudged, run.steps) == (4, 2)
    assert run.take() == bytes([1, 3, 2, 1, 3, 2])
    assert (run.unjudged, run.steps, run.take()) == (0, 0, b"")
    run.add(three)
    assert (run.unjudged, run.steps, run.tokens, run.text) == (1, 1, 5, "abc")
    assert run.take() == bytes([1, 3, 1])


def test_steps_deeper_than_a_byte_go_the_long_way() -> None:
    raw = chunk("a", 2, 3)
    assert FORM.read(raw) is not None
    assert FORM.read(raw.replace(b'"per_step_accepted":[2]', b'"per_step_accepted":[255]')) is not None
    assert FORM.read(raw.replace(b'"per_step_accepted":[2]', b'"per_step_accepted":[256]')) is None
    assert FORM.read(raw.replace(b'"per_step_drafted":[3]', b'"per_step_drafted":[999]')) is None


def test_completions_and_reasoning_have_forms_of_their_own() -> None:
    choice = {"index": 0, "text": " x", "logprobs": None, "finish_reason": None, "stop_reason": None}
    more = {"prompt_logprobs": None, "prompt_token_ids": None, "token_ids": [1]}
    steps = {"per_step_accepted": [0], "per_step_drafted": [3]}
    raw = event({"id": "c", "choices": [{**choice, **more}], "metrics": {"speculative_decoding": steps}})
    form = PlainForm.of(raw)
    assert form is not None
    assert form.channel is Channel.CONTENT
    plain = form.read(raw)
    assert plain is not None
    assert (plain.tokens, plain.accepted, plain.drafted) == (1, 0, 3)
    for field in ("reasoning", "reasoning_content"):
        thinks = PlainForm.of(chunk("hm", field=field))
        assert thinks is not None
        assert thinks.channel is Channel.REASONING
        assert thinks.read(chunk("hm")) is None


@pytest.mark.parametrize(
    "raw",
    [
        chunk("a") * 2,
        chunk("a")[:-1],
        chunk("a") + b": comment\n\n",
        chunk(""),
        chunk("a", usage={"completion_tokens": 1}),
        chunk("a", tokens=0),
        chunk("a").replace(b"data: ", b"data:"),
        chunk("a").replace(b"\n", b"\r\n"),
        changed("a", b'"finish_reason":null', b'"finish_reason":"stop"'),
        changed("a", b'"logprobs":null', b'"logprobs":{}'),
        changed("a", b'"index":0', b'"index":1'),
        changed("a", b'"content":"a"', b'"content":"a","tool_calls":[]'),
        changed("a", b'"content":"a"', b'"content":null'),
        changed("a", b'"content":"a"', b'"content":"\\u0061"'),
        changed("a", b'"content":"a"', b'"content":"\\x"'),
        changed("a", b'"content":"a"', b'"content":"\xff"'),
        changed("a", b'"content":"a"', b'"content":"\xed\xa0\x80"'),
        changed("a", b'"content":"a"', b'"content":"\n"'),
        changed("a", b"[7,7,7]", b"[7,7,7,]"),
        changed("a", b'"per_step_accepted":[2]', b'"per_step_accepted":[2,1]'),
        changed("a", b'"per_step_accepted":[2]', b'"per_step_accepted":[-1]'),
        changed("a", b'"model":"m/x"', b'"model":"m/x","error":{"message":"no"}'),
    ],
)
def test_what_differs_in_one_place_is_not_plain(raw: bytes) -> None:
    assert FORM.read(raw) is None
    found = PlainForm.of(raw)
    assert found is None or found.read(chunk("a")) is None


def test_another_answers_chunk_is_not_of_this_form() -> None:
    assert FORM.read(chunk("a", id="chatcmpl-2")) is None


@given(st.binary(max_size=40), st.integers(0, 60), st.integers(0, 60))
def test_whatever_is_taken_for_plain_is_what_the_long_way_finds(noise: bytes, at: int, length: int) -> None:
    """Bytes of a plain chunk are replaced at random: what still passes must decode to the same."""
    raw = chunk("some text here")
    start = raw.index(b'"content"') + at
    raw = raw[:start] + noise + raw[start + length :]
    plain = FORM.read(raw)
    if plain is None:
        return
    (parsed,) = SseParser().feed(raw)
    decoded = decode_chunk(parsed.data or b"")
    delta = decoded.choices[0].delta
    assert delta is not None
    assert delta.content == run_of(plain).text
    assert len(decoded.choices[0].token_ids or ()) == plain.tokens
    assert msgspec.json.decode(FORM.cut(plain)[6:-2])["choices"][0]["token_ids"] is None
