"""
What a retry changes. A greedy retry over the same prefix cache repeats the fault byte for byte, so
every retry changes something; which fields do it depends on the engine. (Another replica is asked first in any
case; that is the pool's part. Speculation cannot be switched off for one request: vLLM 0.32 and SGLang have no field
for it, and llama.cpp's of October 2026 drafts on whatever `speculative.*` a request has.)

Source:
    vLLM 0.32 vllm/entrypoints/openai/chat_completion/protocol.py (`cache_salt`); SGLang
    python/sglang/srt/entrypoints/openai/protocol.py (`cache_salt`, `extra_key`); llama.cpp
    tools/server/server-task.cpp (`cache_prompt`).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from guard.types import Change

Scalar = str | int | float | bool

#: Largest seed that every engine takes (llama.cpp reads 32 bits unsigned, all ones = random).
MAX_SEED = 2**31 - 1
#: How much a `temperature` change adds per retry.
TEMPERATURE_STEP = 0.1
#: How much a `penalty` change adds to `frequency_penalty` per retry: enough to leave a loop, too little to show.
PENALTY_STEP = 0.2
#: Largest penalty that OpenAI's routes take.
_MOST_PENALTY = 2.0


def changes_for(
    engine: str, wanted: Sequence[Change], *, attempt: int, nonce: str, body: Mapping[str, object]
) -> dict[str, Scalar]:
    """
    Request fields for one retry.

    Args:
        engine: Engine name ("llama.cpp", "vllm", "sglang", "text").
        wanted: What the policy asks to change, in order.
        attempt: Number of the attempt to be made, the first being 1.
        nonce: A string unique to this exchange, from which the cache salt is made.
        body: The client's request, for the values to step from.

    Temperature and penalty wait for the second retry where the first one leaves the cache aside: a fault that was the
    cache's is then gone, and the answer is what it would have been without it; one that comes again on a clean cache
    is the model's own.

    Returns:
        Fields to set in the upstream request. Empty on the first attempt.
    """
    if attempt <= 1:
        return {}
    fields = _cache_bypass(engine, attempt, nonce) if Change.CACHE in wanted else {}
    steps = attempt - 2 if fields else attempt - 1
    for change in wanted:
        if change is Change.SEED:
            fields["seed"] = _stepped_seed(body.get("seed"), attempt)
        elif change is Change.TEMPERATURE and steps:
            fields["temperature"] = _stepped(body.get("temperature"), 1.0, TEMPERATURE_STEP * steps)
        elif change is Change.PENALTY and steps:
            fields["frequency_penalty"] = _stepped(body.get("frequency_penalty"), 0.0, PENALTY_STEP * steps)
    return fields


def _cache_bypass(engine: str, attempt: int, nonce: str) -> dict[str, Scalar]:
    if engine == "llama.cpp":
        return {"cache_prompt": False}
    if engine in ("vllm", "sglang"):
        return {"cache_salt": f"guard-{nonce}-{attempt}"}
    return {}


def _stepped_seed(seed: object, attempt: int) -> int:
    base = seed if isinstance(seed, int) and not isinstance(seed, bool) else 0
    return (base + attempt - 1) % MAX_SEED


def _stepped(value: object, default: float, step: float) -> float:
    """The client's temperature or penalty, or the engines' default, and a step more; both end at 2."""
    known = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
    base = float(value) if known else default  # type: ignore[arg-type]
    return round(min(base + step, max(_MOST_PENALTY, base)), 4)
