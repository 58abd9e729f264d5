"""
How an answer reaches the client: as a stream, or put together into one body.

Both promise the same: the head is sent once; after a failure nothing looks complete.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from guard.core.events import Command, Headers, SendBody, SendHead
from guard.core.failure import Failure
from guard.core.holdback import Held
from guard.core.record import ExchangeRecord
from guard.errors import ProtocolError
from guard.proto.client import ClientRequest
from guard.proto.family import Family, Notice
from guard.proto.plain import PlainForm
from guard.proto.reply import guard_comment
from guard.proto.sse import SseParser
from guard.wire import Plain

#: Never forwarded: they describe the upstream's own body or connection.
_OWN_HEADERS = frozenset({"content-type", "content-length", "content-encoding", "date"})
_COLON = ord(":")


class Delivery(Protocol):
    """The client's side of an exchange."""

    started: bool
    text_released: bool

    def send(self, released: list[Held], head: Headers) -> list[Command]:
        """Pass on chunks taken out of the hold-back window."""
        ...

    def passed(self, form: PlainForm, latest: Plain) -> None:
        """Plain chunks of a form were passed on beside this, `latest` the last of them."""
        ...

    def complete(self, closing: bytes, head: Headers, record: ExchangeRecord) -> list[Command]:
        """
        End a whole answer.

        Args:
            closing: The upstream's own terminal event, if it sent one.
            head: The upstream's headers.
            record: For the account of the exchange.

        Raises:
            ProtocolError: What came is no answer; nothing was sent.
        """
        ...

    def fail(self, failure: Failure, record: ExchangeRecord) -> list[Command]:
        """End a broken answer, honestly."""
        ...

    def unsure(self, closing: bytes) -> str:
        """Take the end of an answer; why it may not be the backend's own, empty where it is."""
        ...

    def pass_whole(self, body: bytes, head: Headers, record: ExchangeRecord) -> list[Command]:
        """End with a whole answer of the backend's own, as it is."""
        ...

    def begin(self, engine: str) -> None:
        """An attempt begins the answer from its start: forget what was gathered before."""
        ...


class StreamDelivery:
    """Server-sent events, passed on as they are released."""

    def __init__(self, family: Family, policy: str) -> None:
        self._family = family
        self._policy = policy
        self._sent = b""  # latest whole events that are not all comments
        #: The same where it passed beside this: there are many, and hardly ever is one asked for.
        self._beside: tuple[PlainForm, Plain] | None = None
        self.started = False
        self.text_released = False

    def send(self, released: list[Held], head: Headers) -> list[Command]:
        """See Delivery."""
        if not released:
            return []
        if not self.text_released:
            self.text_released = any(held.tokens or held.text for held in released)
        data = released[0].data if len(released) == 1 else b"".join([held.data for held in released])
        if not data:
            return []
        if not (data[0] == _COLON and len(released) == 1):
            self._sent, self._beside = data, None
        return [SendBody(data)] if self.started else [*self._head(200, head), SendBody(data)]

    def passed(self, form: PlainForm, latest: Plain) -> None:
        """See Delivery."""
        self._beside = form, latest

    def complete(self, closing: bytes, head: Headers, record: ExchangeRecord) -> list[Command]:
        """See Delivery."""
        return [*self._head(200, head), SendBody(guard_comment(record.summary()) + closing)]

    def fail(self, failure: Failure, record: ExchangeRecord) -> list[Command]:
        """See Delivery: an error event in the stream, or a plain error while there is none yet."""
        if not self.started:
            self.started = True
            return plain_error(self._family, failure, record, self._policy)
        sent = self._sent
        if self._beside is not None:
            form, latest = self._beside
            sent = form.cut(latest)
        event = self._family.error_event(_notice(failure), sent)
        return [SendBody(guard_comment(record.summary()) + event)]

    def unsure(self, closing: bytes) -> str:
        """See Delivery: a stream is the backend's own."""
        return ""

    def pass_whole(self, body: bytes, head: Headers, record: ExchangeRecord) -> list[Command]:
        """See Delivery: who asked for a stream gets none."""
        raise AssertionError("a stream was asked for")

    def begin(self, engine: str) -> None:
        """See Delivery: nothing is gathered here."""

    def _head(self, status: int, head: Headers) -> list[Command]:
        if self.started:
            return []
        self.started = True
        headers = (
            ("content-type", "text/event-stream; charset=utf-8"),
            ("cache-control", "no-cache"),
            ("x-accel-buffering", "no"),
            ("x-guard-policy", self._policy),
            *_kept(head, drop=frozenset({"cache-control", "x-accel-buffering"})),
        )
        return [SendHead(status, headers)]


class WholeDelivery:
    """One JSON body, put together from the upstream's stream."""

    def __init__(self, request: ClientRequest, policy: str, max_event_bytes: int) -> None:
        self._request = request
        self._policy = policy
        self._max_event_bytes = max_event_bytes
        self._gatherer = request.family.gatherer(request, "")
        #: Why what was gathered cannot become an answer; told when it is asked for.
        self._broken: ProtocolError | None = None
        self.started = False
        self.text_released = False

    def send(self, released: list[Held], head: Headers) -> list[Command]:
        """See Delivery: gathered, nothing is sent."""
        self._gather(held.data for held in released)
        return []

    def passed(self, form: PlainForm, latest: Plain) -> None:
        """See Delivery: nothing can pass by."""
        raise AssertionError("the answer is put together from all there is")

    def _gather(self, events: Iterable[bytes]) -> None:
        # A rewritten chunk may be a little longer than the one that passed the cap.
        parser = SseParser(max_event_bytes=2 * self._max_event_bytes)
        try:
            for data in events:
                # All of it is whole events; one that ends in CR needs no LF behind it.
                for event in (*parser.feed(data), *parser.finish()):
                    if event.data is not None:
                        self._gatherer.add(event.data)
        except ProtocolError as error:
            self._broken = self._broken or error

    def complete(self, closing: bytes, head: Headers, record: ExchangeRecord) -> list[Command]:
        """See Delivery."""
        self._gather((closing,))
        if self._broken is not None:
            raise self._broken
        return self.pass_whole(self._gatherer.result(), head, record)

    def unsure(self, closing: bytes) -> str:
        """See Delivery."""
        self._gather((closing,))
        return "" if self._broken is not None else self._gatherer.unsure

    def pass_whole(self, body: bytes, head: Headers, record: ExchangeRecord) -> list[Command]:
        """See Delivery."""
        self.started = True
        headers = (
            ("content-type", "application/json"),
            ("content-length", str(len(body))),
            ("x-guard-policy", self._policy),
            ("x-guard-verdict", record.outcome.value),
            ("x-guard-attempts", str(len(record.attempts))),
            ("x-guard-tokens-shown", str(record.tokens_shown)),
            ("x-guard-tokens-burned", str(record.tokens_burned)),
            *_kept(head),
        )
        return [SendHead(200, headers), SendBody(body)]

    def fail(self, failure: Failure, record: ExchangeRecord) -> list[Command]:
        """See Delivery."""
        self.started = True
        return plain_error(self._request.family, failure, record, self._policy)

    def begin(self, engine: str) -> None:
        """See Delivery."""
        self._gatherer = self._request.family.gatherer(self._request, engine)
        self._broken = None


def delivery_for(request: ClientRequest, policy: str, max_event_bytes: int) -> Delivery:
    """
    The delivery a request asks for.

    Args:
        request: The client's.
        policy: Name of its policy, told in the headers.
        max_event_bytes: Cap of one event. Unit: bytes.
    """
    if request.stream:
        return StreamDelivery(request.family, policy)
    return WholeDelivery(request, policy, max_event_bytes)


def plain_error(family: Family, failure: Failure, record: ExchangeRecord, policy: str) -> list[Command]:
    """
    An ordinary HTTP error in the family's form.

    `x-should-retry: false` keeps the official SDKs from repeating what the guard has already
    tried several times; where it has tried nothing, they are told when to come again.
    """
    body = failure.body or family.error_body(_notice(failure))
    headers = (
        ("content-type", "application/json"),
        ("content-length", str(len(body))),
        ("x-should-retry", "false") if failure.retry_after is None else ("retry-after", str(failure.retry_after)),
        ("x-guard-policy", policy),
        ("x-guard-verdict", record.outcome.value),
        ("x-guard-attempts", str(len(record.attempts))),
        ("x-guard-tokens-burned", str(record.tokens_burned)),
    )
    return [SendHead(failure.status, headers), SendBody(body)]


def _notice(failure: Failure) -> Notice:
    return Notice(failure.message, status=failure.status, code=failure.code)


def _kept(head: Headers, drop: frozenset[str] = frozenset()) -> Headers:
    return tuple((k, v) for k, v in head if k not in _OWN_HEADERS and k not in drop)
