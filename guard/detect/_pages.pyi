from collections.abc import Callable

def scan(text: str, last: str, /) -> tuple[list[str], str, str, bool]: ...
def say(
    table: bytearray,
    places: dict[str, int],
    remember: Callable[[str], int],
    spoken: list[str],
    first: int,
    second: int,
    /,
) -> tuple[int, int, int, int]: ...
