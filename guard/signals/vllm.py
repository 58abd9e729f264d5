"""
vLLM, with the guard's plugin or without.

With the plugin, a chunk with choices carries `metrics.speculative_decoding.per_step_accepted` and
`per_step_drafted`: exactly that chunk's steps. The closing chunk without choices has vLLM's own
totals of the whole request under the same name; they are never counted again.

Without it, all there is are `token_ids`: a chunk is usually one step, so its accepted tokens are
its token count less the bonus token. That is an inference, marked `exact=False, drafted=-1`:

- a one-token chunk is a step that kept nothing, or one that had no draft: told as a step only where
  speculation is known to run (k is configured, or a longer chunk was seen in this request);
- chunks merge when the client or the proxy is slow, or by `stream_interval`: more than k + 1 tokens
  are certainly a merge, and no step is told from them, for any split would be a guess. Shorter
  merges look like a better step than they were;
- the first token comes from the prefill and is no verify step;
- the last step is cut by max_tokens or a stop, so no step is told from a chunk with a finish reason;
- with `echo`, vLLM sends other text when token ids are asked: the switch is then left out by the
  request's builder, and text is all there is.

Source:
    vLLM 0.32 vllm/v1/engine/output_processor.py, vllm/entrypoints/openai/chat_completion/serving.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from guard.signals.base import Json, Texts
from guard.signals.text import TokenCounter
from guard.types import MOST_TOKENS, Sample, StepAcceptance
from guard.wire import Choice, Chunk, SpeculativeDecoding

#: The second asks the plugin; a vLLM without it takes no notice.
_SWITCHES: Mapping[str, Json] = {"return_token_ids": True, "vllm_xargs": {"guard_acceptance": 1}}
_UNKNOWN: Final = -1


class VllmAdapter:
    """
    Reads exact steps where the plugin sends them and infers them where it does not.

    Args:
        num_speculative_tokens: Draft depth k of the deployment, if known. Unit: tokens.
    """

    def __init__(self, num_speculative_tokens: int | None = None) -> None:
        self._k = num_speculative_tokens
        self._speculates = num_speculative_tokens is not None
        self._exact = False
        self._begun: set[int] = set()
        self._counter = TokenCounter()

    def switches(self) -> Mapping[str, Json]:
        """Ask for the token ids of each chunk, and the plugin for the steps behind it."""
        return _SWITCHES

    def observe(self, chunk: Chunk, texts: Texts) -> list[Sample]:
        """See SignalAdapter."""
        plugin = chunk.metrics.speculative_decoding if chunk.metrics is not None else None
        samples: list[Sample] = []
        for choice in chunk.choices:
            said = texts(choice)
            tokens = self._counter.count(chunk, choice, has_text=bool(said))
            if plugin is not None and plugin.per_step_accepted is not None:
                self._exact = True
                steps = _exact_steps(plugin, None if choice.token_ids is None else tokens)
                if choice.token_ids is None:
                    tokens = sum(step.tokens for step in steps)
                plugin = None  # one choice a chunk; never twice
            elif self._exact or choice.token_ids is None:
                steps = ()
            else:
                steps = self._infer(choice, tokens)
            if said or tokens or steps:
                samples.append(Sample(choice.index, said, tokens, steps))
        return samples

    def finish(self) -> list[Sample]:
        """Nothing is open: a chunk holds whole steps."""
        return []

    def _infer(self, choice: Choice, tokens: int) -> tuple[StepAcceptance, ...]:
        """The step behind a chunk of token ids, if it can be told."""
        if tokens == 0:
            return ()
        if choice.index not in self._begun:
            self._begun.add(choice.index)
            tokens -= 1  # the prefill's own token
            if tokens == 0:
                return ()
        if tokens > 1:
            self._speculates = True
        merged = self._k is not None and tokens > self._k + 1
        if merged or choice.finish_reason is not None or not self._speculates:
            return ()
        return (StepAcceptance(tokens - 1, _UNKNOWN, tokens, False),)


def _exact_steps(plugin: SpeculativeDecoding, tokens: int | None) -> tuple[StepAcceptance, ...]:
    """
    The plugin's steps with the tokens each emitted.

    A step emits its accepted tokens and the bonus token, save the last one, which a stop or
    max_tokens may cut: the steps together never emit more than `tokens`, what the chunk holds, if
    that is known. A step whose counts are none is left out.
    """
    accepted: Sequence[int] = plugin.per_step_accepted or ()
    drafted: Sequence[int] = plugin.per_step_drafted or ()
    if len(accepted) == 1 and tokens is not None:  # nearly always
        kept, tried = accepted[0], drafted[0] if drafted else _UNKNOWN
        return (StepAcceptance(kept, tried, min(kept + 1, tokens), True),) if _are_counts(kept, tried) else ()
    steps: list[StepAcceptance] = []
    left = tokens
    for number, kept in enumerate(accepted):
        tried = drafted[number] if number < len(drafted) else _UNKNOWN
        if not _are_counts(kept, tried):
            continue
        emitted = kept + 1 if left is None else min(kept + 1, left)
        if left is not None:
            left -= emitted
        steps.append(StepAcceptance(kept, tried, emitted, True))
    return tuple(steps)


def _are_counts(accepted: int, drafted: int) -> bool:
    """Whether a step may have kept so many of so many tokens drafted; -1 where that is not known."""
    return 0 <= accepted <= MOST_TOKENS and _UNKNOWN <= drafted <= MOST_TOKENS
