"""A small streaming client for the tests of the real backend."""

from __future__ import annotations

import json
from typing import Any

import aiohttp

from guard.proto.sse import SseParser


def chat_body(prompt: str, **fields: Any) -> dict[str, Any]:
    """A greedy streaming chat request."""
    messages = [{"role": "user", "content": prompt}]
    return {"messages": messages, "stream": True, "timings_per_token": True, "temperature": 0, **fields}


async def stream(url: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    """All chunks of one streamed answer."""
    parser = SseParser()
    chunks = []
    # A connection for each request: llama.cpp ends it after a stream without saying so.
    async with aiohttp.ClientSession() as session, session.post(url, json=body) as reply:
        assert reply.status == 200, await reply.text()
        async for piece in reply.content.iter_any():
            for event in parser.feed(piece):
                if event.data is not None and event.data != b"[DONE]":
                    chunks.append(json.loads(event.data))
    return chunks


def text_of(chunks: list[dict[str, Any]]) -> str:
    """The text of an answer, on either route."""
    parts = []
    for chunk in chunks:
        for choice in chunk.get("choices", []):
            parts.append((choice.get("delta") or {}).get("content") or choice.get("text") or "")
    return "".join(parts)


def acceptance_length(chunks: list[dict[str, Any]], after_token: int = 0) -> float:
    """Tokens per verify step among the tokens after `after_token`, from the cumulative counters."""
    timings = [chunk["timings"] for chunk in chunks if "timings" in chunk]
    before = [t for t in timings if t["predicted_n"] <= after_token]
    accepted = timings[-1]["draft_n_accepted"] - (before[-1].get("draft_n_accepted", 0) if before else 0)
    tokens = timings[-1]["predicted_n"] - (before[-1]["predicted_n"] if before else 0)
    return float(tokens / (tokens - accepted))
