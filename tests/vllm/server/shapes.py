"""Request shapes of vLLM's routes, for the comparison of its own answers with those through the guard."""

from __future__ import annotations

from typing import Any

from tests.integration.shapes import (
    ASK,
    BEGUN,
    CLAUDE_TOOL,
    FLAT_TOOL,
    FORMAT,
    PARTS,
    SCHEMA,
    SYSTEM,
    TOOL,
    USER,
    Shape,
)

#: A tool call, whole, as the hermes parser reads it.
CALL = '<tool_call>\\{"name": "weather", "arguments": \\{"a": 1{9}\\}\\}</tool_call>'
NAMED_TOOL = {"type": "function", "function": {"name": "weather"}}

CHAT: list[dict[str, Any]] = [
    {},
    {"max_tokens": 1},
    {"max_completion_tokens": 3},
    {"min_tokens": 3, "max_tokens": 5},
    {"stop": ["zzz"]},
    {"stop": [","], "include_stop_str_in_output": True},
    {"stop": " and"},
    {"stop_token_ids": [28]},
    {"ignore_eos": True},
    {"seed": 7, "top_k": 1},
    {"top_p": 0.5, "min_p": 0.1},
    {"frequency_penalty": 0.5, "presence_penalty": 0.5},
    {"repetition_penalty": 1.3},
    {"logit_bias": {"100": -5}},
    {"messages": [SYSTEM, USER]},
    {"messages": [PARTS]},
    {"messages": [USER, BEGUN], "continue_final_message": True, "add_generation_prompt": False},
    {"messages": [USER, BEGUN, {"role": "user", "content": "And?"}]},
    {"messages": [USER, BEGUN], "echo": True, "continue_final_message": True, "add_generation_prompt": False},
    {"logprobs": True},
    {"logprobs": True, "top_logprobs": 2},
    {"logprobs": True, "top_logprobs": 0, "return_token_ids": True},
    {"prompt_logprobs": 1, "max_tokens": 2},
    {"n": 2, "temperature": 0},
    {"return_token_ids": True},
    {"return_tokens_as_token_ids": True, "logprobs": True},
    {"vllm_xargs": {"other": 1}},
    {"cache_salt": "a"},
    {"priority": 0},
    {"request_id": "mine"},
    {"skip_special_tokens": False},
    {"spaces_between_special_tokens": False},
    {"include_reasoning": False},
    {"tools": [TOOL]},
    {"tools": [TOOL], "tool_choice": "none"},
    {"tools": [TOOL], "tool_choice": NAMED_TOOL, "max_tokens": 96},
    {"tools": [TOOL], "tool_choice": "required", "max_tokens": 96},
    {"tools": [TOOL], "tool_choice": "required", "max_tokens": 12},
    {"tools": [TOOL], "tool_choice": NAMED_TOOL, "max_tokens": 2},
    {"tools": [TOOL], "structured_outputs": {"regex": CALL}, "max_tokens": 4},
    {"tools": [TOOL], "structured_outputs": {"regex": CALL}, "max_tokens": 40},
    {"tools": [TOOL], "structured_outputs": {"regex": CALL}, "max_tokens": 120},
    {"tools": [TOOL], "structured_outputs": {"regex": f"Hello {CALL}"}, "max_tokens": 8},
    {"tools": [TOOL], "structured_outputs": {"regex": f"Hello {CALL}"}, "max_tokens": 30},
    {"tools": [TOOL], "structured_outputs": {"regex": f"Hello {CALL}"}, "max_tokens": 30, "stop": [","]},
    {"tools": [TOOL], "structured_outputs": {"regex": CALL}, "max_tokens": 120, "stop": ["e"]},
    {"tools": [TOOL], "structured_outputs": {"regex": f"Hello {CALL}"}, "max_tokens": 8, "include_reasoning": False},
    {"response_format": FORMAT, "max_tokens": 24},
    {"response_format": {"type": "json_object"}, "max_tokens": 12},
    {"response_format": {"type": "text"}},
    {"structured_outputs": {"choice": ["red", "green"]}},
    {"structured_outputs": {"regex": "[a-c]{4}"}},
    {"structured_outputs": {"json": SCHEMA}, "max_tokens": 24},
    {"user": "u", "metadata": {"a": "b"}, "store": False},
    {"max_tokens": 0},
    {"temperature": -1},
    {"messages": 3},
    {"messages": []},
    {"model": "absent"},
    {"max_tokens": 100000},
]
#: The last ones are refused where the answer is not streamed.
STREAMED: list[dict[str, Any]] = [
    {"stream": "true"},
    {"stream": 1, "return_token_ids": "yes"},
    {"stream_options": {"include_usage": True}},
    {"stream_options": {"include_usage": True, "continuous_usage_stats": True}},
    {"stream_options": {"include_usage": False}},
    {"stream_options": None},
]
COMPLETIONS: list[dict[str, Any]] = [
    {},
    {"max_tokens": 1},
    {"stop": ["zzz"]},
    {"stop": [" just"]},
    {"stop": [","], "include_stop_str_in_output": True},
    {"prompt": "One two three"},
    {"prompt": ["The colours are"]},
    {"prompt": ["One two", "Three"]},
    {"prompt": [504, 905]},
    {"prompt": [[504, 905], [504]]},
    {"prompt": "é😀"},
    {"echo": True},
    {"echo": True, "logprobs": 1},
    {"echo": True, "max_tokens": 1, "logprobs": 0},
    {"logprobs": 2},
    {"logprobs": 0, "return_token_ids": True},
    {"prompt_logprobs": 1, "max_tokens": 2},
    {"n": 2, "temperature": 0},
    {"seed": 7, "top_k": 1},
    {"ignore_eos": True},
    {"min_tokens": 3},
    {"stop_token_ids": [28]},
    {"return_token_ids": True},
    {"return_tokens_as_token_ids": True, "logprobs": 1},
    {"truncate_prompt_tokens": 2},
    {"skip_special_tokens": False},
    {"add_special_tokens": False},
    {"structured_outputs": {"regex": "[a-c]{4}"}},
    {"structured_outputs": {"choice": ["red", "green"]}},
    {"logit_bias": {"100": -5}},
    {"suffix": "x"},
    {"prompt": 5},
    {"best_of": 2},
    {"use_beam_search": True, "n": 2},
    {"model": "absent"},
]
MESSAGES: list[dict[str, Any]] = [
    {},
    {"system": "You are terse."},
    {"system": [{"type": "text", "text": "You are terse."}]},
    {"stop_sequences": ["zzz"]},
    {"stop_sequences": [","]},
    {"messages": [PARTS]},
    {"messages": [USER, BEGUN, {"role": "user", "content": "And?"}]},
    {"tools": [CLAUDE_TOOL]},
    {"tools": [CLAUDE_TOOL], "tool_choice": {"type": "none"}},
    {"tools": [CLAUDE_TOOL], "tool_choice": {"type": "any"}, "max_tokens": 4},
    {"tools": [CLAUDE_TOOL], "tool_choice": {"type": "any"}, "max_tokens": 24},
    {"tools": [CLAUDE_TOOL], "tool_choice": {"type": "any"}, "max_tokens": 96},
    {"tools": [CLAUDE_TOOL], "tool_choice": {"type": "tool", "name": "weather"}, "max_tokens": 96},
    {"tools": [CLAUDE_TOOL], "tool_choice": {"type": "any"}, "max_tokens": 96, "stop_sequences": [","]},
    {"tools": [CLAUDE_TOOL], "tool_choice": {"type": "any"}, "max_tokens": 96, "stop_sequences": ["e"]},
    {"max_tokens": 1},
    {"top_k": 1},
    {"top_p": 0.5},
    {"metadata": {"user_id": "x"}},
    {"messages": []},
    {"model": "absent"},
]
RESPONSES: list[dict[str, Any]] = [
    {},
    {"instructions": "Be terse."},
    {"input": [{"role": "user", "content": [{"type": "input_text", "text": "Hi there"}]}]},
    {"input": [{"role": "user", "content": "Hi there"}]},
    {"tools": [FLAT_TOOL]},
    {"tools": [FLAT_TOOL], "tool_choice": "none"},
    {"text": {"format": {"type": "json_schema", "name": "x", "schema": SCHEMA}}, "max_output_tokens": 24},
    {"text": {"format": {"type": "text"}}},
    {"max_output_tokens": 1},
    {"top_p": 0.5},
    {"metadata": {"a": "b"}, "store": False},
    {"input": 3},
    {"model": "absent"},
]


def shapes(model: str, tokens: int) -> list[Shape]:
    """
    All of them, streamed and not.

    Args:
        model: The served model's name.
        tokens: Length of a plain answer. Unit: tokens.
    """
    some = {"model": model, "temperature": 0, "max_tokens": tokens}
    out: list[Shape] = []
    for stream in (True, False):
        mode = {"stream": stream}
        out += [("/v1/chat/completions", {**some, "messages": [USER], **mode, **shape}) for shape in CHAT + STREAMED]
        out += [
            ("/v1/completions", {**some, "prompt": "The colours are", **mode, **shape})
            for shape in COMPLETIONS + STREAMED
        ]
        out += [("/v1/messages", {**some, "messages": [USER], **mode, **shape}) for shape in MESSAGES]
        asked = {"model": model, "temperature": 0, "max_output_tokens": tokens, "input": ASK}
        out += [("/v1/responses", {**asked, **mode, **shape}) for shape in RESPONSES]
    return out
