"""
Puts a streamed answer together again, as the backend would have answered at once.

Source:
    vLLM 0.32 vllm/entrypoints/openai/{chat_completion,completion}/protocol.py, dumped with all its
    nulls; llama.cpp tools/server/server-task.cpp (`to_json_oaicompat*`).
"""

from __future__ import annotations

from typing import Any

import msgspec

from guard.errors import ProtocolError
from guard.proto.chunks import Route, is_done
from guard.proto.unsaid import CUT_CHARACTER, HALF, KEPT_BACK, Unsaid

#: Strings of a message that come in pieces.
_PIECEWISE = frozenset({"content", "reasoning", "reasoning_content", "refusal"})
#: What a message may have instead of a content.
_INSTEAD = ("tool_calls", "function_call", "reasoning", "reasoning_content", "refusal")
#: Top-level fields that only streams have.
_STREAM_ONLY = frozenset({"object", "prompt_progress"})
#: What llama.cpp's whole answer takes from its first choice; its streams have it once a choice.
_OF_FIRST_CHOICE = frozenset({"usage", "timings"})
_OBJECTS = {Route.CHAT: "chat.completion", Route.COMPLETIONS: "text_completion"}

#: Keys that vLLM's whole answers have even when null, and its streamed ones need not.
_VLLM_TOP = {
    Route.CHAT: (
        "service_tier",
        "system_fingerprint",
        "prompt_logprobs",
        "prompt_token_ids",
        "prompt_text",
        "kv_transfer_params",
        "ec_transfer_params",
        "metrics",
    ),
    Route.COMPLETIONS: (
        "service_tier",
        "system_fingerprint",
        "kv_transfer_params",
        "ec_transfer_params",
        "metrics",
    ),
}
_VLLM_CHOICE = {
    Route.CHAT: ("logprobs", "finish_reason", "stop_reason", "token_ids", "routed_experts"),
    Route.COMPLETIONS: (
        "logprobs",
        "finish_reason",
        "stop_reason",
        "token_ids",
        "prompt_logprobs",
        "prompt_token_ids",
        "routed_experts",
    ),
}
_VLLM_MESSAGE = ("content", "refusal", "annotations", "audio", "function_call", "reasoning")
_VLLM_USAGE = ("prompt_tokens_details", "completion_tokens_details")
_VLLM_METRICS = (
    "time_to_first_token_ms",
    "generation_time_ms",
    "queue_time_ms",
    "mean_itl_ms",
    "tokens_per_second",
    "speculative_decoding",
)
_VLLM_STEPS = ("per_step_accepted", "per_step_drafted")

#: Of a delta, what says something.
_SAYS = ("content", "reasoning", "reasoning_content", "tool_calls")
#: Why an answer put together may differ from the backend's own.
CUT_CALL = "the end may have cut a tool call"

Object = dict[str, Any]


class Assembler:
    """
    Collects the chunks of one answer.

    Args:
        route: Where the client asked, which says the form of the answer.
        engine: Engine name; "vllm" adds the nulls that its whole answers have.
        prefill: Text with which the client began the assistant's turn. llama.cpp repeats it in a
            whole answer, not in a stream.
        forced_tool: Whether the client demanded a tool call.
        tools: Whether the model may call tools.
        token_ids: Whether the client asked for vLLM's token ids.
        stops: Whether the client asked for stop words.
    """

    def __init__(
        self,
        route: Route,
        engine: str = "",
        prefill: str = "",
        *,
        forced_tool: bool = False,
        tools: bool = False,
        token_ids: bool = True,
        stops: bool = False,
    ) -> None:
        self._stops = stops
        self._calls = tools and engine == "vllm"
        self._cut_ids = engine == "vllm" and not token_ids
        self._route = route
        self._forced_tool = forced_tool
        self._engine = engine
        self._prefill = prefill if engine == "llama.cpp" and route is Route.CHAT else ""
        self._index = 0  # the choice spoken of last
        self._top: Object = {}
        self._choices: dict[int, _Choice] = {}
        self._chunks = 0
        self._unsaid = Unsaid()

    def add(self, data: bytes) -> None:
        """
        Take one event's data, in order; the marker that ends a stream is ignored.

        Raises:
            ProtocolError: It is no JSON object, or its choices are not shaped like choices.
        """
        if is_done(data):
            return
        try:
            chunk = msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ProtocolError(f"the chunk is not JSON: {error}") from error
        if chunk is None:
            return  # llama.cpp opens some streams so
        if not isinstance(chunk, dict):
            raise ProtocolError("the chunk is not a JSON object")
        self._chunks += 1
        choices = chunk.pop("choices", None)
        if self._cut_ids and "prompt_token_ids" in chunk:
            chunk["prompt_token_ids"] = None
        self._add_choices(choices)
        if self._engine == "llama.cpp":
            self._count(chunk.get("timings"), choices)
        others = self._engine == "llama.cpp" and self._index != 0
        for name, value in chunk.items():
            if name in _STREAM_ONLY or (others and name in _OF_FIRST_CHOICE):
                continue
            if value is not None or name not in self._top:
                self._top[name] = value

    def _add_choices(self, choices: object) -> None:
        for choice in choices if isinstance(choices, list) else ():
            index = choice.get("index") or 0 if isinstance(choice, dict) else None
            if not isinstance(index, int):
                raise ProtocolError("a choice is not an object with an index", where="$.choices")
            self._choices.setdefault(index, _Choice(index)).add(choice, cut_ids=self._cut_ids)
            self._index = index

    def _count(self, timings: object, choices: object) -> None:
        known = [choice for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []
        midway = bool(known) and all(choice.get("finish_reason") is None for choice in known)
        text = any(choice.get("text") or _says(choice.get("delta")) for choice in known)
        if isinstance(timings, dict):
            self._unsaid.count(self._index, timings.get("predicted_n"), last=not midway, text=text)
        elif text:
            self._unsaid.void()

    @property
    def unsure(self) -> str:
        """
        See Gatherer.

        vLLM's whole answers have a call that the token limit or a stop word cut off as it was written, its streams
        what of it could be read. llama.cpp's streams of a chat leave out the white space before half a character and
        at the limit, and those of completions the tokens that might have become a stop word.
        """
        chat = self._route is Route.CHAT
        for index, choice in self._choices.items():
            begun = choice.ends_in_call or not self._all_told
            if self._calls and begun and (choice.cut or choice.stopped or not choice.calls_whole):
                return CUT_CALL
            if not choice.cut:
                continue
            if chat and (self._unsaid.of(index) or self._unsaid.kept_back(index)):
                return CUT_CHARACTER
            if self._stops and not chat and self._unsaid.kept_back(index):
                return KEPT_BACK
        return ""

    @property
    def _all_told(self) -> bool:
        """Whether the chunks had the ids of all tokens: vLLM leaves some chunks out that say nothing."""
        usage = self._top.get("usage")
        count = usage.get("completion_tokens") if isinstance(usage, dict) else None
        return not isinstance(count, int) or sum(choice.told for choice in self._choices.values()) >= count

    def result(self) -> bytes:
        """
        The whole answer.

        Raises:
            ProtocolError: No chunk was added.
        """
        if not self._chunks:
            raise ProtocolError("the stream ended without a chunk")
        chat = self._route is Route.CHAT
        answer: Object = {**self._top, "object": _OBJECTS[self._route]}
        always_text = self._engine == "llama.cpp" or (self._engine == "vllm" and self._forced_tool)
        answer["choices"] = [
            choice.whole(chat=chat, always_text=always_text, half=self._unsaid.of(index) and not self._prefill)
            for index, choice in sorted(self._choices.items())
        ]
        if self._prefill:
            for choice in answer["choices"]:
                message = choice["message"]
                message["content"] = self._prefill + (message["content"] or "")
        if self._engine == "vllm":
            self._fill_vllm(answer)
        return msgspec.json.encode(answer)

    def _fill_vllm(self, answer: Object) -> None:
        _fill(answer, _VLLM_TOP[self._route])
        for choice in answer["choices"]:
            _fill(choice, _VLLM_CHOICE[self._route])
            if self._route is Route.CHAT:
                _fill(choice["message"], _VLLM_MESSAGE)
        if isinstance(answer.get("usage"), dict):
            _fill(answer["usage"], _VLLM_USAGE)
        metrics = answer["metrics"]
        if isinstance(metrics, dict):
            _fill(metrics, _VLLM_METRICS)
            if isinstance(metrics["speculative_decoding"], dict):
                _fill(metrics["speculative_decoding"], _VLLM_STEPS)


def _says(delta: object) -> bool:
    return isinstance(delta, dict) and any(delta.get(name) for name in _SAYS)


def _is_json(text: str) -> bool:
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


class _Choice:
    """One choice as it grows."""

    def __init__(self, index: int) -> None:
        self._fields: Object = {"index": index}
        self._message: Object = {}
        self._pieces: dict[str, list[str]] = {}
        self._tools: dict[int, Object] = {}
        self._arguments: dict[int, list[str]] = {}
        self._call: list[str] = []
        self._silent = False  # tokens came of which perhaps not all was said
        #: Token ids that came. Unit: tokens.
        self.told = 0

    @property
    def cut(self) -> bool:
        """Whether the token limit ended it."""
        return self._fields.get("finish_reason") == "length"

    @property
    def stopped(self) -> bool:
        """Whether vLLM tells that a stop word ended it."""
        return self._fields.get("stop_reason") is not None

    @property
    def calls_whole(self) -> bool:
        """Whether the arguments of all its tool calls are JSON."""
        return all(_is_json("".join(pieces)) for pieces in self._arguments.values())

    @property
    def ends_in_call(self) -> bool:
        """Whether a tool call was begun, or may have been: its first tokens are kept back."""
        return bool(self._tools) or self._silent

    def add(self, choice: Object, *, cut_ids: bool = False) -> None:
        if choice.get("token_ids"):
            self.told += len(choice["token_ids"])
            # Of several tokens the last ones may be kept back: the beginning of a call, behind some words.
            self._silent = len(choice["token_ids"]) > 1 or not _says(choice.get("delta"))
        if cut_ids:
            for name in ("token_ids", "prompt_token_ids"):
                if name in choice:
                    choice[name] = None
        for name, value in choice.items():
            if name == "delta":
                if isinstance(value, dict):
                    self._add_delta(value)
            elif name == "text":
                self._piece("text", value)
            elif name in ("logprobs", "token_ids"):
                self._fields[name] = _joined(self._fields.get(name), value)
            elif value is not None or name not in self._fields:
                self._fields[name] = value

    def whole(self, *, chat: bool, always_text: bool, half: bool) -> Object:
        """
        The choice as a whole answer has it.

        With `half` it ends inside a character. llama.cpp shows that as U+FFFD, on the chat route only where it
        is all that the token limit left.

        A content without text is null where reasoning or tool calls were found instead, and "" in a
        plain empty answer; with `always_text` it is never null: llama.cpp, and vLLM where the client
        demanded the call.
        """
        if not chat:
            return {**self._fields, "text": "".join(self._pieces.get("text", ())) + (HALF if half else "")}
        message: Object = {"role": "assistant", "content": None, **self._message}
        for name, pieces in self._pieces.items():
            message[name] = "".join(pieces)
        if self._tools:
            message["tool_calls"] = [self._tool(index) for index in sorted(self._tools)]
        if self._call:
            message["function_call"]["arguments"] = "".join(self._call)
        if (
            half
            and self._fields.get("finish_reason") == "length"
            and not any(message.get(name) for name in ("content", *_INSTEAD))
        ):
            message["content"] = HALF
        if not message["content"]:
            instead = not always_text and any(message.get(name) for name in _INSTEAD)
            message["content"] = None if instead else ""
        return {**self._fields, "message": message}

    def _piece(self, name: str, value: object) -> None:
        if isinstance(value, str):
            self._pieces.setdefault(name, []).append(value)

    def _add_delta(self, delta: Object) -> None:
        for name, value in delta.items():
            if name in _PIECEWISE and isinstance(value, str):
                self._piece(name, value)
            elif name == "tool_calls":
                for call in value if isinstance(value, list) else ():
                    if isinstance(call, dict):
                        self._add_tool(call)
            elif name == "function_call" and isinstance(value, dict):
                self._add_call(value)
            elif value is not None or name not in self._message:
                self._message[name] = value

    def _add_call(self, call: Object) -> None:
        known = self._message.get("function_call")
        self._message["function_call"] = {**(known or {}), **call}
        self._call.append(str(call.get("arguments") or ""))

    def _add_tool(self, call: Object) -> None:
        index = call.get("index") or 0
        if not isinstance(index, int):
            raise ProtocolError("a tool call's index is not a number", where="$.choices")
        tool = self._tools.setdefault(index, {"id": "", "type": "function", "function": {}})
        for name, value in call.items():
            if name == "function" and isinstance(value, dict):
                for part, text in value.items():
                    if part == "arguments" and isinstance(text, str):
                        self._arguments.setdefault(index, []).append(text)
                    elif text:
                        tool["function"][part] = text
            elif name not in ("index", "function") and value:
                tool[name] = value

    def _tool(self, index: int) -> Object:
        tool = self._tools[index]
        function = {**tool["function"], "arguments": "".join(self._arguments.get(index, ()))}
        return {**tool, "function": function}


def _joined(known: Any, value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Join streamed lists: themselves, or those inside an object (log-probabilities)."""
    if known is None:
        return value
    if isinstance(known, list) and isinstance(value, list):
        known.extend(value)
    elif isinstance(known, dict) and isinstance(value, dict):
        for name, part in value.items():
            known[name] = _joined(known.get(name), part)
    elif value is not None:
        return value
    return known


def _fill(fields: Object, names: tuple[str, ...]) -> None:
    for name in names:
        fields.setdefault(name, None)
