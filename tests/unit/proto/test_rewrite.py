"""What the guard asked for is taken out again; nothing else changes by a byte."""

from __future__ import annotations

import json
from typing import Any

import pytest

from guard.proto.openai import ClientRequest, Route, decode_chunk, parse_request
from guard.proto.rewrite import ChunkRewriter, Continuation, Identity
from guard.proto.sse import SseEvent, SseParser
from guard.types import StepAcceptance

TIMINGS = '"timings":{"cache_n":4,"predicted_n":2,"predicted_ms":62.32,"draft_n":3,"draft_n_accepted":1}'
HEAD = '"created":17,"id":"chatcmpl-a","model":"m","object":"chat.completion.chunk"'
VLLM = '"id":"chatcmpl-b","object":"chat.completion.chunk","created":18,"model":"m"'
STEPS = (StepAcceptance(1, 3, 2, True), StepAcceptance(0, 3, 1, True))


def client(route: Route = Route.CHAT, **fields: Any) -> ClientRequest:
    return parse_request(route, json.dumps({"stream": True, **fields}).encode())


def event(data: str | bytes) -> SseEvent:
    raw = data if isinstance(data, bytes) else f"data: {data}\n\n".encode()
    (parsed,) = SseParser().feed(raw)
    return parsed


def rewritten(rewriter: ChunkRewriter, data: str | bytes, steps: tuple[StepAcceptance, ...] = ()) -> bytes:
    parsed = event(data)
    assert parsed.data is not None
    return rewriter.apply(parsed, decode_chunk(parsed.data), steps)


def llama(data: str | bytes, **fields: Any) -> bytes:
    return rewritten(ChunkRewriter(client(**fields), engine="llama.cpp"), data)


def vllm(data: str | bytes, **fields: Any) -> bytes:
    return rewritten(ChunkRewriter(client(**fields), engine="vllm"), data)


def line(data: str) -> bytes:
    return f"data: {data}\n\n".encode()


TEXT = '{"choices":[{"finish_reason":null,"index":0,"delta":{"content":" \\"timings\\":{}, é"}}],'


def test_a_chunk_without_anything_of_the_guards_is_the_same_object() -> None:
    parsed = event(TEXT + HEAD + "}")
    assert parsed.data is not None
    for engine in ("llama.cpp", "vllm", "sglang", "text"):
        rewriter = ChunkRewriter(client(), engine=engine)
        assert rewriter.apply(parsed, decode_chunk(parsed.data)) is parsed.raw


def test_timings_are_cut_from_a_text_chunk() -> None:
    assert llama(TEXT + HEAD + "," + TIMINGS + "}") == line(TEXT + HEAD + "}")


def test_timings_are_cut_wherever_they_stand_and_however_they_are_spaced() -> None:
    assert llama("{" + TIMINGS + ", " + TEXT[1:] + HEAD + " }") == line(TEXT + HEAD + "}")
    assert llama(TEXT + HEAD + ',"timings": {"predicted_n": 1}}') == line(TEXT + HEAD + "}")


def test_timings_of_another_object_stay() -> None:
    inner = ',"extra":{"x":1,"timings":{"a":1}}}'
    assert llama(TEXT + HEAD + inner) == line(TEXT + HEAD + inner)
    assert llama(TEXT + HEAD + "," + TIMINGS + inner) == line(TEXT + HEAD + inner)


def test_timings_that_the_client_asked_for_stay() -> None:
    chunk = TEXT + HEAD + "," + TIMINGS + "}"
    assert llama(chunk, timings_per_token=True) == line(chunk)


def test_timings_stay_where_llama_cpp_always_puts_them() -> None:
    final = '{"choices":[{"finish_reason":"stop","index":0,"delta":{}}],' + HEAD + "," + TIMINGS + "}"
    usage = '{"choices":[],' + HEAD + ',"usage":{"completion_tokens":2},' + TIMINGS + "}"
    assert llama(final) == line(final)
    assert llama(usage) == line(usage)


def test_a_textless_llama_cpp_chunk_loses_its_timings_without_waiting() -> None:
    empty = '{"choices":[{"text":"","index":0,"logprobs":null,"finish_reason":null}],' + HEAD
    assert llama(empty + "," + TIMINGS + "}") == line(empty + "}")


def test_the_null_that_opens_some_llama_cpp_streams_passes() -> None:
    assert llama("null") == line("null")


def chat_chunk(ids: str, tail: str = "", delta: str = '{"content":"n"}') -> str:
    return (
        "{" + VLLM + ',"choices":[{"index":0,"delta":' + delta + ',"logprobs":null,"finish_reason":null,'
        '"token_ids":' + ids + "}]" + tail + "}"
    )


def test_token_ids_become_null_again() -> None:
    assert vllm(chat_chunk("[82,5]")) == line(chat_chunk("null"))
    usage = ',"usage":{"prompt_tokens":3,"total_tokens":4,"completion_tokens":1}'
    assert vllm(chat_chunk("[]", usage)) == line(chat_chunk("null", usage))


def test_token_ids_that_the_client_asked_for_stay() -> None:
    assert vllm(chat_chunk("[82]"), return_token_ids=True) == line(chat_chunk("[82]"))


def test_token_ids_of_something_else_stay() -> None:
    tail = ',"extra":{"token_ids":[7]}'
    assert vllm(chat_chunk("[82]", tail)) == line(chat_chunk("null", tail))


def test_prompt_token_ids_become_null_again_on_both_routes() -> None:
    role = "{" + VLLM + ',"choices":[{"index":0,"delta":{"role":"assistant","content":""}}],'
    assert vllm(role + '"prompt_token_ids":[1,2],"prompt_text":null}') == line(
        role + '"prompt_token_ids":null,"prompt_text":null}'
    )
    text = "{" + VLLM + ',"choices":[{"index":0,"text":"a","stop_reason":null,'
    assert vllm(text + '"prompt_token_ids":[1],"token_ids":[2]}]}') == line(
        text + '"prompt_token_ids":null,"token_ids":null}]}'
    )


def test_with_an_echo_the_prompts_token_ids_stay_in_a_stream() -> None:
    # vLLM sends them unasked in a stream with an echo.
    choice = '{"index":0,"text":"a","stop_reason":null,"prompt_token_ids":[1],"token_ids":null}'
    text = "{" + VLLM + ',"choices":[' + choice + "]}"
    assert vllm(text, echo=True) == line(text)


def test_a_delta_that_vllm_sends_only_for_its_token_ids_vanishes() -> None:
    assert vllm(chat_chunk("[82]", delta="{}")) == b""
    assert vllm(chat_chunk("[82]", delta='{"content":""}')) == line(chat_chunk("null", delta='{"content":""}'))
    end = chat_chunk("[82]", delta="{}").replace('"finish_reason":null', '"finish_reason":"stop"')
    assert vllm(end) == line(end.replace("[82]", "null"))


METRICS = ',"metrics":{"speculative_decoding":{"per_step_accepted":[1],"per_step_drafted":[3]}}'


def test_the_plugins_steps_are_cut_from_chunks_with_choices() -> None:
    assert vllm(chat_chunk("[82,5]", METRICS)) == line(chat_chunk("null"))
    assert vllm(chat_chunk("null", METRICS)) == line(chat_chunk("null"))
    other = METRICS[:-1] + ',"queue_time_ms":0.5}'
    assert vllm(chat_chunk("null", other)) == line(chat_chunk("null", ',"metrics":{"queue_time_ms":0.5}'))


def test_steps_that_the_client_asked_the_plugin_for_stay() -> None:
    asked = vllm(chat_chunk("null", METRICS), vllm_xargs={"guard_acceptance": 1})
    assert asked == line(chat_chunk("null", METRICS))
    assert vllm(chat_chunk("null", METRICS), vllm_xargs={"other": 1}) == line(chat_chunk("null"))


def test_vllms_own_totals_in_the_closing_chunk_stay() -> None:
    closing = "{" + VLLM + ',"choices":[],"usage":{"prompt_tokens":3}' + METRICS + "}"
    assert vllm(closing) == line(closing)


def test_steps_are_shown_to_a_client_that_asks() -> None:
    rewriter = ChunkRewriter(client(), engine="llama.cpp", annotate=True)
    out = rewritten(rewriter, TEXT + HEAD + "," + TIMINGS + "}", STEPS)
    assert out == line(TEXT + HEAD + ',"guard":{"accepted":[1,0],"drafted":[3,3]}}')
    plain = TEXT + HEAD + "}"
    assert rewritten(rewriter, plain) == line(plain)


def test_steps_of_a_chunk_that_vanished_are_shown_with_the_next() -> None:
    rewriter = ChunkRewriter(client(), engine="vllm", annotate=True)
    assert rewritten(rewriter, chat_chunk("[82]", delta="{}"), STEPS[:1]) == b""
    out = rewritten(rewriter, chat_chunk("[82]"), STEPS[1:])
    assert out == line(chat_chunk("null", ',"guard":{"accepted":[1,0],"drafted":[3,3]}'))


def test_the_first_chunk_tells_the_answers_identity() -> None:
    rewriter = ChunkRewriter(client(), engine="text")
    assert rewriter.identity is None
    rewritten(rewriter, "{" + VLLM + ',"choices":[]}')
    rewritten(rewriter, '{"id":"other","created":99,"choices":[]}')
    assert rewriter.identity == Identity(b'"chatcmpl-b"', b"18")


def later(prompt: int = 0, completion: int = 0, *, role_sent: bool = True) -> ChunkRewriter:
    identity = Identity(b'"first"', b"11")
    return ChunkRewriter(client(), engine="vllm", continuation=Continuation(identity, prompt, completion, role_sent))


def test_a_later_attempt_takes_over_the_first_ones_identity() -> None:
    out = rewritten(later(), chat_chunk("[82]"))
    assert out == line(chat_chunk("null").replace('"chatcmpl-b"', '"first"').replace("18", "11"))


@pytest.mark.parametrize("top", [True, False])
def test_a_text_that_goes_on_does_not_tell_its_prompt_again(top: bool) -> None:
    """It would be the prompt with the released text after it; from the start again, it is the client's own."""
    ids = '"prompt_token_ids":[1,2,3],'
    chunk = "{" + VLLM + ',%s"choices":[{"index":0,%s"text":"a","logprobs":null,"token_ids":[9]}]}'
    told = chunk % ((ids, "") if top else ("", ids))
    first = Identity(b'"chatcmpl-b"', b"18")
    asked = client(Route.COMPLETIONS, return_token_ids=True)
    on = ChunkRewriter(asked, engine="vllm", continuation=Continuation(first, -2, 2, text="so"))
    assert rewritten(on, told) == line(told.replace("[1,2,3]", "null"))
    anew = ChunkRewriter(asked, engine="vllm", continuation=Continuation(first))
    assert rewritten(anew, told) == line(told)
    unasked = ChunkRewriter(
        client(Route.COMPLETIONS), engine="vllm", continuation=Continuation(first, -2, 2, text="so")
    )
    assert rewritten(unasked, told) == line(told.replace("[1,2,3]", "null").replace("[9]", "null"))


def test_a_later_attempts_role_is_not_repeated() -> None:
    role = "{" + VLLM + ',"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}'
    assert rewritten(later(), role) == b""
    assert b'"first"' in rewritten(later(role_sent=False), role)
    said = role.replace('"content":""', '"content":"a"')
    assert b'"content":"a"' in rewritten(later(), said)


def test_a_later_attempts_usage_is_that_of_the_whole_answer() -> None:
    usage = ',"usage":{"prompt_tokens":12,"total_tokens":20,"completion_tokens":8,"x":null}}'
    out = json.loads(rewritten(later(-5, 5), "{" + VLLM + ',"choices":[]' + usage)[6:])
    assert out["usage"] == {"prompt_tokens": 7, "total_tokens": 20, "completion_tokens": 13, "x": None}


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_name_id_comments_and_line_ends_of_an_event_stay(end: str) -> None:
    data = TEXT + HEAD + "," + TIMINGS + "}"
    half = data.index('"created"')
    lines = ["event: delta", ": note", "data: " + data[:half], "id: 4", "data:" + data[half:], "", ""]
    kept = ["event: delta", ": note", "data: " + TEXT + HEAD + "}", "id: 4", "", ""]
    parser = SseParser()
    (parsed,) = parser.feed(end.join(lines).encode()) + parser.finish()
    assert parsed.data is not None
    rewriter = ChunkRewriter(client(), engine="llama.cpp")
    assert rewriter.apply(parsed, decode_chunk(parsed.data)) == end.join(kept).encode()


def test_line_breaks_inside_a_kept_value_stay_inside_the_event() -> None:
    out = llama(b'data: {"a":[1,\ndata: 2],"choices":[{"index":0,"text":"x"}],"timings":{}}\n\n')
    (parsed,) = SseParser().feed(out)
    assert parsed.data == b'{"a":[1,\n2],"choices":[{"index":0,"text":"x"}]}'


def test_a_comment_passes() -> None:
    comment = SseEvent(b": ping\n\n", None)
    assert ChunkRewriter(client(), engine="vllm").apply(comment, decode_chunk(b"{}")) is comment.raw


TOLD = '{"content":[{"token":"n","logprob":-0.5,"bytes":[110],"top_logprobs":[]}]}'


def with_logprobs(chunk: str, told: str = TOLD) -> str:
    return chunk.replace('"logprobs":null', '"logprobs":' + told)


@pytest.mark.parametrize("delta", ['{"content":"n"}', '{"content":",\\"logprobs\\":{,\\"finish_reason\\":"}'])
def test_log_probabilities_that_only_the_guard_asked_for_become_null_again(delta: str) -> None:
    told = with_logprobs(chat_chunk("[82]", METRICS, delta=delta))
    assert vllm(told) == line(chat_chunk("null", delta=delta))
    assert vllm(with_logprobs(chat_chunk("null"))) == line(chat_chunk("null"))
    tricky = TOLD.replace('"n"', '",\\"finish_reason\\":"')
    assert vllm(with_logprobs(chat_chunk("[82]"), tricky)) == line(chat_chunk("null"))
    spaced = with_logprobs(chat_chunk("[82]")).replace('"logprobs":{', '"logprobs" : {')
    assert vllm(spaced) == line(chat_chunk("null"))


def test_log_probabilities_of_two_choices_become_null_again() -> None:
    choice = '{"index":%d,"text":"a","logprobs":{"token_logprobs":[-1.0]},"finish_reason":null}'
    both = "{" + VLLM + ',"choices":[' + choice % 0 + "," + choice % 1 + "]}"
    assert vllm(both) == line(both.replace('{"token_logprobs":[-1.0]}', "null"))


def test_log_probabilities_that_the_client_asked_for_stay() -> None:
    told = with_logprobs(chat_chunk("null"))
    assert vllm(told, logprobs=True) == line(told)
    text = "{" + VLLM + ',"choices":[{"index":0,"text":"a","logprobs":{"token_logprobs":[-1.0]},"finish_reason":null}]}'
    asked = ChunkRewriter(client(Route.COMPLETIONS, logprobs=0), engine="vllm")
    assert rewritten(asked, text) == line(text)


def test_a_delta_that_vllm_sends_only_for_its_log_probabilities_vanishes() -> None:
    assert vllm(with_logprobs(chat_chunk("[82]", delta="{}"))) == b""
