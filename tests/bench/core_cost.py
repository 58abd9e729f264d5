"""
What the guard computes for a chunk, without any network: CPU by part, on recorded streams.

Run: `python -m tests.bench.core_cost [--streams N] [--chunks N] [--policy NAME] [--json]`. As many streams as told
take turns, chunk by chunk, so that nothing of a stream is still in the processor's cache when its turn comes again.
Each part is run alone on what the part before it made; "rest" is what the exchange adds around them. Figures are
the least of several repeats, piece by piece, in microseconds of CPU of this process for one chunk.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from collections.abc import Callable, Sequence
from itertools import chain, zip_longest
from typing import Any, TypeVar

from guard.core.events import UpstreamData, UpstreamHead
from guard.core.exchange import Exchange
from guard.core.monitor import Monitor
from guard.core.settings import ExchangeSettings, Target
from guard.detect.bank import DetectorBank
from guard.detect.baseline import Baseline
from guard.policy.judge import Judge
from guard.proto.chunks import Route, sample_texts
from guard.proto.openai import CHAT, parse_request
from guard.proto.sse import SseEvent, SseParser
from guard.shipped import find_policy
from guard.signals.registry import adapter_for
from guard.types import ReplicaId, RequestId, Sample
from guard.wire import Chunk
from tests.bench.proxy_backend import OPENING_WATCHED, chunk
from tests.bench.proxy_script import DRAFTED, pieces

REPEATS = 12
#: Items measured at a time.
PIECE = 200
T = TypeVar("T")
BODY = {"model": "bench", "stream": True, "messages": [{"role": "user", "content": "Tell me about it. bench:1:100:0"}]}
BASELINE = Baseline(0.55, 10_000.0, DRAFTED)
HEAD = UpstreamHead(1, 200, (("content-type", "text/event-stream; charset=utf-8"),))


def unframed(data: bytes) -> bytes:
    """The bytes inside one HTTP chunk."""
    return data.partition(b"\r\n")[2][:-2]


def turns(streams: Sequence[Sequence[Any]]) -> list[tuple[int, Any]]:
    """All that the streams have, one of each at a time, with the number of the stream."""
    rows = zip_longest(*streams)
    return [(number, item) for number, item in chain.from_iterable(map(enumerate, rows)) if item is not None]


def least(make: Callable[[], Callable[[int, Any], object]], work: Sequence[tuple[int, Any]]) -> float:
    """
    Microseconds of CPU for one of the items, each piece of the work at its quickest.

    Other programs on the machine slow down some pieces of each repeat, hardly ever the same one in all.

    Args:
        make: Makes what takes an item, with the number of its stream; not counted.
        work: The items.
    """
    pieces = [work[start : start + PIECE] for start in range(0, len(work), PIECE)]
    best = [float("inf")] * len(pieces)
    for _ in range(REPEATS):
        run = make()
        gc.collect()
        gc.freeze()  # as a server does, or what this program keeps would be looked through as well
        for place, piece in enumerate(pieces):
            begun = time.process_time()
            for number, item in piece:
                run(number, item)
            best[place] = min(best[place], time.process_time() - begun)
        gc.unfreeze()
    return sum(best) / len(work) * 1e6


class Replay:
    """
    The same streams for every part.

    Args:
        policy: By which they are judged.
        streams: How many.
        chunks: In each.
    """

    def __init__(self, policy: str, streams: int, chunks: int) -> None:
        self.judge = Judge(find_policy(policy))
        self.streams = streams
        self.request = parse_request(Route.CHAT, json.dumps(BODY).encode())
        said = [[unframed(chunk(piece, watched=True)) for piece in pieces(number, chunks)] for number in range(streams)]
        self.opening = unframed(OPENING_WATCHED)
        self.bytes: list[tuple[int, bytes]] = turns(said)
        self.chunks = len(self.bytes)
        self.tokens = sum(piece.tokens for number in range(streams) for piece in pieces(number, chunks))
        self.events: list[tuple[int, SseEvent]] = [(number, SseParser().feed(data)[0]) for number, data in self.bytes]
        reader = CHAT.reader()
        self.decoded: list[tuple[int, Chunk]] = [(number, reader.read(event)) for number, event in self.events]
        adapters = [adapter_for("vllm", DRAFTED) for _ in range(streams)]
        self.samples: list[tuple[int, list[Sample]]] = [
            (number, adapters[number].observe(one, sample_texts)) for number, one in self.decoded
        ]

    def sse(self) -> float:
        """Bytes to events."""
        return least(lambda: self._each(SseParser, SseParser.feed), self.bytes)

    def decode(self) -> float:
        """Events to chunks."""
        return least(lambda: self._each(CHAT.reader, type(CHAT.reader()).read), self.events)

    def signals(self) -> float:
        """Chunks to samples."""

        def make() -> Callable[[int, Chunk], object]:
            adapters = [adapter_for("vllm", DRAFTED) for _ in range(self.streams)]
            return lambda number, one: adapters[number].observe(one, sample_texts)

        return least(make, self.decoded)

    def detect(self) -> float:
        """Samples into the detectors."""

        def make() -> Callable[[int, list[Sample]], object]:
            banks = [DetectorBank(self.judge.refs, BASELINE, "Tell me about it.") for _ in range(self.streams)]
            return lambda number, samples: banks[number].observe(samples[0])

        return least(make, self.samples)

    def monitor(self) -> float:
        """Detectors and the policy's decision."""
        return least(
            lambda: self._each(lambda: Monitor(self.judge, BASELINE, "Tell me about it."), Monitor.observe),
            self.samples,
        )

    def rewrite(self) -> float:
        """Chunks to the client's bytes."""
        work = [(number, (event, one)) for (number, event), (_, one) in zip(self.events, self.decoded, strict=True)]

        def make() -> Callable[[int, tuple[SseEvent, Chunk]], object]:
            rewriters = [
                CHAT.rewriter(self.request, engine="vllm", annotate=False, continuation=None)
                for _ in range(self.streams)
            ]
            return lambda number, both: rewriters[number].apply(*both)

        return least(make, work)

    def whole(self) -> float:
        """All of it, through the state machine."""

        def make() -> Callable[[int, bytes], object]:
            exchanges = [self._exchange(number) for number in range(self.streams)]
            return lambda number, data: exchanges[number].handle(UpstreamData(1, data), 1.0)

        return least(make, self.bytes)

    def nothing(self) -> float:
        """What the measurement itself takes."""
        return least(lambda: self._each(object, lambda one, item: None), self.bytes)

    def _each(self, make: Callable[[], T], take: Callable[[T, Any], object]) -> Callable[[int, Any], object]:
        made = [make() for _ in range(self.streams)]
        return lambda number, item: take(made[number], item)

    def _exchange(self, number: int) -> Exchange:
        settings = ExchangeSettings(RequestId(f"r{number}"), self.judge, f"n{number}")
        exchange = Exchange(self.request, settings, 0.0)
        exchange.start()
        exchange.begin(Target(ReplicaId("bench"), "vllm", DRAFTED, BASELINE))
        exchange.handle(HEAD, 0.1)
        exchange.handle(UpstreamData(1, self.opening), 0.2)
        return exchange

    def figures(self) -> dict[str, float]:
        """Microseconds of CPU for one chunk, by part."""
        nothing = self.nothing()
        found = {name: getattr(self, name)() - nothing for name in ("sse", "decode", "signals", "detect", "rewrite")}
        found["judge"] = self.monitor() - nothing - found["detect"]
        whole = self.whole() - nothing
        found["rest"] = whole - sum(found.values())
        found["whole"] = whole
        return {name: round(value, 2) for name, value in found.items()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--policy", default="default")
    parser.add_argument("--streams", type=int, default=100)
    parser.add_argument("--chunks", type=int, default=100)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    replay = Replay(asked.policy, asked.streams, asked.chunks)
    found = replay.figures()
    if asked.json:
        print(json.dumps(found))
        return
    print(f"policy {asked.policy}, {asked.streams} streams, {replay.tokens / replay.chunks:.2f} tokens a chunk")
    print("microseconds of CPU per chunk")
    for name, value in found.items():
        print(f"{name:<8} {value:>7.2f}")


if __name__ == "__main__":
    main()
