"""
OpenAI's chat and completions routes, as vLLM, SGLang and llama.cpp serve them.

Source:
    vLLM 0.32 vllm/entrypoints/openai/{chat_completion,completion}/{protocol,serving}.py; llama.cpp
    tools/server/server-task.cpp (`to_json_oaicompat*`), which also answers at `/chat/completions`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from guard.proto.assemble import Assembler
from guard.proto.chunks import LastChunk, Route, decode_chunk, is_done, sample_texts
from guard.proto.client import ClientRequest, asked_bool, asked_int, decode_object, is_int, text_or_empty, wants_stream
from guard.proto.family import Continuation, Family, Notice, StopTold
from guard.proto.frame import event_of
from guard.proto.rewrite import ChunkRewriter
from guard.proto.sse import SseEvent
from guard.proto.whole import Texts, decoded, number_of, objects, samples, text_of
from guard.types import Channel, Sample
from guard.wire import Chunk

__all__ = ["CHAT", "COMPLETIONS", "OpenAiFamily", "Route", "decode_chunk", "is_done", "parse_request", "sample_texts"]

#: Fields that bind the text to a grammar, which a continued answer would start afresh.
_GRAMMAR_FIELDS = (
    "grammar",
    "json_schema",
    "structured_outputs",
    "guided_json",
    "guided_regex",
    "guided_choice",
    "guided_grammar",
    "regex",
    "ebnf",
)


#: Fields that vLLM refuses in a stream, or whose result it sends in a whole body only.
_WHOLE_ONLY = ("prompt_logprobs", "use_beam_search", "kv_transfer_params", "ec_transfer_params")
#: Limits a resume lowers by the tokens already released.
_LIMITS = ("max_tokens", "max_completion_tokens")
#: Engines that continue a given partial answer.
_RESUMABLE = frozenset({"llama.cpp", "vllm"})
#: What a stream tells of a choice that the guard ended while the others go on. OpenAI's own word for
#: text that was left out; never "stop", which would make it look complete.
ENDED = "content_filter"


class OpenAiReader:
    """Chunks are in the common shape already."""

    def read(self, event: SseEvent) -> Chunk:
        """See Reader."""
        data = event.data
        assert data is not None
        if data.startswith(b"{"):
            return decode_chunk(data)
        return LastChunk() if is_done(data) else decode_chunk(data)


class OpenAiFamily(Family):
    """One of the two routes."""

    #: The opening delta, which only names the role, passes at once; `Continuation` keeps it single.
    opening_waits = False
    stop_told: StopTold | None = "verbose"

    terminal = b"data: [DONE]\n\n"

    def __init__(self, route: Route, *aliases: str) -> None:
        self.route = route
        self.paths = (route.value, *aliases)

    def parse(self, path: str, body: bytes) -> ClientRequest:
        """See Family."""
        fields = decode_object(body)
        return ClientRequest(
            family=self,
            route=path,
            raw=body,
            body=fields,
            stream=wants_stream(fields),
            model=text_or_empty(fields.get("model")),
            n=self._choices(fields),
            timings_per_token=fields.get("timings_per_token") is True,
            return_token_ids=asked_bool(fields.get("return_token_ids")) is True,
            max_tokens=_max_tokens(fields),
            resume_hazards=tuple(_resume_hazards(self.route, fields)),
            prefill=_prefill(self.route, fields),
        )

    def _choices(self, fields: dict[str, Any]) -> int:
        n = asked_int(fields.get("n"))
        prompt = fields.get("prompt") if self.route is Route.COMPLETIONS else None
        prompts = len(prompt) if isinstance(prompt, list) and prompt and not is_int(prompt[0]) else 1
        return (1 if n is None else n) * prompts

    def reader(self) -> OpenAiReader:
        """See Family."""
        return OpenAiReader()

    def rewriter(
        self, request: ClientRequest, *, engine: str, annotate: bool, continuation: Continuation | None
    ) -> ChunkRewriter:
        """See Family."""
        return ChunkRewriter(request, engine=engine, annotate=annotate, continuation=continuation)

    def gatherer(self, request: ClientRequest, engine: str) -> Assembler:
        """See Family."""
        choice = request.body.get("tool_choice")
        forced = isinstance(choice, dict) or choice == "required"
        return Assembler(
            self.route,
            engine,
            request.prefill,
            forced_tool=forced,
            tools=choice != "none" and bool(request.body.get("tools")),
            token_ids=request.return_token_ids,
            stops=bool(request.body.get("stop")),
        )

    def said(self, body: bytes) -> list[Sample]:
        """See Family."""
        answer = decoded(body)
        texts: Texts = []
        for at, choice in enumerate(objects(number_of(answer, "choices"))):
            index = choice["index"] if is_int(choice.get("index")) else at
            message = choice.get("message")
            if not isinstance(message, dict):
                texts.append((index, Channel.CONTENT, text_of(choice, "text")))
                continue
            texts.append((index, Channel.REASONING, text_of(message, "reasoning", "reasoning_content")))
            texts.append((index, Channel.CONTENT, text_of(message, "content", "refusal")))
            for call in objects(message.get("tool_calls")):
                function = call.get("function")
                if isinstance(function, dict):
                    texts.append((index, Channel.TOOL, text_of(function, "arguments")))
        return samples(texts, number_of(number_of(answer, "usage"), "completion_tokens"))

    def prompt(self, request: ClientRequest) -> object:
        """See Family."""
        return request.body.get("messages" if self.route is Route.CHAT else "prompt")

    def error_body(self, notice: Notice) -> bytes:
        """See Family."""
        return msgspec.json.encode(_error(notice))

    def error_event(self, notice: Notice, sent: bytes = b"") -> bytes:
        """See Family."""
        return event_of(_error(notice))

    def stream_fields(self, request: ClientRequest) -> dict[str, Any]:
        """See Family: with usage, so that the answer put together again has its own."""
        options = request.body.get("stream_options")
        known = options if isinstance(options, dict) else {}
        return {"stream": True, "stream_options": {**known, "include_usage": True}}

    def stream_hazards(self, request: ClientRequest, engine: str) -> tuple[str, ...]:
        """
        See Family.

        llama.cpp leaves the log-probabilities of accepted draft tokens out of its streams. vLLM takes an
        echo for the wish to have the prompt's, which only its whole answers have, and refuses `stream_options` in a
        request that is not streamed.
        """
        hazards = [f"{name} is set" for name in _WHOLE_ONLY if request.body.get(name)]
        if engine == "llama.cpp" and (request.body.get("logprobs") or request.body.get("n_probs")):
            hazards.append("log-probabilities are asked")
        prompts = self.route is Route.CHAT or request.body.get("logprobs") is not None
        if engine == "llama.cpp" and request.body.get("verbose"):
            hazards.append("verbose is set")
        if engine == "vllm" and request.body.get("echo") and prompts:
            hazards.append("log-probabilities of the prompt are asked")
        if engine == "vllm" and request.body.get("stream_options") is not None:
            hazards.append("stream_options is set")
        return tuple(hazards)

    def switches(self, request: ClientRequest, engine: str, wanted: Mapping[str, Any]) -> Mapping[str, Any]:
        """See Family. vLLM leaves the echoed prompt out of the text when token ids are asked as well."""
        if request.body.get("echo"):
            return {name: value for name, value in wanted.items() if name != "return_token_ids"}
        return wanted

    def logprob_fields(self, request: ClientRequest) -> Mapping[str, Any]:
        """See Family. What the client asked for itself stays as it is. Pictures and sounds have no token ids."""
        if request.body.get("prompt_embeds") or not _only_text(request.body.get("messages")):
            return {}
        asked = asked_int(request.body.get("logprobs"))
        if self.route is Route.CHAT:
            return {"return_token_ids": True, "logprobs": True}
        return {"return_token_ids": True, "logprobs": 0 if asked is None else asked}

    def rid_field(self, request: ClientRequest) -> str:
        """See Family."""
        return "rid"

    def resume_blocker(self, engine: str) -> str:
        """See Family."""
        return "" if engine in _RESUMABLE else f"{engine} backends are not known to continue a text"

    def resume_fields(self, request: ClientRequest, text: str, released: int, engine: str) -> dict[str, Any]:
        """See Family."""
        body = request.body
        fields: dict[str, Any] = {}
        if self.route is Route.COMPLETIONS:
            prompt = body.get("prompt")
            if not isinstance(prompt, str):
                raise ValueError("only a single string prompt can be resumed")
            fields["prompt"] = prompt + text
        else:
            fields["messages"] = _continued(body, text, engine)
            if engine == "vllm":
                fields["continue_final_message"] = True
                fields["add_generation_prompt"] = False
        for name in _LIMITS:
            limit = asked_int(body.get(name))
            if limit is not None:
                fields[name] = max(limit - released, 1)
        least = asked_int(body.get("min_tokens"))
        if least is not None:
            fields["min_tokens"] = max(least - released, 0)
        return fields

    def end_choice(self, data: bytes, choice: int) -> bytes:
        """See Family."""
        fields: dict[str, Any] = _RAW.decode(data)
        said: dict[str, Any] = {"delta": {}} if self.route is Route.CHAT else {"text": ""}
        ended = {"index": choice, **said, "logprobs": None, "finish_reason": ENDED}
        kept = {name: fields[name] for name in _CHUNK_FIELDS if name in fields}
        return event_of({**kept, "choices": [ended]})


_RAW = msgspec.json.Decoder(dict[str, msgspec.Raw])
#: What a chunk says of its answer, not of its choices.
_CHUNK_FIELDS = ("id", "object", "created", "model", "system_fingerprint")

CHAT = OpenAiFamily(Route.CHAT, "/chat/completions")
COMPLETIONS = OpenAiFamily(Route.COMPLETIONS)


def parse_request(route: Route, body: bytes) -> ClientRequest:
    """A client's request to one of the two routes; see `Family.parse`."""
    family = CHAT if route is Route.CHAT else COMPLETIONS
    return family.parse(route.value, body)


def _error(notice: Notice) -> dict[str, Any]:
    error = {"message": notice.message, "type": notice.kind, "param": notice.param, "code": notice.code}
    return {"error": error}


def _max_tokens(fields: dict[str, Any]) -> int | None:
    limits = [asked_int(fields.get(name)) for name in ("max_completion_tokens", "max_tokens")]
    return next((limit for limit in limits if limit is not None), None)


def _resume_hazards(route: Route, fields: dict[str, Any]) -> list[str]:
    hazards: list[str] = []
    if fields.get("tools") or fields.get("functions"):
        hazards.append("tools are offered")
    response_format = fields.get("response_format")
    if isinstance(response_format, dict) and response_format.get("type") != "text":
        hazards.append("response_format is set")
    hazards.extend(f"{name} is set" for name in _GRAMMAR_FIELDS if fields.get(name))
    for name in ("n", "best_of"):
        value = asked_int(fields.get(name))
        if value is not None and value > 1:
            hazards.append(f"{name} > 1")
    logprobs = fields.get("logprobs")
    if logprobs is not None and logprobs is not False:
        hazards.append("logprobs are asked")
    if fields.get("echo"):
        hazards.append("echo is set")
    if route is Route.COMPLETIONS:
        if not isinstance(fields.get("prompt"), str):
            hazards.append("the prompt is not one string")
        if fields.get("suffix"):
            hazards.append("suffix is set")
    elif not _messages_extend(fields.get("messages")):
        hazards.append("the last message cannot be continued as text")
    return hazards


def _prefill(route: Route, fields: dict[str, Any]) -> str:
    messages = fields.get("messages")
    last = messages[-1] if route is Route.CHAT and isinstance(messages, list) and messages else None
    if not isinstance(last, dict) or last.get("role") != "assistant":
        return ""
    content = last.get("content")
    return content if isinstance(content, str) else ""


def _messages_extend(messages: object) -> bool:
    """Whether text can follow: a list whose last message, if the assistant's, has plain text."""
    if not isinstance(messages, list) or not messages:
        return False
    last = messages[-1]
    if not isinstance(last, dict):
        return False
    return last.get("role") != "assistant" or isinstance(last.get("content"), str)


def _only_text(messages: object) -> bool:
    """Whether all parts of all messages are text, so that the prompt's token ids say all of it."""
    contents = (
        [message.get("content") for message in messages if isinstance(message, dict)]
        if isinstance(messages, list)
        else []
    )
    parts = [part for content in contents if isinstance(content, list) for part in content]
    return all(isinstance(part, dict) and part.get("type") == "text" for part in parts)


def _continued(body: Mapping[str, Any], text: str, engine: str) -> list[Any]:
    """
    The messages with `text` as the open end of the assistant's turn.

    A client may itself have begun that turn (llama.cpp always continues a last assistant message,
    vLLM when told to): then the text joins the client's, for two such messages would be two turns.
    """
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise ValueError("there are no messages to resume")
    last = messages[-1]
    begun = isinstance(last, dict) and last.get("role") == "assistant"
    if begun and (engine != "vllm" or body.get("continue_final_message") is True):
        if not isinstance(last.get("content"), str):
            raise ValueError("the last message has no plain text to continue")
        return [*messages[:-1], {**last, "content": last["content"] + text}]
    return [*messages, {"role": "assistant", "content": text}]
