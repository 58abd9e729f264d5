"""The body of an upstream request: the client's, with what the guard needs set in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from guard.proto.openai import ClientRequest, Route

#: Fields that vLLM refuses in a stream, or whose result it sends in a whole body only.
_WHOLE_ONLY = ("prompt_logprobs", "use_beam_search", "kv_transfer_params", "ec_transfer_params")
#: Limits a resume lowers by the tokens already released.
_LIMITS = ("max_tokens", "max_completion_tokens")


def upstream_body(
    request: ClientRequest,
    *,
    switches: Mapping[str, Any],
    changes: Mapping[str, Any],
    resume_text: str | None = None,
    released_tokens: int = 0,
    engine: str,
) -> bytes:
    """
    Make the body of one attempt.

    Streaming is forced on, and usage asked for, when the client wants one body, so that a bad
    answer can be cut early and the assembled one still has its usage. A resume makes the engine
    continue `resume_text`. All values the guard does not touch keep their exact bytes; a body that
    needs no change is the client's own.

    Args:
        request: The client's request.
        switches: Fields that turn the engine's acceptance signal on.
        changes: Fields that a retry changes.
        resume_text: Text of the answer already released; None to start from the beginning.
        released_tokens: Tokens of that text, taken off the client's limits. Unit: tokens.
        engine: Engine name; "vllm" needs to be told to continue the last message.

    Returns:
        JSON.

    Raises:
        ValueError: A resume was asked although `request.resume_hazards` rules it out.
    """
    wanted: dict[str, Any] = {}
    if not request.stream:
        options = request.body.get("stream_options")
        wanted["stream"] = True
        wanted["stream_options"] = {**(options if isinstance(options, dict) else {}), "include_usage": True}
    wanted.update(switches)
    if request.body.get("echo"):
        # vLLM leaves the echoed prompt out of the text when token ids are asked as well.
        wanted.pop("return_token_ids", None)
    wanted.update(changes)
    if resume_text is not None:
        wanted.update(_resume_fields(request, resume_text, released_tokens, engine))
    body = request.body
    edits = {name: value for name, value in wanted.items() if name not in body or not _same(body[name], value)}
    if not edits:
        return request.raw
    fields: dict[str, Any] = msgspec.json.decode(request.raw, type=dict[str, msgspec.Raw])
    fields.update(edits)
    return msgspec.json.encode(fields)


def stream_hazards(request: ClientRequest, engine: str) -> tuple[str, ...]:
    """
    Why a request for one body must not be turned into a stream: the assembled answer would not be
    the engine's own.

    Args:
        request: The client's request.
        engine: Engine name. llama.cpp leaves the log-probabilities of accepted draft tokens out of
            its streams.

    Returns:
        One clause each; empty when it may, and always for a request that is streamed anyway.
    """
    if request.stream:
        return ()
    hazards = [f"{name} is set" for name in _WHOLE_ONLY if request.body.get(name)]
    if engine == "llama.cpp" and (request.body.get("logprobs") or request.body.get("n_probs")):
        hazards.append("log-probabilities are asked")
    return tuple(hazards)


def _resume_fields(request: ClientRequest, text: str, released: int, engine: str) -> dict[str, Any]:
    body = request.body
    fields: dict[str, Any] = {}
    if request.route is Route.COMPLETIONS:
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
        limit = body.get(name)
        if isinstance(limit, int) and not isinstance(limit, bool):
            fields[name] = max(limit - released, 1)
    least = body.get("min_tokens")
    if isinstance(least, int) and not isinstance(least, bool):
        fields["min_tokens"] = max(least - released, 0)
    return fields


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


def _same(have: object, want: object) -> bool:
    return type(have) is type(want) and have == want
