"""
Log-probabilities of the tokens, where the client or the guard had the backend tell them.

An adapter around the engine's own, made only for streams in which somebody reads them. Readers of other forms than
OpenAI's two bring theirs into one of those (`guard.proto`). A token may come without one: llama.cpp tells none of
accepted draft tokens in a stream. What is not understood is left out, never an error.

Source:
    vLLM 0.32 vllm/entrypoints/openai/{chat_completion,completion}/serving.py: `content` on chat, `token_logprobs` on
    completions, -9999.0 for what has no chance. SGLang 0.5.23 python/sglang/srt/entrypoints/openai/protocol.py:
    the same two.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from guard.signals.base import Json, SignalAdapter, Texts
from guard.types import Sample
from guard.wire import Chunk


class _Token(msgspec.Struct, gc=False):
    logprob: float | str | None = None


class _Logprobs(msgspec.Struct, gc=False):
    """Both routes' form."""

    content: list[_Token] | None = None
    token_logprobs: list[float | str | None] | None = None


_DECODER: Final = msgspec.json.Decoder(_Logprobs | None)


def logprobs_of(raw: msgspec.Raw) -> tuple[float, ...]:
    """
    What a choice's `logprobs` tells of its tokens, in their order.

    Args:
        raw: JSON; empty where there was none.

    Returns:
        Those that are numbers. Unit: nats.
    """
    if not raw:
        return ()
    try:
        told = _DECODER.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return ()
    if told is None:
        return ()
    if told.content is not None:
        return tuple([token.logprob for token in told.content if isinstance(token.logprob, float)])
    return tuple([value for value in told.token_logprobs or () if isinstance(value, float)])


class LogprobAdapter:
    """
    Adds to what an engine's adapter reads.

    Args:
        inner: That adapter.
    """

    def __init__(self, inner: SignalAdapter) -> None:
        self._inner = inner

    def switches(self) -> Mapping[str, Json]:
        """See SignalAdapter. Log-probabilities are asked for by the route's own names, see `Family.logprob_fields`."""
        return self._inner.switches()

    def observe(self, chunk: Chunk, texts: Texts) -> list[Sample]:
        """See SignalAdapter."""
        samples = self._inner.observe(chunk, texts)
        for choice in chunk.choices:
            values = logprobs_of(choice.logprobs)
            if not values:
                continue
            for sample in samples:
                if sample.choice == choice.index:
                    sample.logprobs += values
                    break
            else:
                samples.append(Sample(choice.index, (), 0, (), values))
        return samples

    def finish(self) -> list[Sample]:
        """See SignalAdapter."""
        return self._inner.finish()
