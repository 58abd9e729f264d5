"""
Cuts recorded streams at every byte, by hand:

    python -m tests.bench.cut_streams FOLDER...

Every `*.sse` below is read whole, byte by byte, and in two pieces for every place at which it can be cut; what is read
must be the same. The last line is one of JSON; the exit code is 0 when all were.

A cut is tried from the event in which it falls to the end of the next one: before and after, the parser is between two
events, as it is without a cut, and that it is so is checked as well.
"""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Iterable
from pathlib import Path

from guard.proto.chunks import decode_chunk, is_done
from guard.proto.sse import SseEvent, SseParser


def cut_everywhere(stream: bytes) -> tuple[int, list[int]]:
    """
    Cut a stream at every place.

    Returns:
        How many places there are, and those at which other events were read.
    """
    whole = SseParser().feed(stream)
    parser = SseParser()
    trickled = [event for at in range(len(stream)) for event in parser.feed(stream[at : at + 1])]
    wrong = [] if trickled == whole else [0]
    before = SseParser()
    start = 0
    for number, event in enumerate(whole):
        following = whole[number : number + 2]
        end = start + sum(len(each.raw) for each in following)
        for place in range(start + 1, start + len(event.raw) + 1):
            cut = copy.deepcopy(before)
            read = [*cut.feed(stream[start:place]), *cut.feed(stream[place:end])]
            if read != following or cut.pending:
                wrong.append(place)
        if before.feed(event.raw) != [event] or before.pending:
            wrong.append(start)
        start += len(event.raw)
    return len(stream) - 1, wrong


def _chunks(events: Iterable[SseEvent]) -> int:
    """How many of them are chunks in OpenAI's form; raises ProtocolError where one is none."""
    data = [event.data for event in events if event.data is not None]
    return len([decode_chunk(each) for each in data if not is_done(each)])


def main(folders: list[str]) -> int:
    """Exit code."""
    streams = places = chunks = 0
    bad: dict[str, list[int]] = {}
    for path in sorted(path for folder in folders for path in Path(folder).rglob("*.sse")):
        stream = path.read_bytes()
        count, wrong = cut_everywhere(stream)
        chunks += _chunks(SseParser().feed(stream))
        streams, places = streams + 1, places + count
        if wrong:
            bad[str(path)] = wrong[:9]
    print(json.dumps({"streams": streams, "places": places, "chunks": chunks, "wrong": bad}))
    return 0 if streams and not bad else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
