"""
Ids under which the engine knows an attempt: SGLang's `rid`.

SGLang refuses a request whose id is that of one it still runs (400; releases before February 2026 could crash), and it
can run on with one that was given up. So where the client has chosen the id, each attempt after the first has a mark
of its own behind it, and the mark is taken out of all that comes back: the client meets its own id alone. Without the
client's, the guard gives an id of its own. vLLM makes every id unique itself.

Source:
    SGLang 0.5.23 python/sglang/srt/managers/tokenizer_manager.py (`_init_req_state`, `abort_request`),
    python/sglang/srt/managers/io_struct.py (`GenerateReqInput`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from guard.proto.client import ClientRequest
from guard.proto.sse import SseEvent


class EngineId(NamedTuple):
    """
    The id of one attempt.

    Args:
        sent: What stands in the request; None: as the client wrote it.
        abort: By which the engine's abort route is told; empty where it is not.
        mark: To be taken out of the answer; empty where there is none.
    """

    sent: str | list[str] | None = None
    abort: str = ""
    mark: bytes = b""


#: The engine is given none.
NO_ID: Final = EngineId()


def engine_id(request: ClientRequest, engine: str, nonce: str, number: int) -> EngineId:
    """
    The id of attempt `number`.

    SGLang aborts by prefix, hence the fixed length of the guard's own with the number in front. A first attempt under
    the client's id is not aborted by it: it may be the beginning of others. Releases from August 2026 can leave a
    disconnected stream running, so the closed connection alone is not enough there.

    Args:
        request: The client's.
        engine: Engine name.
        nonce: Unique to the exchange, in letters and digits.
        number: 1 for the first.
    """
    field = request.family.rid_field(request)
    if engine != "sglang" or not field:
        return NO_ID
    if field not in request.body:
        own = f"{number:02d}{nonce}" if request.n == 1 else ""
        return EngineId(own or None, own)
    given = request.body[field]
    mark = f"-{number:02d}{nonce}"
    if number == 1:
        return NO_ID
    if isinstance(given, str):
        marked = given + mark
        return EngineId(marked, marked if request.n == 1 else "", mark.encode())
    if isinstance(given, list) and all(isinstance(one, str) for one in given):
        return EngineId([one + mark for one in given], "", mark.encode())
    return NO_ID


def given_ids(request: ClientRequest) -> list[str]:
    """The ids that the client itself has given, if any."""
    field = request.family.rid_field(request)
    given = request.body.get(field, []) if field else []
    ids = given if isinstance(given, list) else [given]
    return ids if all(isinstance(one, str) for one in ids) else []


def unmarked(events: Sequence[SseEvent], mark: bytes) -> list[SseEvent]:
    """Events without the mark of a retry's id."""
    return [
        msgspec.structs.replace(
            event,
            raw=event.raw.replace(mark, b""),
            data=event.data.replace(mark, b"") if event.data is not None else None,
        )
        if mark in event.raw
        else event
        for event in events
    ]
