"""A backend that calls itself vLLM and lacks whatever a test takes from it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

PROMPT = [1, 2, 3]
EMITTED = -0.5


@dataclass
class Engine:
    """
    Its defects: each a way in which a backend can fail what is asked of it.

    It says `tokens` words, one a chunk. `accepts` are the draft tokens it tells to have kept of 3 in each step, None to
    tell nothing; with `looks_up` only where it is asked to repeat something. `score_shift` is added to all
    log-probabilities that are computed again. With `moved` it sends withdrawals and re-scorings to that address.
    """

    version: str = "1"
    aborts: bool = True
    continues: bool = True
    caches: bool = True
    bypasses: bool = True
    scores: bool = True
    withdraws: bool = True
    score_shift: float = 0.0
    score_seconds: float = 0.0
    tokens: int = 32
    accepts: int | None = None
    looks_up: bool = False
    running: int = 0
    url: str = ""
    moved: str = ""
    posts: list[dict[str, Any]] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)

    async def get(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/version":
            return web.json_response({"version": self.version})
        if request.path == "/v1/models":
            return web.json_response({"data": [{"id": "m", "max_model_len": 512}]})
        if request.path == "/metrics":
            return web.Response(text=f'vllm:num_requests_running{{engine="0"}} {self.running}\n')
        return web.json_response({}, status=404)

    async def post(self, request: web.Request) -> web.StreamResponse:
        if request.content_type != "application/json":  # as vLLM does
            return web.json_response({"error": "no JSON"}, status=400)
        body = await request.json()
        self.posts.append(body)
        withdraws = (body.get("vllm_xargs") or {}).get("guard_withdraw")
        if self.moved and (withdraws or "prompt_logprobs" in body):
            raise web.HTTPTemporaryRedirect(self.moved + request.path)
        if "prompt_logprobs" in body:
            return await self._score(body)
        if body.get("stream"):
            return await self._stream(request, body)
        prompt = json.dumps([body.get("messages"), body.get("prompt"), body.get("cache_salt") if self.bypasses else 0])
        withdrawn = self.withdraws and (body.get("vllm_xargs") or {}).get("guard_withdraw")
        hit = 300 if self.caches and prompt in self.seen and not withdrawn else 0
        self.seen.add(prompt)
        answer = {
            "choices": [
                {
                    "text": "ab",
                    "message": {"content": "ab"},
                    "prompt_token_ids": [1, 2],
                    "token_ids": [3, 4],
                    "logprobs": {"token_logprobs": [-0.5, -0.5]},
                }
            ],
            "usage": {"prompt_tokens_details": {"cached_tokens": hit}},
        }
        return web.json_response(answer)

    async def _score(self, body: dict[str, Any]) -> web.Response:
        await asyncio.sleep(self.score_seconds)
        if not self.scores:
            return web.json_response({"choices": [{"prompt_logprobs": None}]})
        told = [{str(token): {"logprob": EMITTED + self.score_shift}} for token in body["prompt"]]
        return web.json_response({"choices": [{"prompt_logprobs": [None, *told[1:]]}]})

    @property
    def words(self) -> list[str]:
        return [f" word{number}" for number in range(self.tokens)]

    def _choice(self, number: int, body: dict[str, Any]) -> dict[str, Any]:
        """The chunk of one word, as vLLM tells it."""
        word = self.words[number]
        choice: dict[str, Any] = {"index": 0, "delta": {"content": word}}
        if "messages" not in body:
            choice = {"index": 0, "text": word}
        if body.get("logprobs"):
            choice["logprobs"] = {"content": [{"token": word, "logprob": EMITTED, "bytes": None, "top_logprobs": []}]}
        choice["finish_reason"] = "stop" if number == self.tokens - 1 else None
        if body.get("return_token_ids"):
            choice["token_ids"] = [100 + number]
        out: dict[str, Any] = {"id": "x", "choices": [choice]}
        if number == 0 and body.get("return_token_ids"):
            out["prompt_token_ids"] = PROMPT
        repeats = "once more" in json.dumps(body.get("messages", ""))
        if self.accepts is not None and (repeats or not self.looks_up):
            out["metrics"] = {"speculative_decoding": {"per_step_accepted": [self.accepts], "per_step_drafted": [3]}}
        return out

    async def _stream(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        chat = "messages" in body
        given = body["messages"][-1]["content"] if chat else body["prompt"]
        given = given if not chat or body["messages"][-1]["role"] == "assistant" else ""
        after = next((i + 1 for i in reversed(range(self.tokens)) if given.endswith(self.words[i])), 0)
        reply = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await reply.prepare(request)
        self.running += 1
        try:
            for number in range(after if self.continues else 0, self.tokens):
                await reply.write(b"data: " + json.dumps(self._choice(number, body)).encode() + b"\n\n")
                if body.get("ignore_eos"):
                    await asyncio.sleep(0.02)
            await reply.write(b"data: [DONE]\n\n")
        finally:
            if self.aborts or not body.get("ignore_eos"):
                self.running -= 1
        return reply


@contextlib.asynccontextmanager
async def engine(**defects: Any) -> AsyncIterator[Engine]:
    """Serve one on a free port."""
    scripted = Engine(**defects)
    app = web.Application()
    app.router.add_get("/{p:.*}", scripted.get)
    app.router.add_post("/{p:.*}", scripted.post)
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    scripted.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield scripted
    finally:
        await runner.cleanup()
