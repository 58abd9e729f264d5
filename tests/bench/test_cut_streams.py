"""The command that cuts recorded streams: it counts every place, and tells one that reads otherwise."""

from __future__ import annotations

import pytest

from guard.proto.sse import SseEvent, SseParser
from tests.bench.cut_streams import cut_everywhere
from tests.property.core.recorded import STREAMS


@pytest.mark.parametrize("name", ["vllm_chat", "llama_messages", "sglang_two"])
def test_every_place_is_cut_and_reads_the_same(name: str) -> None:
    stream = STREAMS[name][2]
    assert cut_everywhere(stream) == (len(stream) - 1, [])


def test_a_parser_that_minds_a_cut_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    feed = SseParser.feed

    def forgetful(self: SseParser, data: bytes) -> list[SseEvent]:
        return feed(self, data[1:] if data.startswith(b"\n") and self.pending else data)

    monkeypatch.setattr(SseParser, "feed", forgetful)
    assert cut_everywhere(STREAMS["vllm_chat"][2])[1]
