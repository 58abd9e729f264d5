from collections.abc import Callable
from typing import final

from guard.server.lane import Served

@final
class Lane:
    open: bool
    @property
    def due(self) -> bool: ...
    @property
    def since(self) -> float: ...
    def __init__(
        self,
        transport: object,
        protocol: object,
        pulse: object,
        feed: object,
        clock: Callable[[], float],
        socket: int,
        /,
    ) -> None: ...
    def arm(
        self,
        prefix: bytes,
        middle: bytes,
        slack: float,
        share: float,
        room: int,
        unjudged: int,
        most: int,
        most_bytes: int,
        /,
    ) -> None: ...
    def feed(self, data: bytes, /) -> None: ...
    def serve(self, reply: Served | None, /) -> None: ...
    def take(self, data: bytes, /) -> int: ...
    def drain(self) -> tuple[bytes, int, str, bytes, float, float, float, bool, float, int] | None: ...
