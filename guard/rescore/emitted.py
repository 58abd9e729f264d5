"""The token ids and log-probabilities of an answer, kept as they are emitted."""

from __future__ import annotations

from array import array

import msgspec

from guard.wire import Choice, Chunk

#: Most tokens of a prompt and its answer that are kept; a longer one is not scored again. Unit: tokens.
MOST_TOKENS = 131_072


class _TokenLogprob(msgspec.Struct):
    logprob: float


class _Logprobs(msgspec.Struct):
    """Both routes' form: `content` on chat, `token_logprobs` on completions."""

    content: list[_TokenLogprob] | None = None
    token_logprobs: list[float] | None = None


_LOGPROBS = msgspec.json.Decoder(_Logprobs | None)
_IDS = msgspec.json.Decoder(list[int] | None)


class Emitted:
    """
    What one attempt has emitted so far. Only for requests of one choice.

    `gap` says why it cannot be scored; empty while it can.
    """

    def __init__(self) -> None:
        self.prompt: list[int] | None = None
        self.tokens = array("q")
        #: Unit: nats.
        self.logprobs = array("d")
        self.gap = ""

    @property
    def size(self) -> int:
        """Tokens of prompt and answer. Unit: tokens."""
        return len(self.prompt or ()) + len(self.tokens)

    @property
    def blocker(self) -> str:
        """Why it cannot be scored; empty when it can."""
        if self.gap:
            return self.gap
        if self.prompt is None:
            return "the backend told no token ids of the prompt"
        return "" if self.tokens else "nothing was emitted"

    def add(self, chunk: Chunk) -> None:
        """Take one chunk, as the engine sent it."""
        if self.gap:
            return
        try:
            if self.prompt is None:
                self._read_prompt(chunk)
            for choice in chunk.choices:
                self._read(choice)
        except msgspec.DecodeError as error:
            self._lose(f"log-probabilities were not understood: {error}")
        if self.size > MOST_TOKENS:
            self._lose(f"prompt and answer are longer than {MOST_TOKENS} tokens")

    def _read_prompt(self, chunk: Chunk) -> None:
        for raw in (chunk.prompt_token_ids, *(choice.prompt_token_ids for choice in chunk.choices)):
            ids = _IDS.decode(raw) if raw else None
            if ids is not None:
                self.prompt = ids
                return

    def _read(self, choice: Choice) -> None:
        told = _LOGPROBS.decode(choice.logprobs) if choice.logprobs else None
        if not choice.token_ids:
            # vLLM's parsers may tell log-probabilities with text of tokens told before or after: never without ids.
            return
        if told is None:
            self._lose("the backend told a token without its log-probability")
            return
        values = told.token_logprobs if told.content is None else [token.logprob for token in told.content]
        if values is None or len(values) != len(choice.token_ids):
            self._lose("the backend told another number of log-probabilities than of tokens")
            return
        self.tokens.extend(choice.token_ids)
        self.logprobs.extend(values)

    def _lose(self, reason: str) -> None:
        self.gap = reason
        self.prompt = None
        self.tokens, self.logprobs = array("q"), array("d")
