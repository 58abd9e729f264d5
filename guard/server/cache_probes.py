"""What a backend does with its prefix cache when asked to: leave it aside, take a spoilt prompt out of it."""

from __future__ import annotations

import uuid

from guard.retry.changes import changes_for
from guard.server.probes import LONG_PROMPT, Asker, Backend, Check, State, cached_tokens, chat_body
from guard.types import Change

#: What a request carries that withdraws its own prompt; read by `backend/vllm/race_free/lineage.py`.
WITHDRAW = {"guard_withdraw": 1}
_REMEDY = "a spoilt prompt is read again until it is evicted: start vLLM with the plugin and GUARD_VLLM_RACE_FREE=1"


async def check_cache_bypass(asker: Asker, backend: Backend) -> Check:
    """Whether a retry can leave the prefix cache aside: the same prompt a third time must hit nothing."""
    name, engine = "cache_bypass", backend.engine
    bypass = changes_for(engine, (Change.CACHE,), attempt=2, nonce=uuid.uuid4().hex, body={})
    if not bypass:
        return Check(name, State.NO, "no field is known that does so", "use several replicas: a retry takes another")
    body = chat_body(backend, max_tokens=1, content=f"{uuid.uuid4()} " + LONG_PROMPT)
    hits = [await cached_tokens(asker, engine, fields) for fields in (body, body, body | bypass)]
    first, again, bypassed = hits
    if first is None or again is None or bypassed is None:
        return Check(name, State.UNKNOWN, "the backend does not tell how much of a prompt it took from its cache")
    if again <= first:
        return Check(name, State.YES, "nothing to bypass: a prompt sent twice was not taken from a cache")
    field = next(iter(bypass))
    if bypassed < again / 2:
        return Check(name, State.YES, f"{again} tokens from the cache when asked again, {bypassed} with {field}")
    remedy = "a retry on the same replica would repeat the fault: use several replicas"
    return Check(name, State.NO, f"{bypassed} tokens came from the cache in spite of {field}", remedy)


async def check_withdraw(asker: Asker, backend: Backend) -> Check:
    """Send a prompt twice, and once more with the switch: then nothing of it may come from the cache."""
    name = "withdrawal"
    if backend.engine != "vllm":
        return Check(name, State.NO, "only vLLM with the guard's race-free plugin does so")
    body = chat_body(backend, max_tokens=1, content=f"{uuid.uuid4()} {LONG_PROMPT}")
    asked = (body, body, body | {"vllm_xargs": WITHDRAW})
    first, again, withdrawn = [await cached_tokens(asker, backend.engine, fields) for fields in asked]
    if first is None or again is None or withdrawn is None:
        return Check(name, State.UNKNOWN, "the backend does not tell how much of a prompt it took from its cache")
    if again <= first:
        return Check(name, State.NO, "nothing to withdraw: a prompt sent twice was not taken from a cache")
    if withdrawn < again / 2:
        return Check(name, State.YES, f"{again} tokens from the cache when asked again, {withdrawn} once withdrawn")
    return Check(name, State.NO, f"{withdrawn} tokens came from the cache in spite of guard_withdraw", _REMEDY)
