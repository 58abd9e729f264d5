"""
What core and server see of a route family: one object of this type for each, in `registry`.

A family reads the client's request, reads the backend's events into OpenAI-shaped chunks
(`guard.wire`), turns an attempt's events into the client's, puts an answer together that was not
streamed, and says in its own form what the guard itself has to say. Adding one is a module with a
`Family` and a line in the registry.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

import msgspec

from guard.proto.client import ClientRequest
from guard.proto.sse import SseEvent
from guard.types import Sample, StepAcceptance
from guard.wire import Chunk


class Identity(msgspec.Struct, frozen=True, gc=False):
    """What makes all chunks of an answer one answer, as raw JSON; None where the engine sends none."""

    id: bytes | None
    created: bytes | None


class Continuation(msgspec.Struct, frozen=True, gc=False):
    """
    Makes a later attempt look like the rest of the first.

    Args:
        identity: Of the attempt whose chunks the client has; `Rewriter.identity` tells it.
        prompt_tokens: Added to the usage's prompt tokens; negative when released text was sent as
            prompt. Unit: tokens.
        completion_tokens: Added to the usage's completion tokens. Unit: tokens.
        role_sent: Whether the client has had what opens an answer.
        text: Content the client has, which the attempt continues.
    """

    identity: Identity
    prompt_tokens: int = 0
    completion_tokens: int = 0
    role_sent: bool = True
    text: str = ""


class Reader(Protocol):
    """Reads one attempt's events, in order."""

    def read(self, event: SseEvent) -> Chunk:
        """
        One event in OpenAI's shape: text by choice and channel, tokens, finish, counters.

        Args:
            event: One that has data.

        Returns:
            A `LastChunk` for the event that ends the stream; a chunk with `error` where the
            backend reports a failure.

        Raises:
            ProtocolError: The event does not follow the family's protocol.
        """
        ...


#: Whether the closing chunk tells what ended the answer: never, by itself, or in the object that `verbose` adds.
StopTold = Literal["never", "itself", "verbose"]


class Stopped(Protocol):
    """What a reader that reads ahead (`guard.proto.ahead`) tells of the event read last."""

    stopped: bool


class Rewriter(Protocol):
    """Turns one attempt's events into the client's, in order."""

    def look_ahead(self, ahead: Stopped) -> None:
        """Events come from a reader that reads ahead: only where the family's chunks have timings."""
        ...

    @property
    def identity(self) -> Identity | None:
        """Of this attempt's answer, once an event told it."""
        ...

    @property
    def plain(self) -> bool:
        """Whether all it does to a plain chunk (`guard.proto.plain`) is to cut what the guard asked for."""
        ...

    def apply(self, event: SseEvent, chunk: Chunk, steps: Sequence[StepAcceptance] = ()) -> bytes:
        """Bytes for the client: the event's own where nothing changes, none where it gets nothing."""
        ...


class Gatherer(Protocol):
    """Puts a streamed answer together again, as the backend would have answered at once."""

    def add(self, data: bytes) -> None:
        """Take one event's data, in order. Raises ProtocolError."""
        ...

    def result(self) -> bytes:
        """The whole answer. Raises ProtocolError when there is none."""
        ...

    @property
    def unsure(self) -> str:
        """Why the backend would perhaps have answered otherwise at once; empty where it would not."""
        ...


class Notice(msgspec.Struct, frozen=True):
    """
    Something the guard itself has to tell a client.

    Args:
        message: For people.
        status: HTTP status it has, or would have.
        code: Machine-readable code.
        kind: OpenAI's `type` of it; "invalid_request_error" where the client is at fault.
        param: Request field at fault.
    """

    message: str
    status: int = 502
    code: str | None = None
    kind: str = "guard_error"
    param: str | None = None


class Family(abc.ABC):
    """One form of generation request and its streamed answer. Objects hold no state."""

    #: Paths at which it is served.
    paths: tuple[str, ...]
    #: HTTP methods that generate there.
    methods: frozenset[str] = frozenset({"POST"})
    #: Whether events that only open an answer wait for its first text, so that a restart before
    #: any text never shows a second opening.
    opening_waits = True
    #: How llama.cpp tells that a stop word ended a stream of this form; None where it has no timings.
    stop_told: StopTold | None = None

    @abc.abstractmethod
    def parse(self, path: str, body: bytes) -> ClientRequest:
        """
        Read a client's request. What the guard does not need is left to the backend to judge.

        Raises:
            RequestError: The body is no JSON object, or `stream` is no boolean.
        """

    @abc.abstractmethod
    def reader(self) -> Reader:
        """A fresh reader for one attempt."""

    @abc.abstractmethod
    def rewriter(
        self, request: ClientRequest, *, engine: str, annotate: bool, continuation: Continuation | None
    ) -> Rewriter:
        """A fresh rewriter for one attempt; `annotate` adds each chunk's steps to it."""

    @abc.abstractmethod
    def gatherer(self, request: ClientRequest, engine: str) -> Gatherer:
        """A fresh gatherer for one attempt."""

    @abc.abstractmethod
    def said(self, body: bytes) -> list[Sample]:
        """
        What a whole answer of the backend's says, in pieces.

        Raises:
            ProtocolError: It is no JSON.
        """

    @abc.abstractmethod
    def prompt(self, request: ClientRequest) -> object:
        """Where in the body the prompt's texts are: texts, lists and messages, nested as they come."""

    @abc.abstractmethod
    def error_body(self, notice: Notice) -> bytes:
        """A notice as a JSON body."""

    @abc.abstractmethod
    def error_event(self, notice: Notice, sent: bytes = b"") -> bytes:
        """
        A notice as the event that ends a stream which fails after it began.

        Args:
            notice: What is told.
            sent: Whole events that the client has had, the last of them at their end; for families that number
                their events.
        """

    def stream_fields(self, request: ClientRequest) -> dict[str, Any]:
        """Fields that make a request for one body a streaming one."""
        return {"stream": True}

    def stream_hazards(self, request: ClientRequest, engine: str) -> tuple[str, ...]:
        """Why a request for one body must not be turned into a stream; empty when it may."""
        return ()

    def switches(self, request: ClientRequest, engine: str, wanted: Mapping[str, Any]) -> Mapping[str, Any]:
        """Of the fields that turn an engine's signal on, those that do so on this route."""
        return {}

    def logprob_fields(self, request: ClientRequest) -> Mapping[str, Any]:
        """Fields that have each token come with its id and log-probability; empty where they would not say all."""
        return {}

    def sampling(self, request: ClientRequest) -> Mapping[str, Any]:
        """The part of the body in which seed and temperature stand."""
        return request.body

    def changes(self, request: ClientRequest, engine: str, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Fields that a retry changes, as this route names them."""
        return dict(wanted)

    def rid_field(self, request: ClientRequest) -> str:
        """Name of the field for a request id of the guard's own; empty where there is none."""
        return ""

    def resume_blocker(self, engine: str) -> str:
        """Why an engine cannot continue a text on this route; empty when it can."""
        return "this route cannot continue a text"

    def resume_fields(self, request: ClientRequest, text: str, released: int, engine: str) -> dict[str, Any]:
        """
        Fields that make the engine continue `text`.

        Args:
            request: The client's request.
            text: Content already released.
            released: Its tokens, taken off the client's limits. Unit: tokens.
            engine: Engine name.

        Raises:
            ValueError: A hazard of the request rules it out.
        """
        raise ValueError("this route cannot continue a text")

    #: What follows the last event of a stream; sent where the guard itself ends one.
    terminal: bytes = b""

    def end_choice(self, data: bytes, choice: int) -> bytes:
        """
        An event that ends one choice as one of which text was left out.

        Args:
            data: Data of an event of this answer, to take its id from.
            choice: Which.

        Returns:
            Empty where the protocol has no way to do so.
        """
        return b""
