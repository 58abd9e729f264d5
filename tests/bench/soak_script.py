"""
What the replicas of the soak say: recorded healthy answers, and for each the recorded garbage that it can turn into.

A request names its case in the prompt, `soak:NUMBER:PACE:PADDING`, with milliseconds between two chunks and bytes that
are added to each; replicas and clients both know the cases, so that a client can tell a right answer from a wrong one
without being told. Only garbage is used that the
policy finds right there when nothing else goes wrong: what is soaked is the guard, not the recall of its rules.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

from guard.lab.cases import Case, CaseChunk, read_cases, run_case
from guard.policy.judge import Judge
from guard.shipped import find_policy

TRACES = Path(__file__).resolve().parent.parent / "data" / "traces"
MARK = re.compile(rb"soak:(\d+):(\d+):(\d+)")
MODEL = "soak"
DRAFTED = 3
#: Healthy chunks before garbage can begin, and chunks of an answer.
CUT, CHUNKS = 70, 150
#: Chunks of garbage that a replica says at most; an answer that is still taken for good then was missed.
GARBAGE = 120
#: Cases that are looked for.
CASES = 12
#: Pieces of garbage that one answer may have in it, one for each attempt but the last.
MOST_BAD = 3


class Story(NamedTuple):
    """
    One case.

    Args:
        answer: What a healthy replica says.
        garbage: What a sick one says from chunk CUT on.
    """

    answer: tuple[CaseChunk, ...]
    garbage: tuple[CaseChunk, ...]

    @property
    def text(self) -> str:
        return "".join(one.text for one in self.answer)

    @property
    def bad_text(self) -> str:
        return "".join(one.text for one in self.garbage)


@cache
def stories() -> tuple[Story, ...]:
    """The cases; the same in every process of this checkout."""
    judge = Judge(find_policy("default"))
    recorded = [case for name in ("tuning", "unseen") for case in read_cases(TRACES / f"{name}.jsonl.gz")]
    prose = [c for c in recorded if c.kind == "healthy" and c.subkind == "prose" and not c.hard_negative]
    prose = [c for c in prose if c.num_speculative_tokens == DRAFTED]
    bad = [c for c in recorded if c.kind == "garbled" and c.num_speculative_tokens == DRAFTED]
    found: list[Story] = []
    for number in range(len(prose) * len(bad)):
        story = Story(_answer(prose, number), _garbage(bad[number % len(bad)]))
        if len(story.garbage) > 40 and not _acted(judge, story.answer) and _acted(judge, spoilt(story)):
            found.append(story)
        if len(found) == CASES:
            break
    return tuple(found)


def _answer(prose: list[Case], number: int) -> tuple[CaseChunk, ...]:
    """Recorded prose, one recording after another until it is long enough."""
    told = [one for place in range(len(prose)) for one in prose[(number + place) % len(prose)].chunks if one.text]
    return tuple(told[:CHUNKS])


def _garbage(case: Case) -> tuple[CaseChunk, ...]:
    tokens, out = 0, []
    for one in case.chunks:
        if tokens >= (case.first_bad_token or 0) and one.text:
            out.append(one)
        tokens += one.tokens
    return tuple(out[:GARBAGE])


def spoilt(story: Story) -> tuple[CaseChunk, ...]:
    """The answer of a replica that turns bad."""
    return story.answer[:CUT] + story.garbage


def _acted(judge: Judge, chunks: tuple[CaseChunk, ...]) -> bool:
    case = Case(id="soak", kind="healthy", num_speculative_tokens=DRAFTED, chunks=chunks)  # type: ignore[arg-type]
    return run_case(judge, case).acted


def position(text: str, truth: str, garbage: str, left: int = MOST_BAD) -> int | None:
    """
    How far an answer has got, beginnings of the garbage inside it passed over.

    Returns:
        Characters of the right answer that were said; None if the text is neither.
    """
    same = common(text, truth)
    if same == len(text):
        return same
    if not left:
        return None
    for begin in range(same, max(same - 40, -1), -1):
        most = common(text[begin:], garbage)
        if begin + most == len(text):
            return begin
        for length in range(most, max(same - begin, most - 40), -1):
            place = position(text[begin + length :], truth[begin:], garbage, left - 1)
            if place is not None:
                return begin + place
    return None


def common(one: str, other: str) -> int:
    """Length of the beginning that two texts share."""
    for place, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return place
    return min(len(one), len(other))


def remaining(chunks: tuple[CaseChunk, ...], said: int) -> list[CaseChunk]:
    """The chunks of an answer after so many of its characters."""
    out = []
    for one in chunks:
        if said >= len(one.text):
            said -= len(one.text)
            continue
        out.append(one._replace(text=one.text[said:]))
        said = 0
    return out
