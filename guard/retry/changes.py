"""
What a retry changes. A greedy retry over the same prefix cache repeats the fault byte for byte, so
every retry changes something; which fields do it depends on the engine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from guard.types import Change

Scalar = str | int | float | bool

#: Largest seed that every engine takes (llama.cpp reads 32 bits unsigned, all ones = random).
MAX_SEED = 2**31 - 1
#: How much a `temperature` change adds per retry.
TEMPERATURE_STEP = 0.1


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

    Returns:
        Fields to set in the upstream request. Empty on the first attempt.
    """
    fields: dict[str, Scalar] = {}
    if attempt <= 1:
        return fields
    for change in wanted:
        if change is Change.CACHE:
            fields.update(_cache_bypass(engine, attempt, nonce))
        elif change is Change.SEED:
            fields["seed"] = _stepped_seed(body.get("seed"), attempt)
        elif change is Change.TEMPERATURE:
            fields["temperature"] = _stepped_temperature(body.get("temperature"), attempt)
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


def _stepped_temperature(temperature: object, attempt: int) -> float:
    known = isinstance(temperature, (int, float)) and not isinstance(temperature, bool)
    base = float(temperature) if known else 1.0  # type: ignore[arg-type]
    return round(min(base + TEMPERATURE_STEP * (attempt - 1), 2.0), 4)
