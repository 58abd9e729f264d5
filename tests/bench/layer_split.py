"""
Measures LayerSplit on real vLLM, with tensor-parallel workers on the CPU; in the environment of deploy/vllm_env.sh.

    python tests/bench/layer_split.py --json          # everything; the last line is one JSON object
    python tests/bench/layer_split.py --only equal    # the mix of 220 requests: unsplit, split, split without prefetch
    python tests/bench/layer_split.py --only four     # four ranks: capacity and tokens
    python tests/bench/layer_split.py --only push     # a split prefill node pushes into an unsplit decode engine
    python tests/bench/layer_split.py --only speed    # throughput, time to the first token, and the model of both

Split and unsplit engines stand side by side, with the same memory, and take turns: what else runs on the machine slows
both. `speed` asks each of some sessions' contexts again in random order, nine tenths of a request seen before; at the
longest they fill the split cache, so that the unsplit one holds half of them.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

# Sets the environment, the number of threads included, which is read when torch and vLLM are imported: a second thread
# in each rank would spin away the time of the other rank.
import tests.vllm.backend.vllm.conftest  # noqa: F401

# isort: split
import msgspec
import torch

from guard.backend.device.layer_split import open_groups
from guard.backend.kv.layer_split_cost import Load, Machine, Prediction, Shape, predict
from guard.backend.testbed.engine import InprocessEngine
from guard.backend.testbed.tiny import TinyShape
from tests.bench.layer_split_plot import picture
from tests.vllm.backend.device.ranks import run_ranks
from tests.vllm.backend.vllm.layer_split.engines import PAGE, blocks, differing, engine, load, serve
from tests.vllm.backend.vllm.layer_split.halves import halves

_LAYERS = 16
#: Wide enough that computing a prompt takes longer than starting its steps does.
_WIDTH = 512
_SESSIONS = 6
_LENGTHS = (992, 1488, 1984)
#: Fresh prompts from which the cost model learns how fast the machine computes.
_CALIBRATION = (96, 240, 496, *_LENGTHS)
_MODEL_LEN = 2016
_CHUNK = 1024
#: The node computes prompts and hands them on.
_TOKENS = 1


def equal(count: int) -> dict[str, Any]:
    """The mix of requests, unsplit, split and split without prefetch; all engines with the same memory."""
    asks = load(count, seed=5)
    found: dict[str, Any] = {}
    answers = {}
    for name, options in {
        "unsplit": {"split": False},
        "split": {"split": True},
        "split, no prefetch": {"split": True, "prefetch": False},
    }.items():
        with engine(layers=4, memory=5 << 20, seqs=32, batched=512, **options) as made:
            started = time.monotonic()
            answers[name] = got = serve(made, asks, at_once=40)
            found[name] = {
                "seconds": round(time.monotonic() - started, 1),
                "blocks": blocks(made),
                "steps": got.steps,
                "tokens": sum(map(len, got.tokens.values())),
                "prefix_hits": got.cached,
                "chunked": got.chunked,
                "preemptions": got.preempted,
                "aborted": len(got.gone),
                "different": len(differing(answers["unsplit"], got)),
            }
            print(name, json.dumps(found[name]), flush=True)
    return {"requests": count, "tokens_equal": not any(each["different"] for each in found.values()), **found}


def four() -> dict[str, Any]:
    """Four ranks: blocks and tokens, with and without."""
    asks = load(16, seed=6, longest=300)
    shape = TinyShape(num_layers=16, num_kv_heads=1)
    common: dict[str, Any] = {"ranks": 4, "speculative": False, "shape": shape, "model_len": 352, "seqs": 2}
    memory = 100 * 16 * PAGE
    counts, answers = {}, []
    for split in (False, True):
        with engine(split=split, memory=memory, **common) as made:
            counts[split] = blocks(made)
            answers.append(serve(made, asks, at_once=4))
    return {
        "ranks": 4,
        "blocks": [counts[False], counts[True]],
        "capacity_ratio": round(counts[True] / counts[False], 3),
        "tokens_equal": not differing(*answers),
    }


def push(count: int, ranks: int, *, draft: bool) -> dict[str, Any]:
    """
    The prefill node has LayerSplit on two ranks; each owner's layers are pushed into an unsplit decode engine.

    Prefill of a prompt longer than a step, prefix hits on both sides, clients that go away before the content is there
    and after. All answers are compared with those of the decode engine alone.

    Args:
        count: Requests.
        ranks: Of the decode engine.
        draft: Both have an EAGLE draft.
    """
    asks = load(count, seed=7)
    common: dict[str, Any] = {"layers": 4, "memory": 8 << 20, "batched": 512, "speculative": draft}
    with halves(common, prefill={"seqs": 8}, decode={"ranks": ranks, "seqs": 16}) as both:
        started = time.monotonic()
        # There nobody goes away: every answer is known.
        alone = both.serve([msgspec.structs.replace(ask, leaves=0) for ask in asks], at_once=16, pushed=False)
        took = {"alone": round(time.monotonic() - started, 1)}
        print(f"{len(alone.tokens)} answered by the decode engine alone, {took['alone']} s", flush=True)
        both.spoil()
        started = time.monotonic()
        got = both.serve(asks, at_once=16)
        took["pushed"] = round(time.monotonic() - started, 1)
        left = [both.not_back(), both.prefill_not_back()]
        different, finished = differing(alone, got), len(set(got.tokens) - got.gone)
        books = both.ledger.stats()
        return {
            "requests": count,
            "decode_ranks": ranks,
            "draft": draft,
            "finished": finished,
            "tokens_equal": not different and finished + len(got.gone) == count,
            "different": len(different),
            "aborted": len(got.gone),
            "requests_pushed_to": both.asked,
            "tokens_pushed": both.tokens,
            "destinations_by_rank": both.asked_of,
            "lost": len(both.lost),
            "prefix_hits_decode": both.hits,
            "prefill": both.count(),
            "blocks_not_back": {"decode": left[0], "prefill": left[1]},
            "aborted_while_written": len(both.aborts),
            "stale_notices": books["stale_notices"],
            "quarantines": books["quarantines"],
            "seconds": took,
        }


Measured = tuple[float, float, int, tuple[int, ...]]


class Sessions:
    """Contexts of one length, each asked again with another end."""

    def __init__(self, length: int, seed: int) -> None:
        self.dice = random.Random(seed)
        self.length = length
        self.kept = [self._words(int(0.9 * length)) for _ in range(_SESSIONS)]

    def _words(self, count: int) -> list[int]:
        return [self.dice.randrange(260, 900) for _ in range(count)]

    def ask(self, session: int) -> list[int]:
        """A context with a fresh end."""
        return self.kept[session] + self._words(self.length - len(self.kept[session]))

    def fresh(self) -> list[int]:
        """A context nobody saw."""
        return self._words(self.length)


def answer(made: InprocessEngine, prompt: list[int]) -> Measured:
    """Seconds to the first token and in all, tokens found in the cache, and the answer."""
    from vllm import SamplingParams  # noqa: PLC0415

    wanted = SamplingParams(temperature=0, max_tokens=_TOKENS, ignore_eos=True)
    started = time.monotonic()
    made.engine.add_request("one", {"prompt_token_ids": prompt}, wanted)
    first = 0.0
    while True:
        for output in made.engine.step():
            first = first or time.monotonic() - started
            if output.finished:
                took = time.monotonic() - started
                return first, took, output.num_cached_tokens or 0, tuple(output.outputs[0].token_ids)


_turns = itertools.count()


def one_turn(
    both: dict[str, InprocessEngine], prompt: list[int]
) -> dict[str, tuple[float, float, int, tuple[int, ...]]]:
    """What both engines make of a prompt; they take turns in being the first."""
    names = list(both) if next(_turns) % 2 else list(reversed(both))
    return {name: answer(both[name], prompt) for name in names}


def speed(turns: int) -> dict[str, Any]:
    """See the module."""
    # Of the longest contexts the split cache holds all, and some of their ends that nobody asks for again.
    memory = _SESSIONS * (_LENGTHS[-1] // 32) * 5 // 8 * _LAYERS * PAGE
    shape = TinyShape(hidden_size=_WIDTH, num_layers=_LAYERS, num_heads=_WIDTH // 32, num_kv_heads=1)
    common: dict[str, Any] = {
        "speculative": False,
        "shape": shape,
        "memory": memory,
        "model_len": _MODEL_LEN,
        "seqs": 1,
        "batched": _CHUNK,
    }
    link, latency = link_speed()
    with engine(split=False, **common) as whole, engine(split=True, **common) as split:
        both = {"unsplit": whole, "split": split}
        capacity = {name: blocks(made) for name, made in both.items()}
        found: dict[str, Any] = {"capacity_blocks": capacity, "link_bytes_per_second": round(link), "latency": latency}
        found["points"] = {}
        same = True
        speeds = calibrate(whole)
        for length in _LENGTHS:
            point, agreed = _length(both, length, turns)
            same &= agreed
            found["points"][length] = point
            print(length, json.dumps(point), flush=True)
    found["capacity_ratio"] = round(capacity["split"] / capacity["unsplit"], 3)
    found["tokens_equal"] = same
    found["predicted"] = predicted(found["points"], memory, (link, latency), speeds)
    return found


def _length(both: dict[str, InprocessEngine], length: int, turns: int) -> tuple[dict[str, Any], bool]:
    sessions = Sessions(length, seed=length)
    same = True
    first: dict[str, list[float]] = {name: [] for name in both}
    fresh: dict[str, list[float]] = {name: [] for name in both}
    for made in both.values():
        made.engine.reset_prefix_cache()
    for _ in range(8):
        prompt = sessions.fresh()
        got = one_turn(both, prompt)
        same &= got["split"][3] == got["unsplit"][3]
        for name, (to_first, took, _, _) in got.items():
            first[name].append(to_first)
            fresh[name].append(took)
    for session in range(_SESSIONS):
        prompt = sessions.ask(session)
        for made in both.values():
            answer(made, prompt)
    spent = dict.fromkeys(both, 0.0)
    hits = dict.fromkeys(both, 0)
    for _ in range(turns):
        prompt = sessions.ask(sessions.dice.randrange(_SESSIONS))
        got = one_turn(both, prompt)
        same &= got["split"][3] == got["unsplit"][3]
        for name, (_, took, cached, _) in got.items():
            spent[name] += took
            hits[name] += cached
    costs = [split / unsplit for split, unsplit in zip(first["split"], first["unsplit"], strict=True)]
    return {
        "throughput_ratio": round(spent["unsplit"] / spent["split"], 3),
        "ttft_cost_no_hits": round(statistics.median(costs), 3),
        "seconds_a_turn": {name: round(each / turns, 3) for name, each in spent.items()},
        "hit_rate": {name: round(each / turns / length, 3) for name, each in hits.items()},
        "seconds_fresh": {name: round(statistics.median(each), 3) for name, each in fresh.items()},
    }, same


def calibrate(whole: InprocessEngine) -> tuple[float, float, float]:
    """Seconds of a fresh request on the unsplit engine: of each, of each token, of each pair of tokens."""
    sessions = Sessions(_LENGTHS[-1], seed=1)
    rows, times = [], []
    for length in _CALIBRATION:
        took = [answer(whole, sessions.fresh()[:length])[1] for _ in range(5)]
        rows.append([1.0, float(length), length**2 / 2])
        times.append(statistics.median(took))
    # Long and short prompts weigh the same: each line is divided by its time.
    weights = 1 / torch.tensor(times, dtype=torch.float64)
    lines = torch.tensor(rows, dtype=torch.float64) * weights[:, None]
    found = torch.linalg.lstsq(lines, torch.ones_like(weights)[:, None]).solution.flatten()
    print("calibration", dict(zip(_CALIBRATION, (round(each, 3) for each in times), strict=True)), found.tolist())
    each, token, pair = (max(float(value), 0.0) for value in found)
    return each, token, pair


def predicted(
    points: dict[int, Any], memory: int, link: tuple[float, float], speeds: tuple[float, float, float]
) -> dict[str, Any]:
    """The cost model at the measured points; it knows fresh requests of the unsplit engine, and the link."""
    each, token, pair = speeds
    shape = Shape("measured", _LAYERS, PAGE // 32, flops=max(token, 1e-9) * 2, attention_flops=pair * 2)
    # Two ranks on two cores: who moves bytes does not compute meanwhile.
    machine = Machine(ranks=2, memory=memory, flops=1.0, link=link[0], latency=link[1], overlap=0.0)

    def at_length(length: int) -> Prediction:
        return predict(shape, machine, Load(length, 0.9, _SESSIONS, chunk=_CHUNK, per_request=each, block=32))

    curve = [(length, at_length(length).throughput_ratio) for length in range(640, _MODEL_LEN, 32)]
    found: dict[str, Any] = {"curve": [(length, round(ratio, 3)) for length, ratio in curve]}
    for length in points:
        at = at_length(length)
        measured = points[length]["throughput_ratio"]
        found[str(length)] = {
            "throughput_ratio": round(at.throughput_ratio, 3),
            "measured": measured,
            "off_by": round(at.throughput_ratio / measured - 1, 3),
            "hits": [round(at.hits_unsplit, 3), round(at.hits_split, 3)],
            "ttft_cost_no_hits": round(at.ttft_no_hits, 3),
        }
    return found


def _link(rank: int, count: int) -> tuple[float, float]:
    broadcasts = open_groups([range(count)], "gloo", 60.0)
    took = []
    for size in (1 << 20, 64):
        payload = torch.zeros(size, dtype=torch.uint8)
        broadcasts.send(payload, 0).wait()
        started = time.monotonic()
        for _ in range(50):
            broadcasts.send(payload, 0).wait()
        took.append((time.monotonic() - started) / 50)
    return (1 << 20) / max(took[0] - took[1], 1e-9), took[1]


def link_speed() -> tuple[float, float]:
    """What a broadcast moves between two processes here, in bytes a second, and what an empty one takes, in seconds."""
    speeds, latencies = zip(*run_ranks(_link, 2), strict=True)
    return min(speeds), max(latencies)


def main() -> int:
    """Measure; the exit code tells whether all tokens were equal."""
    parser = argparse.ArgumentParser(description="LayerSplit on real vLLM, on the CPU.")
    parser.add_argument("--only", choices=("equal", "four", "push", "speed"))
    parser.add_argument("--decode-ranks", type=int, default=1, help="of push")
    parser.add_argument("--draft", action="store_true", help="of push: both engines have one")
    parser.add_argument("--requests", type=int, default=220)
    parser.add_argument("--turns", type=int, default=240)
    parser.add_argument("--plot", type=Path, help="of speed: write a picture of what was predicted and measured")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    given = parser.parse_args()
    parts = {
        "equal": lambda: equal(given.requests),
        "four": four,
        "push": lambda: push(given.requests, given.decode_ranks, draft=given.draft),
        "speed": lambda: speed(given.turns),
    }
    found = {name: part() for name, part in parts.items() if given.only in (None, name)}
    for name, each in found.items():
        print(name, json.dumps(each), flush=True)
    if given.plot is not None and "speed" in found:
        ratios = {length: each["throughput_ratio"] for length, each in found["speed"]["points"].items()}
        given.plot.write_text(picture(found["speed"]["predicted"]["curve"], ratios), encoding="utf-8")
    same = all(each["tokens_equal"] for each in found.values())
    if given.json:
        points = found.get("speed", {}).get("points", {})
        summary = {
            "ranks": 2,
            "capacity_ratio": found.get("speed", {}).get("capacity_ratio"),
            "tokens_equal": same,
            "throughput_ratio": {length: each["throughput_ratio"] for length, each in points.items()},
            "ttft_cost_no_hits": {length: each["ttft_cost_no_hits"] for length, each in points.items()},
        }
        print(json.dumps(summary))
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
