"""Every family's stream passes the exchange byte for byte, however it is framed and cut."""

from __future__ import annotations

import itertools
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guard.core.events import SendBody, UpstreamData, UpstreamEnd, UpstreamHead
from guard.core.exchange import Exchange
from guard.core.record import Outcome
from guard.core.settings import ExchangeSettings, Target
from guard.policy.judge import Judge
from guard.policy.schema import HoldBack, Policy
from guard.proto.registry import family_at
from guard.proto.sse import SseParser
from guard.types import ReplicaId, RequestId
from tests.property.core.recorded import STREAMS
from tests.unit.core.transcript import FULL, SSE, WINDOW_8

#: The client asks for the engines' signals itself, so that nothing has to be taken out.
ASKED = {"stream": True, "timings_per_token": True, "return_token_ids": True, "n": 2, "text": ["a", "b"]}
PASSES = Policy(name="passes", rules=())
HOLDS = st.sampled_from([HoldBack(), WINDOW_8, FULL])
COMMENT = re.compile(rb": guard \{[^\n]*\}\n\n")


def passed(name: str, pieces: list[bytes], hold: HoldBack) -> tuple[bytes, Exchange]:
    """What a client gets of these pieces of a backend's answer."""
    engine, path, _ = STREAMS[name]
    family = family_at(path)
    assert family is not None
    policy = Policy(name="passes", rules=(), hold_back=hold)
    given_ = ExchangeSettings(request_id=RequestId("r"), judge=Judge(policy), nonce="r")
    exchange = Exchange(family.parse(path, json.dumps(ASKED).encode()), given_, now=0.0)
    exchange.start()
    exchange.begin(Target(ReplicaId("a"), engine))
    events = [UpstreamHead(1, 200, SSE), *(UpstreamData(1, piece) for piece in pieces), UpstreamEnd(1)]
    commands = [command for event in events for command in exchange.handle(event, 1.0)]
    return b"".join(command.data for command in commands if isinstance(command, SendBody)), exchange


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    marks = sorted({0, len(stream), *(place % (len(stream) + 1) for place in places)})
    return [stream[a:b] for a, b in itertools.pairwise(marks)]


FRAMES = st.sampled_from(["lf", "crlf", "bom", "comments", "ids"])


def framed(stream: bytes, frame: str) -> bytes:
    """The same events, written otherwise."""
    if frame == "crlf":
        return stream.replace(b"\n", b"\r\n")
    if frame == "bom":
        return b"\xef\xbb\xbf" + stream
    if frame == "comments":
        return stream.replace(b"\n\n", b"\n\n: ping\n\n", 3)
    return stream.replace(b"data: ", b"id: 7\nretry: 10\ndata: ") if frame == "ids" else stream


@pytest.mark.parametrize("name", STREAMS)
@settings(max_examples=40)
@given(places=st.lists(st.integers(0, 100_000), max_size=30), hold=HOLDS, frame=FRAMES)
def test_a_healthy_stream_is_byte_equal(name: str, places: list[int], hold: HoldBack, frame: str) -> None:
    stream = framed(STREAMS[name][2], frame)
    sent, exchange = passed(name, cut(stream, places), hold)
    assert COMMENT.sub(b"", sent) == stream
    assert len(COMMENT.findall(sent)) == 1
    assert exchange.done
    assert exchange.record.outcome in (Outcome.HEALTHY, Outcome.NOTED)
    assert exchange.record.tokens_shown > 0


@pytest.mark.parametrize("name", STREAMS)
def test_a_cut_at_every_byte_reads_the_same(name: str) -> None:
    _, path, stream = STREAMS[name]
    family = family_at(path)
    assert family is not None

    def read(*pieces: bytes) -> list[object]:
        reader, parser = family.reader(), SseParser()
        events = [event for piece in pieces for event in parser.feed(piece)]
        return [reader.read(event) for event in events if event.data is not None]

    whole = read(stream)
    assert all(read(stream[:place], stream[place:]) == whole for place in range(1, len(stream)))


@pytest.mark.parametrize("name", STREAMS)
@given(place=st.integers(0, 100_000), hold=HOLDS)
def test_a_stream_that_is_cut_short_never_looks_complete(name: str, place: int, hold: HoldBack) -> None:
    stream = STREAMS[name][2]
    whole = [event.raw for event in SseParser().feed(stream)]
    # Up to any event before the last two, with which some families end.
    short = b"".join(whole[: place % (len(whole) - 2)])
    sent, exchange = passed(name, [short] if short else [], hold)
    if not exchange.done:
        return  # another attempt is under way: nothing was shown
    assert whole[-1] not in sent
    assert exchange.record.outcome is Outcome.UPSTREAM_ERROR
    assert b"upstream_truncated" in sent
