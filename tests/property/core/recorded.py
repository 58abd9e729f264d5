"""All streams there are to read: recorded from real servers, and written after SGLang's sources."""

from __future__ import annotations

from tests.unit.proto.streams import (
    SGLANG_CUMULATIVE,
    SGLANG_INCREMENTAL,
    SGLANG_MESSAGES,
    SGLANG_RESPONSES,
    SGLANG_TWO,
    recorded,
)

#: Name: engine, path, stream.
STREAMS = {
    **{f"llama_{name}": ("llama.cpp", path, recorded(f"llama_{name}")) for name, path in (
        ("chat", "/v1/chat/completions"),
        ("messages", "/v1/messages"),
        ("messages_tool", "/v1/messages"),
        ("responses", "/v1/responses"),
        ("completion", "/completion"),
        ("completion_two", "/completion"),
    )},
    **{f"vllm_{name}": ("vllm", path, recorded(f"vllm_{name}")) for name, path in (
        ("chat", "/v1/chat/completions"),
        ("repetition", "/v1/completions"),
        ("messages", "/v1/messages"),
        ("responses", "/v1/responses"),
    )},
    "sglang_messages": ("sglang", "/v1/messages", SGLANG_MESSAGES),
    "sglang_responses": ("sglang", "/v1/responses", SGLANG_RESPONSES),
    "sglang_cumulative": ("sglang", "/generate", SGLANG_CUMULATIVE),
    "sglang_incremental": ("sglang", "/generate", SGLANG_INCREMENTAL),
    "sglang_two": ("sglang", "/generate", SGLANG_TWO),
}  # fmt: skip
