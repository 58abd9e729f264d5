"""What llama.cpp's chunks have beside a stop word without the guard is told by the chunk that follows."""

from __future__ import annotations

import json
from typing import Any

import pytest

from guard.errors import ProtocolError
from guard.proto.ahead import MAX_WAITING, Ahead, stops_show
from guard.proto.client import ClientRequest
from guard.proto.family import Family
from guard.proto.llama import COMPLETION
from guard.proto.openai import CHAT, COMPLETIONS
from guard.proto.responses import RESPONSES
from guard.proto.sse import SseEvent, SseParser

DONE = b"data: [DONE]\n\n"


def asked(family: Family, **fields: Any) -> ClientRequest:
    body = {"stream": True, "stop": ["reen"], **fields}
    return family.parse(family.paths[0], json.dumps(body).encode())


def line(fields: object) -> bytes:
    return b"data: " + json.dumps(fields, separators=(",", ":")).encode() + b"\n\n"


def text(said: str, predicted: int | None, *, index: int = 0, finish: str | None = None, **more: Any) -> bytes:
    """A chunk on `/v1/completions`."""
    choice = {"text": said, "index": index, "logprobs": None, "finish_reason": finish}
    return line({"choices": [choice], "id": "c", **more, **_timed(predicted)})


def delta(predicted: int | None, *, finish: str | None = None, **said: Any) -> bytes:
    return line({"choices": [{"finish_reason": finish, "index": 0, "delta": said}], "id": "c", **_timed(predicted)})


def native(said: str, predicted: int, **more: Any) -> bytes:
    """A chunk on `/completion`."""
    return line({"index": 0, "content": said, "stop": bool(more), "tokens_predicted": 1, **more, **_timed(predicted)})


def _timed(predicted: int | None) -> dict[str, Any]:
    return {} if predicted is None else {"timings": {"predicted_n": predicted, "draft_n": 0, "draft_n_accepted": 0}}


def told(stop_type: str) -> dict[str, Any]:
    return {"__verbose": {"stop_type": stop_type, "prompt": 'he said "stop_type":"word"'}}


def came(family: Family, *pieces: bytes, **fields: Any) -> list[bytes]:
    """What a client is sent after each piece, and at the end."""
    request = asked(family, **fields)
    ahead = Ahead(family.reader(), request)
    rewriter = family.rewriter(request, engine="llama.cpp", annotate=False, continuation=None)
    rewriter.look_ahead(ahead)

    def apply(event: SseEvent) -> bytes:
        return event.raw if event.data is None else rewriter.apply(event, ahead.read(event))

    out = [b"".join(map(apply, ahead.feed(SseParser().feed(piece)))) for piece in pieces]
    return [*out, b"".join(map(apply, ahead.rest()))]


def stock(chunk: bytes) -> bytes:
    """The same without timings and what `verbose` adds."""
    fields = json.loads(chunk[6:])
    return line({name: value for name, value in fields.items() if name not in ("timings", "__verbose")})


def quiet(chunk: bytes) -> bytes:
    """The same without what `verbose` adds."""
    return line({name: value for name, value in json.loads(chunk[6:]).items() if name != "__verbose"})


def test_the_chunk_at_a_stop_word_keeps_its_timings_and_no_other_does() -> None:
    chunks = [text(" blue", 2), text(" and", 3), text(" g", 4)]
    end = text("", 4, finish="stop", **told("word"))
    assert came(COMPLETIONS, *chunks, end, DONE) == [
        b"",
        stock(chunks[0]),
        stock(chunks[1]),
        chunks[2] + quiet(end),
        DONE,
        b"",
    ]


@pytest.mark.parametrize(("why", "finish"), [("eos", "stop"), ("limit", "length")])
@pytest.mark.parametrize("said", ["", " gr"])
def test_where_anything_else_ended_it_none_does(why: str, finish: str, said: str) -> None:
    """Text that might have become a stop word comes with the token that shows that it does not."""
    end = text("", 5, finish=finish, **told(why))
    assert came(COMPLETIONS, text(said, 5), end)[1] == stock(text(said, 5)) + quiet(end)


def test_text_of_an_earlier_token_than_the_stop_word_has_none() -> None:
    """A chat's token without text has no chunk."""
    end = delta(6, finish="stop")
    assert came(CHAT, delta(5, content="and"), end)[1] == stock(delta(5, content="and")) + end


def test_releases_that_tell_nothing_are_taken_to_have_met_a_stop_word() -> None:
    end = delta(6, finish="stop")
    assert came(CHAT, delta(6, content=" g"), end)[1] == delta(6, content=" g") + end
    end = delta(6, finish="length")
    assert came(CHAT, delta(6, content=" g"), end)[1] == stock(delta(6, content=" g")) + end


@pytest.mark.parametrize(("why", "stays"), [("word", True), ("eos", False), ("limit", False)])
def test_the_engines_own_route_tells_by_itself(why: str, stays: bool) -> None:
    end = native("", 4, stop_type=why)
    last = native(" g", 4)
    assert came(COMPLETION, last, end)[1] == (last if stays else stock(last)) + end


def test_the_opening_of_a_chat_goes_at_once_and_so_does_what_only_the_end_left_over() -> None:
    role, call = delta(None, role="assistant", content=None), delta(None, content="!")
    end = delta(4, finish="stop")
    assert came(CHAT, role, delta(4, content=" g"), call, end) == [
        role,
        b"",
        b"",
        delta(4, content=" g") + call + end,
        b"",
    ]


def test_each_choice_waits_for_its_own_next_chunk() -> None:
    ends = [text("", 2, index=at, finish="stop", **told(why)) for at, why in enumerate(("word", "eos"))]
    first, second = text("a", 2, index=0), text("b", 2, index=1)
    assert came(COMPLETIONS, first, second, ends[1], ends[0]) == [
        b"",
        b"",
        b"",
        first + stock(second) + quiet(ends[1]) + quiet(ends[0]),
        b"",
    ]


def test_comments_keep_their_place_and_nothing_is_lost_at_an_end_without_a_closing_chunk() -> None:
    assert came(CHAT, delta(2, content="a"), b": ping\n\n", delta(3, content="b")) == [
        b"",
        b"",
        stock(delta(2, content="a")) + b": ping\n\n",
        stock(delta(3, content="b")),
    ]
    assert came(CHAT, delta(2, content="a"), DONE)[1] == stock(delta(2, content="a")) + DONE
    failed = line({"error": {"message": "no"}})
    assert came(CHAT, delta(2, content="a"), failed)[1] == stock(delta(2, content="a")) + failed


def test_an_event_that_cannot_be_read_is_told_when_its_turn_comes() -> None:
    ahead = Ahead(CHAT.reader(), asked(CHAT))
    first, bad = ahead.feed(SseParser().feed(delta(2, content="a") + b"data: nope\n\n"))
    assert ahead.read(first).choices[0].delta is not None
    with pytest.raises(ProtocolError):
        ahead.read(bad)


def test_of_a_choice_that_never_goes_on_no_more_than_some_wait() -> None:
    ahead = Ahead(COMPLETIONS.reader(), asked(COMPLETIONS, n=2))
    silent = SseParser().feed(text("a", 1, index=0))
    going = [SseParser().feed(text("b", at, index=1)) for at in range(MAX_WAITING + 5)]
    assert ahead.feed(silent) == []
    for events in going[: MAX_WAITING - 1]:
        assert ahead.feed(events) == []
    assert len(ahead.feed(going[MAX_WAITING - 1])) == MAX_WAITING  # the last of the other choice waits on


@pytest.mark.parametrize(
    ("family", "engine", "fields", "told"),
    [
        (CHAT, "llama.cpp", {}, "verbose"),
        (COMPLETIONS, "llama.cpp", {}, "verbose"),
        (COMPLETION, "llama.cpp", {}, "itself"),
        (RESPONSES, "llama.cpp", {}, "never"),
        (CHAT, "vllm", {}, None),
        (CHAT, "llama.cpp", {"stop": []}, None),
        (CHAT, "llama.cpp", {"stream": False}, None),
        (CHAT, "llama.cpp", {"timings_per_token": True}, None),
    ],
)
def test_only_where_it_shows(family: Family, engine: str, fields: dict[str, Any], told: str | None) -> None:
    assert stops_show(asked(family, **fields), engine) == told


def test_of_what_a_client_asked_to_be_told_only_the_guards_switch_goes() -> None:
    inner = {"index": 0, "timings": {"predicted_n": 2}, "generation_settings": {"timings_per_token": True, "stop": []}}
    chunk = text("a", 2, __verbose=inner)
    end = text("", 3, finish="stop", __verbose={**inner, "stop_type": "eos"})
    first, last = came(COMPLETIONS, chunk, end, verbose=True)[1].split(b"\n\n")[:2]
    settings = {"timings_per_token": False, "stop": []}
    assert json.loads(first[6:])["__verbose"] == {"index": 0, "generation_settings": settings}
    assert "timings" not in json.loads(first[6:])
    assert json.loads(last[6:])["__verbose"] == {**inner, "generation_settings": settings, "stop_type": "eos"}
