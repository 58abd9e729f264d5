"""A streamed answer put together is the answer the engine gives at once."""

from __future__ import annotations

import json
from typing import Any

import pytest

from guard.errors import ProtocolError
from guard.proto.assemble import Assembler
from guard.proto.openai import Route

LLAMA = {"created": 7, "id": "chatcmpl-a", "model": "m.gguf", "system_fingerprint": "b1"}
VLLM = {"id": "chatcmpl-b", "object": "chat.completion.chunk", "created": 8, "model": "m"}


def assembled(assembler: Assembler, *chunks: dict[str, Any] | bytes) -> dict[str, Any]:
    for chunk in chunks:
        assembler.add(chunk if isinstance(chunk, bytes) else json.dumps(chunk).encode())
    answer: dict[str, Any] = json.loads(assembler.result())
    return answer


def llama_delta(delta: dict[str, Any], finish: str | None = None, index: int = 0, **top: Any) -> dict[str, Any]:
    choice = {"finish_reason": finish, "index": index, "delta": delta}
    return {"choices": [choice], **LLAMA, "object": "chat.completion.chunk", **top}


def vllm_delta(delta: dict[str, Any], finish: str | None = None, **choice: Any) -> dict[str, Any]:
    body = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish, **choice}
    return {**VLLM, "choices": [body]}


def test_a_llama_cpp_chat() -> None:
    usage = {"completion_tokens": 2, "prompt_tokens": 5, "total_tokens": 7}
    answer = assembled(
        Assembler(Route.CHAT, "llama.cpp"),
        llama_delta({"role": "assistant", "content": None}),
        llama_delta({"content": "Hel"}),
        llama_delta({"content": "lo"}),
        llama_delta({}, "stop"),
        {"choices": [], **LLAMA, "usage": usage, "timings": {"predicted_n": 2}},
        b"[DONE]",
    )
    assert answer == {
        "choices": [{"finish_reason": "stop", "index": 0, "message": {"role": "assistant", "content": "Hello"}}],
        **LLAMA,
        "object": "chat.completion",
        "usage": usage,
        "timings": {"predicted_n": 2},
    }


def test_an_empty_llama_cpp_answer_has_an_empty_content_even_with_tool_calls() -> None:
    call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": "{"}}
    answer = assembled(
        Assembler(Route.CHAT, "llama.cpp"),
        llama_delta({"role": "assistant", "content": None}),
        llama_delta({"tool_calls": [call]}),
        llama_delta({"tool_calls": [{"index": 0, "function": {"arguments": "}"}}]}),
        llama_delta({}, "tool_calls"),
    )
    assert answer["choices"][0]["message"] == {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
    }


@pytest.mark.parametrize(("forced", "content"), [(True, ""), (False, None)])
def test_vllm_writes_an_empty_content_beside_a_tool_call_that_the_client_demanded(
    forced: bool, content: str | None
) -> None:
    call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    answer = assembled(
        Assembler(Route.CHAT, "vllm", forced_tool=forced), vllm_delta({"tool_calls": [call]}), vllm_delta({}, "stop")
    )
    assert answer["choices"][0]["message"]["content"] == content


def test_llama_cpp_repeats_the_clients_own_beginning_in_a_whole_answer() -> None:
    chunks = (llama_delta({"role": "assistant", "content": None}), llama_delta({"content": " so"}))
    content = assembled(Assembler(Route.CHAT, "llama.cpp", "It is"), *chunks)["choices"][0]["message"]
    assert content["content"] == "It is so"
    other = assembled(Assembler(Route.CHAT, "vllm", "It is"), *chunks)["choices"][0]["message"]
    assert other["content"] == " so"


def test_llama_cpp_choices_are_ordered_and_the_first_ones_usage_counts() -> None:
    def end(index: int) -> dict[str, Any]:
        return {
            "choices": [],
            **LLAMA,
            "usage": {"completion_tokens": index},
            "timings": {"predicted_n": index},
        }

    answer = assembled(
        Assembler(Route.CHAT, "llama.cpp"),
        b"null",
        llama_delta({"content": "b"}, index=1),
        llama_delta({"content": "a"}, index=0),
        llama_delta({}, "stop", index=0),
        end(0),
        llama_delta({}, "length", index=1, prompt_progress={"total": 1}),
        end(1),
    )
    assert [choice["message"]["content"] for choice in answer["choices"]] == ["a", "b"]
    assert [choice["finish_reason"] for choice in answer["choices"]] == ["stop", "length"]
    assert (answer["usage"], answer["timings"]) == ({"completion_tokens": 0}, {"predicted_n": 0})
    assert "prompt_progress" not in answer


def test_a_llama_cpp_completion() -> None:
    def chunk(text: str, finish: str | None = None, **top: Any) -> dict[str, Any]:
        choice = {"text": text, "index": 0, "logprobs": None, "finish_reason": finish}
        return {"choices": [choice], **LLAMA, "object": "text_completion", **top}

    answer = assembled(
        Assembler(Route.COMPLETIONS, "llama.cpp"),
        chunk("one"),
        chunk(" two"),
        chunk("", "length", usage={"completion_tokens": 2}, timings={"predicted_n": 2}),
    )
    assert answer["choices"] == [{"text": "one two", "index": 0, "logprobs": None, "finish_reason": "length"}]
    assert (answer["object"], answer["usage"]) == ("text_completion", {"completion_tokens": 2})


def test_a_vllm_chat_has_all_the_nulls_of_a_whole_answer() -> None:
    entry = {"token": "n", "logprob": -5.62, "bytes": [110], "top_logprobs": []}
    answer = assembled(
        Assembler(Route.CHAT, "vllm"),
        {**vllm_delta({"role": "assistant", "content": ""}), "prompt_token_ids": None, "prompt_text": None},
        vllm_delta({"content": "n"}, logprobs={"content": [entry]}, token_ids=None),
        vllm_delta({"content": "n"}, "stop", logprobs={"content": [entry]}, stop_reason="x", token_ids=None),
        {
            **VLLM,
            "choices": [],
            "usage": {"prompt_tokens": 3, "total_tokens": 5, "completion_tokens": 2},
            "system_fingerprint": "vllm-0.32.0",
            "metrics": {"speculative_decoding": {"num_spec_steps": 1}},
        },
    )
    assert answer == {
        **VLLM,
        "object": "chat.completion",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "nn",
                    "refusal": None,
                    "annotations": None,
                    "audio": None,
                    "function_call": None,
                    "reasoning": None,
                },
                "logprobs": {"content": [entry, entry]},
                "finish_reason": "stop",
                "stop_reason": "x",
                "token_ids": None,
                "routed_experts": None,
            }
        ],
        "service_tier": None,
        "system_fingerprint": "vllm-0.32.0",
        "usage": {
            "prompt_tokens": 3,
            "total_tokens": 5,
            "completion_tokens": 2,
            "prompt_tokens_details": None,
            "completion_tokens_details": None,
        },
        "prompt_logprobs": None,
        "prompt_token_ids": None,
        "prompt_text": None,
        "kv_transfer_params": None,
        "ec_transfer_params": None,
        "metrics": {
            "time_to_first_token_ms": None,
            "generation_time_ms": None,
            "queue_time_ms": None,
            "mean_itl_ms": None,
            "tokens_per_second": None,
            "speculative_decoding": {
                "num_spec_steps": 1,
                "per_step_accepted": None,
                "per_step_drafted": None,
            },
        },
    }


@pytest.mark.parametrize(
    ("delta", "content"),
    [({"reasoning": "hm"}, None), ({"content": ""}, ""), ({"reasoning": "hm", "content": "so"}, "so")],
)
def test_vllms_content_is_null_where_its_parsers_found_something_else(
    delta: dict[str, Any], content: str | None
) -> None:
    answer = assembled(
        Assembler(Route.CHAT, "vllm"),
        vllm_delta({"role": "assistant", "content": ""}),
        vllm_delta(delta),
    )
    message = answer["choices"][0]["message"]
    assert (message["content"], message["reasoning"]) == (content, delta.get("reasoning"))


def test_a_vllm_completion_joins_its_parallel_lists() -> None:
    def chunk(text: str, offset: int, ids: list[int] | None, finish: str | None = None) -> dict[str, Any]:
        logprobs = {
            "text_offset": [offset],
            "token_logprobs": [-1.5],
            "tokens": [text],
            "top_logprobs": [None],
        }
        choice = {"index": 0, "text": text, "logprobs": logprobs, "finish_reason": finish, "token_ids": ids}
        return {**VLLM, "object": "text_completion", "choices": [choice]}

    answer = assembled(Assembler(Route.COMPLETIONS, "vllm"), chunk("ab", 0, [4]), chunk("c", 2, [5], "length"))
    (choice,) = answer["choices"]
    assert choice["text"] == "abc"
    assert choice["logprobs"] == {
        "text_offset": [0, 2],
        "token_logprobs": [-1.5, -1.5],
        "tokens": ["ab", "c"],
        "top_logprobs": [None, None],
    }
    assert choice["token_ids"] == [4, 5]
    assert {name for name in choice if choice[name] is None} == {
        "stop_reason",
        "prompt_logprobs",
        "prompt_token_ids",
        "routed_experts",
    }


def test_tool_calls_are_joined_by_their_index() -> None:
    def call(index: int, **fields: Any) -> dict[str, Any]:
        return vllm_delta({"tool_calls": [{"index": index, **fields}]})

    answer = assembled(
        Assembler(Route.CHAT),
        call(1, id="b", type="function", function={"name": "g", "arguments": ""}),
        call(0, id="a", type="function", function={"name": "f", "arguments": '{"x"'}),
        call(1, function={"arguments": "{}"}),
        call(0, id=None, function={"name": None, "arguments": ":1}"}),
    )
    assert answer["choices"][0]["message"]["tool_calls"] == [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}},
        {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
    ]


def test_the_old_function_call_is_joined() -> None:
    answer = assembled(
        Assembler(Route.CHAT),
        vllm_delta({"function_call": {"name": "f", "arguments": "{"}}),
        vllm_delta({"function_call": {"arguments": "}"}}),
    )
    assert answer["choices"][0]["message"]["function_call"] == {"name": "f", "arguments": "{}"}


def test_unknown_fields_are_kept_and_the_last_value_wins() -> None:
    answer = assembled(
        Assembler(Route.CHAT),
        {**vllm_delta({"content": "a", "mood": "x"}, extra=1), "future": 1},
        {**vllm_delta({"content": "b", "mood": "y"}, extra=2), "future": [2]},
        {**vllm_delta({}, extra=None), "future": None},
    )
    assert answer["future"] == [2]
    assert answer["choices"][0]["extra"] == 2
    assert answer["choices"][0]["message"]["mood"] == "y"


@pytest.mark.parametrize(
    "data",
    [
        b"{",
        b"[1]",
        b"\xff",
        b'{"choices":[1]}',
        b'{"choices":[{"index":"a"}]}',
        b'{"choices":[{"index":0,"delta":{"tool_calls":[{"index":"a"}]}}]}',
    ],
)
def test_what_is_no_chunk_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        Assembler(Route.CHAT).add(data)


def test_an_answer_without_a_chunk_is_none() -> None:
    assembler = Assembler(Route.CHAT)
    assembler.add(b"[DONE]")
    with pytest.raises(ProtocolError, match="without a chunk"):
        assembler.result()


@pytest.mark.parametrize("asked", [True, False])
def test_token_ids_that_only_the_guard_asked_for_are_left_out(asked: bool) -> None:
    answer = assembled(
        Assembler(Route.COMPLETIONS, "vllm", token_ids=asked),
        {**VLLM, "prompt_token_ids": [1], "choices": [{"index": 0, "text": "a", "token_ids": [2, 3]}]},
        {**VLLM, "choices": [{"index": 0, "text": "b", "token_ids": [4], "prompt_token_ids": [1]}]},
    )
    choice = answer["choices"][0]
    assert choice["token_ids"] == ([2, 3, 4] if asked else None)
    assert choice["prompt_token_ids"] == ([1] if asked else None)
    assert answer["prompt_token_ids"] == ([1] if asked else None)


@pytest.mark.parametrize(
    ("deltas", "finish", "unsure"),
    [
        ([{"content": "Hi"}, {"content": " you"}], "length", False),
        ([{"content": "Hi"}, {}], "length", True),
        ([{}, {"tool_calls": [{"index": 0, "function": {"name": "f"}}]}], "length", True),
        ([{"content": "Hi"}, {}], "stop", False),
        ([{}, {"tool_calls": [{"index": 0, "function": {"name": "f"}}]}], "tool_calls", False),
    ],
)
def test_vllms_answer_is_unsure_where_the_token_limit_may_have_cut_a_call(
    deltas: list[dict[str, Any]], finish: str, unsure: bool
) -> None:
    for tools in (True, False):
        assembler = Assembler(Route.CHAT, "vllm", tools=tools, token_ids=False)
        for delta in deltas:
            assembler.add(json.dumps(vllm_delta(delta, token_ids=[1])).encode())
        assembler.add(json.dumps(vllm_delta({}, finish)).encode())
        assert bool(assembler.unsure) == (unsure and tools)


@pytest.mark.parametrize(("ids", "unsure"), [([1], False), ([1, 2], True)])
def test_the_beginning_of_a_call_may_be_kept_back_behind_words_of_the_same_step(ids: list[int], unsure: bool) -> None:
    assembler = Assembler(Route.CHAT, "vllm", tools=True, token_ids=False)
    assembler.add(json.dumps(vllm_delta({"content": "Hello "}, token_ids=ids)).encode())
    assembler.add(json.dumps(vllm_delta({}, "length")).encode())
    assert bool(assembler.unsure) is unsure


@pytest.mark.parametrize(("tokens", "unsure"), [(1, False), (2, True)])
def test_a_call_may_have_begun_in_tokens_of_which_no_chunk_came(tokens: int, unsure: bool) -> None:
    """Without reasoning vLLM sends no chunk for a token whose text it keeps back; its usage has it."""
    assembler = Assembler(Route.CHAT, "vllm", tools=True, token_ids=False)
    assembler.add(json.dumps(vllm_delta({"content": "Hello "}, token_ids=[1])).encode())
    assembler.add(json.dumps(vllm_delta({}, "length")).encode())
    assembler.add(json.dumps({"choices": [], "usage": {"completion_tokens": tokens}}).encode())
    assert bool(assembler.unsure) is unsure


@pytest.mark.parametrize(
    ("arguments", "reason", "unsure"),
    [('{"a":1}', None, False), ('{"a":', None, True), ('{"a":1}', ",", True), ('{"a":1}', 28, True)],
)
def test_vllms_answer_is_unsure_where_a_call_is_not_whole_or_a_stop_word_ended_it(
    arguments: str, reason: object, unsure: bool
) -> None:
    """The whole answer has what cannot be read as a call as raw text."""
    call = {"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": arguments}}]}
    for tools in (True, False):
        assembler = Assembler(Route.CHAT, "vllm", tools=tools, token_ids=False)
        assembler.add(json.dumps(vllm_delta(call, token_ids=[1])).encode())
        end = vllm_delta({}, "stop")
        end["choices"][0]["stop_reason"] = reason
        assembler.add(json.dumps(end).encode())
        assert bool(assembler.unsure) == (unsure and tools)


def test_white_space_that_llama_cpp_kept_back_in_a_chat_at_the_limit_makes_an_answer_unsure() -> None:
    assembler = Assembler(Route.CHAT, "llama.cpp")
    for delta, end in (({"role": "assistant", "content": None}, None), ({}, "length")):
        choice = {"index": 0, "finish_reason": end, "delta": delta}
        assembler.add(json.dumps({"choices": [choice], "timings": {"predicted_n": 1}}).encode())
    assert assembler.unsure


@pytest.mark.parametrize(
    ("route", "said", "text"),
    [
        (Route.COMPLETIONS, "Hi", "Hi\ufffd"),
        (Route.COMPLETIONS, "", "\ufffd"),
        (Route.CHAT, "Hi", "Hi"),
        (Route.CHAT, "", "\ufffd"),
    ],
)
def test_llama_cpp_shows_half_a_character_at_the_token_limit(route: Route, said: str, text: str) -> None:
    """It tells no token after which the text ends inside a character; only its last count has them."""

    def part(text: str, finish: str | None, count: int) -> dict[str, Any]:
        body = {"delta": {"content": text} if text else {}} if route is Route.CHAT else {"text": text}
        return {"choices": [{"index": 0, "finish_reason": finish, **body}], "timings": {"predicted_n": count}}

    told = [part(said, None, 1)] if said else []
    assembler = Assembler(route, "llama.cpp")
    answer = assembled(assembler, *told, part("", "length", 3))
    choice = answer["choices"][0]
    assert (choice["message"]["content"] if route is Route.CHAT else choice["text"]) == text
    assert bool(assembler.unsure) is (route is Route.CHAT)
    assert answer["timings"] == {"predicted_n": 3}


@pytest.mark.parametrize(
    ("finish", "stops", "unsure"), [("length", True, True), ("length", False, False), ("stop", True, False)]
)
def test_what_llama_cpp_kept_back_at_the_limit_makes_an_answer_unsure(finish: str, stops: bool, unsure: bool) -> None:
    """Its streams leave out tokens that might have become a stop word, its whole answers have them."""
    assembler = Assembler(Route.COMPLETIONS, "llama.cpp", stops=stops)
    for count, text, end in ((1, "Hi", None), (2, "", None), (2, "", finish)):
        choice = {"index": 0, "finish_reason": end, "text": text}
        assembler.add(json.dumps({"choices": [choice], "timings": {"predicted_n": count}}).encode())
    assert bool(assembler.unsure) is unsure


def test_an_answer_all_of_whose_tokens_were_told_ends_as_it_is() -> None:
    answer = assembled(
        Assembler(Route.COMPLETIONS, "llama.cpp"),
        {"choices": [{"index": 0, "finish_reason": None, "text": "Hi"}], "timings": {"predicted_n": 3}},
        {"choices": [{"index": 0, "finish_reason": "length", "text": ""}], "timings": {"predicted_n": 3}},
    )
    assert answer["choices"][0]["text"] == "Hi"


def test_a_choice_or_call_whose_number_is_null_is_the_first() -> None:
    made = Assembler(Route.CHAT)
    call = {"index": None, "id": "c", "function": {"name": "f", "arguments": "{}"}}
    made.add(json.dumps({"choices": [{"index": None, "delta": {"tool_calls": [call]}}]}).encode())
    (choice,) = json.loads(made.result())["choices"]
    assert choice["index"] == 0
    assert choice["message"]["tool_calls"][0]["function"] == {"name": "f", "arguments": "{}"}
