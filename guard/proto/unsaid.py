"""
What llama.cpp's streams leave out at the end of an answer, and its whole answers have.

A stream tells no token after which the text ends inside a character, and keeps back the text of one that may begin a
stop word, or that is white space in a chat. Where the token limit ends the answer there, it never comes.

Source:
    llama.cpp tools/server/server-context.cpp (`process_token`).
"""

from __future__ import annotations

#: Why an answer put together may differ from the backend's own.
CUT_CHARACTER = "the token limit cut a character"
KEPT_BACK = "the token limit cut what may have begun a stop word"
#: What a whole answer has where it ends inside a character.
HALF = "\ufffd"


class Unsaid:
    """
    Which choices of llama.cpp's end inside a character.

    It sends nothing for a token after which the text ends inside a character, so that the count of an answer's end
    is higher than that of the last token told.
    """

    def __init__(self) -> None:
        self._told: dict[int, int] = {}
        self._all: dict[int, int] = {}
        self._text: dict[int, int] = {}
        self._void = False

    def void(self) -> None:
        """A text came without its count: nothing is known."""
        self._void = True

    def count(self, choice: int, predicted: object, *, last: bool, text: bool = True) -> None:
        """Take `predicted_n` of one chunk; `last` for what closes a choice, `text` where it has some. Unit: tokens."""
        if isinstance(predicted, int):
            (self._all if last else self._told)[choice] = predicted
            if text:
                self._text[choice] = predicted

    def of(self, choice: int, limit: int | None = None) -> bool:
        """Whether this choice does; with a limit, only if that many tokens came."""
        count = self._all.get(choice, 0)
        return not self._void and count > self._told.get(choice, 0) and (limit is None or count >= limit)

    def kept_back(self, choice: int, limit: int = 0) -> bool:
        """
        Whether the last token told came without text: it may begin a stop word, and nothing came after it.

        Args:
            choice: Whose.
            limit: Only if so many tokens came. Unit: tokens.
        """
        told = self._told.get(choice, 0)
        return not self._void and told > self._text.get(choice, 0) and self._all.get(choice, 0) >= limit
