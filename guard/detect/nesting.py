"""
Objects nested in each other without end, in which nothing new is said.

A level deeper the same lines stand again, indented further, so that no passage has a period, and the prompt may well
ask for JSON. What is nested by right has a name, a key or a value of its own on each level, and comes back out of it.
"""

from __future__ import annotations

from typing import Final

#: Levels below which nobody asks whether the lines have stood there before.
_FEWEST: Final = 3
#: Letters a line has at least to count; tags and brackets come back on every level by right.
_LEAST_LETTERS: Final = 8
#: Such lines on each level at least: one alone may be a box in a box.
_PER_LEVEL: Final = 2


def levels(text: str) -> int:
    """
    How many levels the latest lines go deeper and never back, each of them having stood before, less deep.

    Args:
        text: The latest text. Its first and its last line may be cut, and do not count.
    """
    text = text[: text.rfind("\n") + 1].rstrip()
    latest = text[text.rfind("\n") + 1 :]
    if len(latest) - len(latest.lstrip()) < _FEWEST - 1:
        return 0
    lines = text.splitlines()[1:]
    depths: set[int] = set()
    start, depth = len(lines), len(text)
    for place in range(len(lines) - 1, -1, -1):
        line = lines[place]
        found = len(line) - len(line.lstrip())
        if found == len(line):
            found = depth  # a blank line
        if found > depth:
            break
        start, depth = place, found
        depths.add(found)
    if len(depths) < _FEWEST:
        return 0
    #: How deep each line stood at least.
    least: dict[str, int] = {}
    deeper: set[int] = set()
    counted = 0
    for place, line in enumerate(lines):
        said = line.strip()
        depth = line.find(said)
        before = least.get(said, depth)
        least[said] = min(before, depth)
        if place < start or not any(map(str.isalnum, said)):
            continue
        if before >= depth:
            deeper, counted = set(), 0
        elif sum(map(str.isalpha, said)) >= _LEAST_LETTERS:
            deeper.add(depth)
            counted += 1
    return min(len(deeper), counted // _PER_LEVEL)
