"""
The typed view of one streamed OpenAI-style chunk.

`guard.proto` decodes into it and `guard.signals` reads from it; it stands below both so that they
need not know each other. Only fields the guard looks at are named: msgspec skips the others, and
the original bytes are what is forwarded.
"""

from __future__ import annotations

from typing import Any

import msgspec


class FunctionDelta(msgspec.Struct, gc=False):
    """Streamed piece of a tool call's function."""

    name: str | None = None
    arguments: str | None = None


class ToolCallDelta(msgspec.Struct, gc=False):
    """Streamed piece of one tool call."""

    index: int = 0
    id: str | None = None
    function: FunctionDelta | None = None


class Delta(msgspec.Struct, gc=False):
    """Streamed piece of one chat message. vLLM says `reasoning`, llama.cpp and others `reasoning_content`."""

    role: str | None = None
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[ToolCallDelta] | None = None


class Choice(msgspec.Struct, gc=False):
    """
    One choice of a chunk: `delta` on the chat route, `text` on completions.

    What is long, and rarely wanted, is left undecoded. `logprobs` has the form of one of OpenAI's two routes.
    """

    index: int = 0
    delta: Delta | None = None
    text: str | None = None
    finish_reason: str | None = None
    token_ids: list[int] | None = None
    logprobs: msgspec.Raw = msgspec.Raw()
    prompt_token_ids: msgspec.Raw = msgspec.Raw()


class Timings(msgspec.Struct, gc=False):
    """llama.cpp's cumulative counters. Unit: tokens. The draft counters are absent before the first draft."""

    predicted_n: int = 0
    draft_n: int = 0
    draft_n_accepted: int = 0


class SpeculativeDecoding(msgspec.Struct, gc=False):
    """Per verify step counts, bonus token excluded. Unit: tokens. Both lists have one entry a step;
    vLLM sends them only at its `detailed` level.
    """

    per_step_accepted: list[int] | None = None
    per_step_drafted: list[int] | None = None


class Metrics(msgspec.Struct, gc=False):
    """vLLM's `metrics` object. With choices in the chunk it holds that chunk's steps (the guard's
    plugin); in the closing chunk without choices, all steps of the request (vLLM itself).
    """

    speculative_decoding: SpeculativeDecoding | None = None


class Usage(msgspec.Struct, gc=False):
    """Token counts as billed."""

    prompt_tokens: int = 0
    completion_tokens: int | None = None


class Chunk(msgspec.Struct, gc=False):
    """One streamed chunk of either route. `error` is what an engine sends when it fails mid-stream."""

    id: str | None = None
    choices: list[Choice] = []
    timings: Timings | None = None
    metrics: Metrics | None = None
    usage: Usage | None = None
    prompt_token_ids: msgspec.Raw = msgspec.Raw()
    error: Any = None


class Plain(msgspec.Struct, frozen=True, gc=False):
    """
    One plain chunk; see `guard.proto.plain`. Many live for a while: the collector of garbage does not look at them.

    Args:
        data: The event's bytes.
        end: Where its text ends in them.
        text: Its text.
        tokens: How many it has. Unit: tokens.
        accepted, drafted: Of its step. Unit: tokens.
    """

    data: bytes
    end: int
    text: str
    tokens: int
    accepted: int
    drafted: int

    @property
    def json(self) -> bytes:
        """What stands in the event."""
        return self.data[6:-2]
