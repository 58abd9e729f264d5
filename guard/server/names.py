"""Names that nobody can guess, for requests and for what is asked of backends in their name."""

from __future__ import annotations

import os
from typing import Final

#: Of one name: as many as a UUID has. Unit: bytes.
LENGTH: Final = 16
#: Taken from the system at a time: a call for each name would be most of what a name costs. Unit: bytes.
POOL: Final = 256 * LENGTH


class Names:
    """Makes names; none comes twice."""

    def __init__(self) -> None:
        self._pool = b""
        self._used = 0

    def new(self) -> str:
        """Another name: 32 hexadecimal digits, random bits from the system."""
        begin = self._used
        if begin >= len(self._pool):
            self._pool, begin = os.urandom(POOL), 0
        self._used = begin + LENGTH
        return self._pool[begin : begin + LENGTH].hex()

    def forget(self) -> None:
        """Leave the names that are known already to the process that this one was forked from."""
        self._pool, self._used = b"", 0


_OWN: Final = Names()
os.register_at_fork(after_in_child=_OWN.forget)
#: Of this process; see Names.new.
new_name: Final = _OWN.new
