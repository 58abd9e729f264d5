"""
What `test_pushed` tests, as a program of its own; prints one JSON object, a result for each scenario.

    python -m tests.vllm.backend.vllm.layer_split.pushed
"""

from __future__ import annotations

import json
from typing import Any

import tests.vllm.backend.vllm.conftest  # noqa: F401 - sets the environment before vLLM is imported
from guard.backend.kv.rules import ALL, without
from tests.vllm.backend.vllm.layer_split.engines import Ask, differing, load
from tests.vllm.backend.vllm.layer_split.halves import Halves, halves

#: Attention decides the next token: whoever reads another's cache says something else.
SHAPE = {"attention_gain": 3.0, "mlp_gain": 0.5, "seed": 11}
COMMON: dict[str, Any] = {"layers": 4, "memory": 8 << 20, "batched": 256, "speculative": False, "shape": SHAPE}
#: Freed blocks are then the next that are given out.
DECODE = {"enable_prefix_caching": False}
ASKS = load(24, seed=4, longest=400)
FIRST = Ask(tuple(range(300, 620)), 1)
SECOND = Ask(tuple(range(900, 580, -1)), 24)


def healthy(both: Halves) -> dict[str, Any]:
    """All requests, by the decode engine alone and pushed; and what the last rank's layers are for."""
    alone = both.serve(ASKS, pushed=False)
    # Or a layer that never came would be found where it was before.
    both.spoil()
    pushed = both.serve(ASKS)
    found = {
        "different": differing(alone, pushed),
        "answered": len(set(pushed.tokens) - pushed.gone),
        "gone": len(pushed.gone),
        "asked_of": dict(both.asked_of),
        "tokens": both.tokens,
        "lost": len(both.lost),
        "not_back": [both.not_back(), both.prefill_not_back()],
        "prefill": both.count(),
    }
    both.spoil()
    both.fault("writes nothing")
    found["different, one rank writes nothing"] = differing(alone, both.serve(ASKS[:8]))
    both.fault()
    assert both.not_back() == 0
    return found


def late_write(both: Halves, name: str, right: tuple[int, ...], *, every_rank: bool) -> dict[str, Any]:
    """
    The first rank is done, the last one's write is posted and held. The request ends, and the next one is computed;
    meanwhile the write lands.

    With the rule the client has to go away for that: half a cache is no answer.
    """
    both.use(ALL if every_rank else without("every_rank"))
    both.fault("held")
    both.add(name, FIRST)
    both.until(lambda: both.half_done() if every_rank else both.made.engine.get_num_unfinished_requests() == 0)
    first, draining = both.blocks, 0
    if every_rank:
        both.leave(name)
        both.until(lambda: both.ledger.stats()["blocks_draining"] > 0, 10.0)
        draining = int(both.ledger.stats()["blocks_draining"])
    got, second = both.run(f"{name}, next", SECOND, after=2, then=both.let_land)
    return {
        "blocks": len(first),
        "draining": draining,
        "reused": len(set(first) & set(second)),
        "right": got == right,
        "not_back": both.not_back(),
    }


def unanswered(both: Halves) -> dict[str, Any]:
    """An abort whose answer by the last rank is lost: the deadline passes, and later it is heard after all."""
    both.use(timeout=1.0)
    both.fault("held")
    both.add("unanswered", FIRST)
    both.until(both.half_done)
    both.leave("unanswered")
    both.until(lambda: both.quarantined() > 0)
    held = both.quarantined()
    both.let_land("mute")
    # Aborts are sent again meanwhile; the answers are lost.
    both.until(lambda: False, 0.6)
    kept = both.quarantined()
    both.fault()
    return {"held": held, "kept": kept, "not_back": both.not_back()}


def main() -> None:
    """Run all."""
    with halves(COMMON, decode=DECODE) as both:
        found: dict[str, Any] = {"healthy": healthy(both)}
        right, _ = both.run("right", SECOND)
        found["with the rule"] = [late_write(both, f"safe {n}", right, every_rank=True) for n in range(3)]
        found["without it"] = [late_write(both, f"unsafe {n}", right, every_rank=False) for n in range(3)]
        found["unanswered"] = unanswered(both)
        found["alive"] = both.run("alive", SECOND)[0] == right
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
