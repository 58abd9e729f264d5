from collections.abc import Callable

def scan(text: str, last: str, /) -> tuple[list[str], str, str, bool]: ...
def say(
    table: bytearray,
    places: dict[str, int],
    remember: Callable[[str], int],
    tokens: list[str],
    clause: list[str],
    first: int,
    second: int,
    number: int,
    run: int,
    said: int,
    clause_words: int,
    clause_familiar: int,
    /,
) -> tuple[int, int, int, int, int, int, int, int, int, int]: ...
def joints(shape: bytes, /) -> int: ...
def longest(shape: bytes, /) -> int: ...
def recur(pages: list[list[str]], /) -> tuple[int, int]: ...
def clash(pages: list[list[str]], parts: dict[str, str], clashes: frozenset[tuple[str, str]], /) -> tuple[int, int]: ...
