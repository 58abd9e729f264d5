"""Request shapes for the comparison of a backend's own answers with those through the guard."""

from __future__ import annotations

from typing import Any

Shape = tuple[str, dict[str, Any]]

ASK = "Name three colours."
USER = {"role": "user", "content": ASK}
BEGUN = {"role": "assistant", "content": "Red,"}
PARTS = {"role": "user", "content": [{"type": "text", "text": "Hi"}]}
SYSTEM = {"role": "system", "content": "You are terse."}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
TOOL = {"type": "function", "function": {"name": "weather", "description": "d", "parameters": SCHEMA}}
FORMAT = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
FLAT_TOOL = {"type": "function", "name": "weather", "description": "d", "parameters": SCHEMA}
CLAUDE_TOOL = {"name": "weather", "description": "d", "input_schema": SCHEMA}

#: Texts of which a token limit cuts a character: after white space, and the first one.
SMILES = {"grammar": 'root ::= "Hi 😀🎉"'}
ONLY_SMILES = {"grammar": 'root ::= "😀🎉"'}

#: Texts that the engine ends itself, so that stop words are passed by.
ENDS = {"grammar": 'root ::= " blue and green"'}

CHAT: list[dict[str, Any]] = [
    {},
    {"stop": ["zzz"]},
    {"stop": " Red"},
    {"max_tokens": 1},
    {"max_completion_tokens": 2},
    {"messages": [SYSTEM, USER]},
    {"messages": [PARTS]},
    {"messages": [USER, BEGUN]},
    {"messages": [USER, BEGUN, {"role": "user", "content": "And?"}]},
    {"messages": [USER, {"role": "assistant", "content": None, "tool_calls": []}, USER]},
    {"tools": [TOOL]},
    {"tools": [TOOL], "tool_choice": "required", "max_tokens": 24},
    {"tools": [TOOL], "tool_choice": "none"},
    {"tools": [TOOL], "parallel_tool_calls": True, "tool_choice": "required", "max_tokens": 24},
    {"response_format": FORMAT, "max_tokens": 12},
    {"response_format": {"type": "json_object"}},
    {"logprobs": True, "top_logprobs": 2},
    {"n": 2, "temperature": 0},
    {"timings_per_token": True},
    {"seed": 7, "top_k": 1},
    {"logit_bias": {"100": -5}},
    {"reasoning_format": "none"},
    {**SMILES, "max_tokens": 3},
    {**ONLY_SMILES, "max_tokens": 1},
    {**ONLY_SMILES, "max_tokens": 2, "messages": [USER, BEGUN]},
    {**ENDS, "stop": ["zzz"], "max_tokens": 9},
    {**ENDS, "stop": [" green"], "max_tokens": 9},
    {**ENDS, "stop": ["and x"], "max_tokens": 3},
    {**ENDS, "stop": [" blue and green"], "max_tokens": 9},
    {**ENDS, "stop": ["reen"], "max_tokens": 9},
    {**ENDS, "stop": ["een x"], "max_tokens": 9},
    {**ENDS, "stop": ["reen"], "max_tokens": 9, "verbose": True},
    {"grammar": 'root ::= "\\n yes"', "max_tokens": 1},
    {"messages": 3},
    {"messages": []},
    {"user": "u", "metadata": {"a": "b"}, "store": False},
]
CHAT_STREAMED: list[dict[str, Any]] = [
    {"stream_options": {"include_usage": True}},
    {"stream_options": {"include_usage": False}},
    {"stream_options": None},
]
COMPLETIONS: list[dict[str, Any]] = [
    {},
    {"stop": ["zzz"]},
    {"stop": [" just"]},
    {"max_tokens": 1},
    {"prompt": "One two three"},
    {"prompt": ["The colours are"]},
    {"prompt": ["One two", "Three"]},
    {"prompt": [504, 905]},
    {"prompt": "é😀"},
    {"logprobs": 2},
    {"timings_per_token": True},
    {"n": 2, "temperature": 0},
    {"seed": 7, "top_k": 1},
    {"grammar": 'root ::= "yes"'},
    {"json_schema": {"type": "integer"}},
    {"ignore_eos": True},
    {"logit_bias": [[100, -5]]},
    {**SMILES, "max_tokens": 3},
    {**ONLY_SMILES, "max_tokens": 1, "n": 2},
    {**ENDS, "stop": [" green"], "max_tokens": 9},
    {**ENDS, "stop": ["and x"], "max_tokens": 3},
    {**ENDS, "stop": ["reen"], "max_tokens": 9},
    {**ENDS, "stop": ["een x"], "max_tokens": 9},
    {**ENDS, "stop": ["zzz"], "max_tokens": 9},
    {**ENDS, "stop": ["reen"], "max_tokens": 9, "verbose": True},
    {**ENDS, "stop": ["reen"], "max_tokens": 9, "verbose": False},
    {**ENDS, "stop": ["e"], "max_tokens": 2},
    {"prompt": 5},
    {"n_probs": 1},
]
MESSAGES: list[dict[str, Any]] = [
    {},
    {"system": "You are terse."},
    {"system": [{"type": "text", "text": "You are terse."}]},
    {"stop_sequences": ["zzz"]},
    {"stop_sequences": [" Red"]},
    {"messages": [USER, BEGUN]},
    {"messages": [PARTS]},
    {"messages": [USER, BEGUN, {"role": "user", "content": "And?"}]},
    {"tools": [CLAUDE_TOOL]},
    {"tools": [CLAUDE_TOOL], "tool_choice": {"type": "any"}, "max_tokens": 24},
    {"tools": [CLAUDE_TOOL], "tool_choice": {"type": "none"}},
    {"thinking": {"type": "enabled", "budget_tokens": 1024}},
    {"thinking": {"type": "disabled"}},
    {"max_tokens": 1},
    {"top_k": 1},
    {"top_p": 0.5},
    {"metadata": {"user_id": "x"}},
    {"timings_per_token": True},
    {"messages": [{"role": "user", "content": "x" * 30_000}]},
    {"messages": []},
]
RESPONSES: list[dict[str, Any]] = [
    {},
    {"instructions": "Be terse."},
    {"input": [{"role": "user", "content": [{"type": "input_text", "text": "Hi there"}]}]},
    {"input": [{"role": "user", "content": "Hi there"}]},
    {
        "input": [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Ho"},
            {"role": "user", "content": "?"},
        ]
    },
    {"tools": [FLAT_TOOL]},
    {"tools": [FLAT_TOOL], "tool_choice": "required", "max_output_tokens": 24},
    {"tools": [FLAT_TOOL], "tool_choice": "none"},
    {"timings_per_token": True},
    {"text": {"format": {"type": "json_schema", "name": "x", "schema": SCHEMA}}},
    {"text": {"format": {"type": "text"}}},
    {"max_output_tokens": 1},
    {"stop": ["zzz"]},
    {"top_p": 0.5},
    {"metadata": {"a": "b"}, "store": False},
    {"reasoning": {"effort": "low"}},
    {**SMILES, "max_output_tokens": 3},
    {**ONLY_SMILES, "max_output_tokens": 2},
    {**ENDS, "stop": ["zzz"], "max_output_tokens": 9},
    {**ENDS, "stop": [" green"], "max_output_tokens": 9},
    {**ENDS, "stop": ["reen"], "max_output_tokens": 9},
    {**ENDS, "stop": ["een x"], "max_output_tokens": 9},
    {**ENDS, "stop": ["e"], "max_output_tokens": 2},
    {"grammar": 'root ::= " a"', "stop": [" a bc"], "max_output_tokens": 1},
    {"grammar": 'root ::= "a a a a"', "stop": [" a bc"], "max_output_tokens": 2},
    {"input": 3},
    {"input": []},
]
COMPLETION: list[dict[str, Any]] = [
    {},
    {"n_predict": 1},
    {"stop": ["zzz"]},
    {"stop": [" just"]},
    {"timings_per_token": True},
    {"return_tokens": True},
    {"return_progress": True},
    {"n_probs": 2},
    {"n_probs": 2, "post_sampling_probs": True},
    {"prompt": ["One two", "Three"]},
    {"prompt": [504, 905]},
    {"prompt": {"prompt_string": "Hello"}},
    {"prompt": "é😀"},
    {"n": 2},
    {"grammar": 'root ::= "yes"'},
    {"json_schema": {"type": "integer"}},
    {"response_fields": ["content", "generation_settings/n_predict"]},
    {"response_fields": ["content"], "n": 2},
    {"max_tokens": 2},
    {"cache_prompt": False},
    {"samplers": ["top_k"], "top_k": 1},
    {**SMILES, "n_predict": 3},
    {**ONLY_SMILES, "n_predict": 2, "return_tokens": True},
    {**ENDS, "stop": ["zzz"], "n_predict": 9},
    {**ENDS, "stop": [" green"], "n_predict": 9},
    {**ENDS, "stop": ["reen"], "n_predict": 9},
    {**ENDS, "stop": ["een x"], "n_predict": 9},
    {**ENDS, "stop": ["reen"], "n_predict": 9, "n": 2},
    {**ENDS, "stop": ["and x"], "n_predict": 3},
    {"prompt": 5},
    {"id_slot": 0},
]


def shapes(tokens: int) -> list[Shape]:
    """
    All of them, streamed and not.

    Args:
        tokens: Length of a plain answer. Unit: tokens.
    """
    some = {"model": "m", "temperature": 0, "max_tokens": tokens}
    out: list[Shape] = []
    for stream in (True, False):
        mode = {"stream": stream}
        chat = CHAT + (CHAT_STREAMED if stream else [])
        plain = COMPLETIONS + (CHAT_STREAMED if stream else [])
        out += [("/v1/chat/completions", {**some, "messages": [USER], **mode, **shape}) for shape in chat]
        out += [("/v1/completions", {**some, "prompt": "The colours are", **mode, **shape}) for shape in plain]
        out += [("/v1/messages", {**some, "messages": [USER], **mode, **shape}) for shape in MESSAGES]
        asked = {"model": "m", "temperature": 0, "max_output_tokens": tokens, "input": ASK}
        out += [("/v1/responses", {**asked, **mode, **shape}) for shape in RESPONSES]
        own = {"temperature": 0, "n_predict": tokens, "prompt": "The colours are"}
        out += [("/completion", {**own, **mode, **shape}) for shape in COMPLETION]
    return out
