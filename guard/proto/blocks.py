"""
Puts a streamed Anthropic message together again, as each engine would have answered at once.

A whole answer has the thinking first, then the text, then the tool calls, whatever the order in
which the stream had them, for the engines make it from a chat message.

Source:
    vLLM 0.32 vllm/entrypoints/anthropic/serving.py (`messages_full_converter`; dumped without nulls,
    an empty answer has one empty text); SGLang 0.5.23 anthropic/serving.py (`_convert_response`, the
    same); llama.cpp tools/server/server-task.cpp (`to_json_anthropic`: nulls stay, an empty answer has
    no block, and text with which the client began the turn is repeated).
"""

from __future__ import annotations

from typing import Any

import msgspec

from guard.errors import ProtocolError
from guard.proto.assemble import CUT_CALL
from guard.proto.unsaid import CUT_CHARACTER

Object = dict[str, Any]
#: Why an answer put together may differ from the backend's own.
ODD_INPUT = "a tool's input is no object"

_FIELDS = msgspec.json.Decoder(dict[str, Any])


class MessageAssembler:
    """
    Collects the events of one message.

    Args:
        engine: Engine name, which says how its whole answers look.
        prefill: Text with which the client began the assistant's turn.
        tools: Whether the model may call tools.
    """

    def __init__(self, engine: str = "", prefill: str = "", *, tools: bool = False) -> None:
        self._calls = tools and engine == "vllm"
        self._deltas = 0
        self._llama = engine == "llama.cpp"
        self._prefill = prefill if self._llama else ""
        self._message: Object | None = None
        self._blocks: dict[int, Object] = {}
        self._pieces: dict[tuple[int, str], list[str]] = {}

    def add(self, data: bytes) -> None:
        """See Gatherer."""
        if data.strip() == b"null":
            return  # says nothing, see `decode_event`
        try:
            event = _FIELDS.decode(data)
        except (msgspec.DecodeError, RecursionError) as error:
            raise ProtocolError(f"the event is no JSON object: {error}") from error
        kind = event.get("type")
        if kind == "message_start" and isinstance(event.get("message"), dict):
            self._message = event["message"]
        elif kind == "content_block_start" and isinstance(event.get("content_block"), dict):
            self._blocks[_index(event)] = event["content_block"]
        elif kind == "content_block_delta" and isinstance(event.get("delta"), dict):
            self._add_delta(_index(event), event["delta"])
        elif kind == "message_delta":
            self._add_end(event)

    @property
    def unsure(self) -> str:
        """
        See Gatherer.

        vLLM's whole answers have a call that the token limit or a stop word cut off as it was written, and it refuses
        one whose input is no object. llama.cpp says each token in an event of its own, but none that ends inside a
        character.
        """
        message = self._message or {}
        reason = message.get("stop_reason")
        cut = reason == "max_tokens"
        if self._calls:
            inputs = [self._input(index, block) for index, block in self._blocks.items() if "input" in block]
            if any(not isinstance(value, dict) for value in inputs):
                return ODD_INPUT
            return CUT_CALL if cut or reason == "stop_sequence" else ""
        usage = message.get("usage")
        count = usage.get("output_tokens") if isinstance(usage, dict) else None
        return CUT_CHARACTER if self._llama and cut and isinstance(count, int) and count > self._deltas else ""

    def _add_delta(self, index: int, delta: Object) -> None:
        self._deltas += 1
        for name in ("text", "thinking", "partial_json", "signature"):
            piece = delta.get(name)
            if isinstance(piece, str):
                self._pieces.setdefault((index, name), []).append(piece)

    def _add_end(self, event: Object) -> None:
        if self._message is None:
            raise ProtocolError("message_delta came before message_start")
        if isinstance(event.get("delta"), dict):
            self._message.update(event["delta"])
        if isinstance(event.get("usage"), dict):
            known = self._message.get("usage")
            self._message["usage"] = {**(known if isinstance(known, dict) else {}), **event["usage"]}

    def result(self) -> bytes:
        """See Gatherer."""
        if self._message is None:
            raise ProtocolError("the stream ended without a message")
        answer: Object = {**self._message, "content": self._content()}
        if not self._llama:
            answer = _without_nulls(answer)
        return msgspec.json.encode(answer)

    def _content(self) -> list[Object]:
        thinking: list[Object] = []
        texts: list[Object] = []
        tools: list[Object] = []
        others: list[Object] = []
        for index in sorted(self._blocks):
            block = self._blocks[index]
            kinds = {"thinking": thinking, "text": texts, "tool_use": tools}
            kinds.get(str(block.get("type")), others).append(self._block(index, block))
        if self._prefill:
            begun: Object = {"type": "text", "text": self._prefill}
            texts.insert(0, begun)
        content = [*_merged(thinking, "thinking"), *_merged(texts, "text"), *tools, *others]
        if not content and not self._llama:
            content.append({"type": "text", "text": ""})
        return content

    def _block(self, index: int, block: Object) -> Object:
        whole = dict(block)
        for name in ("text", "thinking", "signature"):
            pieces = self._pieces.get((index, name))
            if pieces:
                whole[name] = "".join([str(block.get(name) or ""), *pieces])
        if block.get("type") == "tool_use":
            whole["input"] = self._input(index, block)
        return whole

    def _input(self, index: int, block: Object) -> object:
        pieces = self._pieces.get((index, "partial_json"))
        if not pieces:
            return block.get("input") or {}
        try:
            return msgspec.json.decode("".join(pieces))
        except (msgspec.DecodeError, RecursionError):
            return {}  # as the engines have it


def _merged(blocks: list[Object], name: str) -> list[Object]:
    """One block for all of a kind; an empty one is none."""
    joined = "".join(str(block.get(name) or "") for block in blocks)
    return [{**blocks[-1], name: joined}] if joined else []


def _without_nulls(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, dict):
        return {name: _without_nulls(part) for name, part in value.items() if part is not None}
    return value


def _index(event: Object) -> int:
    index = event.get("index")
    if not isinstance(index, int):
        raise ProtocolError("a content block has no number", where="$.index")
    return index
