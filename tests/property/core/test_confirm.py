"""However the bytes are cut, and wherever the doubt falls, a confirmation loses and repeats nothing."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from guard.core.events import Confirm, Confirmed, UpstreamData, UpstreamEnd
from guard.rescore.compare import CacheVerdict, Rescored
from tests.unit.core.test_confirm import OPENING, Scored, confirming, told
from tests.unit.core.transcript import BAD, DONE

WORDS = st.lists(st.sampled_from(["one ", "zwei é ", BAD, "🙂 "]), min_size=1, max_size=8)


def play(client: Scored, attempt: int, data: bytes, cuts: list[int], verdict: CacheVerdict) -> None:
    """Feed one attempt, answering each confirmation at once, until it ends or another begins."""
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    events = [UpstreamData(attempt, data[a:b]) for a, b in itertools.pairwise(places) if a < b]
    for event in [*events, UpstreamEnd(attempt)]:
        if client.attempt != attempt or client.finished:
            return
        commands = client.give(event)
        if commands and isinstance(commands[-1], Confirm):
            client.give(Confirmed(attempt, Rescored(verdict, "")))


@given(words=WORDS, cuts=st.lists(st.integers(0, 2_000), max_size=6))
def test_a_right_cache_delivers_every_word_once(words: list[str], cuts: list[int]) -> None:
    client = Scored(confirming())
    client.head()
    data = OPENING + b"".join(told(word) for word in words[:-1]) + told(words[-1], finish="stop") + DONE
    play(client, 1, data, cuts, CacheVerdict.RIGHT)
    assert client.text == "".join(words)
    assert client.finished == [True]
    assert client.aborted == []
    assert len(client.asked) == (1 if BAD in words else 0)


@given(words=WORDS, cuts=st.lists(st.integers(0, 2_000), max_size=6), wrong=st.booleans())
def test_any_other_verdict_retries_and_shows_nothing_bad(words: list[str], cuts: list[int], wrong: bool) -> None:
    client = Scored(confirming())
    client.head()
    data = OPENING + b"".join(told(word) for word in words[:-1]) + told(words[-1], finish="stop") + DONE
    play(client, 1, data, cuts, CacheVerdict.WRONG if wrong else CacheVerdict.UNDECIDED)
    assert BAD not in client.text
    shown = "".join(words[: words.index(BAD)]) if BAD in words else "".join(words)
    released = client.text
    assert shown.startswith(released)
    if BAD not in words:
        assert (released, client.finished) == (shown, [True])
        return
    assert client.attempt == 2
    client.head()
    play(client, 2, OPENING + told("healed", finish="stop") + DONE, [], CacheVerdict.UNDECIDED)
    assert client.text == f"{released}healed"
    assert client.finished == [True]
