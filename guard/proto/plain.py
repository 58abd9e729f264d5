"""
Plain chunks: text of the only choice and one verify step, in the very bytes in which vLLM with the plugin writes them.

All such chunks of a stream are alike but for their text, their token ids and the step's counts. The form is taken from
one that was decoded; later ones that have it are told by their bytes. Whatever differs in one byte has not the form.
"""

from __future__ import annotations

import re
from typing import Final, Self

import msgspec

from guard.types import Channel, Sample
from guard.wire import Plain

#: What stands before the text: the event's and the chunk's own plain fields, one choice, its text.
_PREFIX = re.compile(
    rb'data: \{(?:"[a-z_]++":(?:"[^"\\]*+"|[0-9]++),)*+"choices":\[\{"index":0,'
    rb'"(?:delta":\{"(?:content|(reasoning)(?:_content)?)|text)":"'
)
#: A JSON string up to its closing quote, in well-formed UTF-8. `\u` is left out: halves of a character might be cut.
_TEXT = re.compile(
    rb'(?:[\x20\x21\x23-\x5b\x5d-\x7f]++|\\["\\/bfnrt]|[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]'
    rb"|[\xe1-\xec\xee\xef][\x80-\xbf]{2}|\xed[\x80-\x9f][\x80-\xbf]|\xf0[\x90-\xbf][\x80-\xbf]{2}"
    rb"|[\xf1-\xf3][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2})++"
)
#: What stands between the text and the token ids: nothing but fields that are null, the reason for an end among them.
_MIDDLE = re.compile(rb'"\}?(?:,"[a-z_]++":null)*?,"finish_reason":null(?:,"[a-z_]++":null)*+,"token_ids":\[')
_IDS = re.compile(rb"[0-9]{1,9}(?:,[0-9]{1,9}){0,31}")
_AFTER_IDS = re.compile(
    rb'\]\}\],"metrics":\{"speculative_decoding":'
    rb'\{"per_step_accepted":\[([0-9]{1,3})\],"per_step_drafted":\[([0-9]{1,3})\]\}\}\}\n\n'
)
#: The same as it nearly always is, with the counts in it.
_ENDS: Final = {
    b']}],"metrics":{"speculative_decoding":{"per_step_accepted":[%d],"per_step_drafted":[%d]}}}\n\n'
    % (accepted, drafted): (accepted, drafted)
    for accepted in range(10)
    for drafted in range(10)
}
_END_SIZE: Final = len(next(iter(_ENDS)))
#: Bytes that stand for themselves in a JSON string.
_LITERAL: Final = bytes(byte for byte in range(0x20, 0x7F) if byte not in b'"\\')
#: The most that a step may count.
_BYTE: Final = 255
#: What the client gets instead of token ids and counts.
_CUT: Final = b"null}]}\n\n"

_string: Final = msgspec.json.Decoder(str).decode


class PlainForm:
    """
    The form of one stream's plain chunks.

    Args:
        channel: Of their text.
        prefix: What all have before it.
        middle: What all have between it and their token ids.
    """

    __slots__ = ("_start", "channel", "middle", "prefix")

    def __init__(self, channel: Channel, prefix: bytes, middle: bytes) -> None:
        self.channel = channel
        self.prefix = prefix
        self._start = len(prefix)
        self.middle = middle

    @classmethod
    def of(cls, raw: bytes) -> Self | None:
        """The form of an event's bytes; None if they are not those of a plain chunk."""
        prefix = _PREFIX.match(raw)
        text = _TEXT.match(raw, prefix.end()) if prefix is not None else None
        middle = _MIDDLE.match(raw, text.end()) if text is not None else None
        if prefix is None or middle is None:
            return None
        form = cls(Channel.REASONING if prefix[1] else Channel.CONTENT, prefix[0], middle[0])
        return form if form.read(raw) is not None else None

    def read(self, data: bytes) -> Plain | None:
        """One event's bytes; None if they are not exactly one plain chunk of this form."""
        start, middle = self._start, self.middle
        # A quote within a string has a backslash before it: what stands between the fields cannot stand in the text,
        # and what is found too early leaves an end that is no text.
        end = data.find(middle, start)
        if end <= start or not data.startswith(self.prefix):
            return None
        said = data[start:end]
        if not said.translate(None, _LITERAL):
            text = said.decode()
        elif _TEXT.fullmatch(said) is not None:
            text = _string(b'"%b"' % said)
        else:
            return None
        stop = len(data) - _END_SIZE
        counts = _ENDS.get(data[stop:])
        if counts is None:
            found = _AFTER_IDS.search(data, end + len(middle))
            if found is None or found.end() != len(data):
                return None
            stop, counts = found.start(), (int(found[1]), int(found[2]))
            if max(counts) > _BYTE:
                return None
        ids = data[end + len(middle) : stop]
        if _IDS.fullmatch(ids) is None:
            return None
        return Plain(data, end, text, ids.count(b",") + 1, counts[0], counts[1])

    def cut(self, plain: Plain) -> bytes:
        """What the client gets of one: without token ids and counts."""
        return plain.data[: plain.end + len(self.middle) - 1] + _CUT

    def sample(self, text: str) -> Sample:
        """What the chunks of a run say together, but for their steps and tokens."""
        return Sample(0, ((self.channel, text),), 0)


class Run:
    """Plain chunks of one form in a row: what they say together, and the last of them."""

    __slots__ = ("_taken", "_texts", "counts", "last", "tokens")

    def __init__(self) -> None:
        self._texts: list[str] = []
        #: Tokens that each chunk's step accepted and drafted, and those of the chunk, one byte each.
        self.counts = b""
        #: How many of these bytes were taken.
        self._taken = 0
        #: Unit: tokens.
        self.tokens = 0
        #: None while there is none.
        self.last: Plain | None = None

    @property
    def text(self) -> str:
        """Of all."""
        texts = self._texts
        return texts[0] if len(texts) == 1 else "".join(texts)

    @property
    def unjudged(self) -> int:
        """Tokens of the chunks whose steps were not taken. Unit: tokens."""
        return sum(self.counts[self._taken + 2 :: 3]) if self._taken else self.tokens

    @property
    def steps(self) -> int:
        """Steps that were not taken."""
        return (len(self.counts) - self._taken) // 3

    def take(self) -> bytes:
        """Counts of the steps that were not taken, which now are."""
        counts, taken = self.counts, self._taken
        self._taken = len(counts)
        return counts[taken:] if taken else counts

    def add(self, plain: Plain) -> None:
        """One chunk more."""
        self._texts.append(plain.text)
        self.counts += bytes((plain.accepted, plain.drafted, plain.tokens))
        self.tokens += plain.tokens
        self.last = plain

    def add_all(self, counts: bytes, text: str, last: Plain) -> None:
        """
        Several more.

        Args:
            counts: As of `counts`.
            text: Of all.
            last: The last one; its text is not read.
        """
        self.counts = self.counts + counts if self.counts else counts
        self._texts.append(text)
        self.tokens += sum(counts[2::3])
        self.last = last
