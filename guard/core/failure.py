"""What a client is told when its answer cannot be had."""

from __future__ import annotations

from typing import Any

import msgspec

from guard.errors import UpstreamError
from guard.types import Verdict

#: HTTP status of a fault that ends an exchange before its head was sent. Others are 502: one was asked and failed.
_FAULT_STATUS = {"timeout": 504, "unavailable": 503}
#: Statuses of a backend that is only busy: a client that comes again later may be answered.
_BUSY = frozenset({429, 503})
#: HTTP status of the errors whose event has none.
_TYPE_STATUS = {"invalid_request_error": 400, "BadRequestError": 400, "not_found_error": 404, "NotFoundError": 404}
#: Most of a backend's own error text that is passed on. Unit: characters.
_MAX_QUOTE = 500


class Failure(msgspec.Struct, frozen=True):
    """
    One failure, for either kind of delivery.

    Args:
        status: HTTP status, if the head is still to be sent.
        code: OpenAI error code.
        message: For people.
        body: The backend's own words, if the failure is its own; told instead of the message.
        retry_after: When to come again, where nothing was tried and it will get better by itself. Unit: seconds.
    """

    status: int
    code: str
    message: str
    body: bytes = b""
    retry_after: int | None = None


def of_fault(fault: UpstreamError, retry_after: int | None = None) -> Failure:
    """
    The failure that a transport or protocol fault comes to.

    Args:
        fault: What happened.
        retry_after: When to come again if there was nobody to ask, or who was asked is busy. Unit: seconds.
    """
    busy = fault.status in _BUSY
    later = retry_after if busy or fault.kind == "unavailable" else None
    status = fault.status if busy else _FAULT_STATUS.get(fault.kind, 502)
    return Failure(status, f"upstream_{fault.kind}", str(fault), retry_after=later)


def of_refusal(reason: str) -> Failure:
    """The failure that a retry not allowed comes to, where none was known before."""
    return Failure(503, "guard_retry_refused", f"The answer was lost and may not be tried again now: {reason}.")


def of_error_event(data: bytes) -> Failure:
    """
    The failure that a backend's own error event comes to, for an answer that is not a stream.

    All engines say in the event what they would have said in a body, save llama.cpp, whose event on
    `/v1/messages` is the bare error; the status is the error's `code`, or follows from its type.
    """
    quote = data.decode("utf-8", "replace")[:_MAX_QUOTE]
    body = _object(data)
    if body is None:
        return Failure(502, "upstream_error", f"the backend failed: {quote}")
    failed = body.get("response")
    if isinstance(failed, dict):
        # Of OpenAI's responses: the error stands in the response that failed.
        body = {"error": failed.get("error") or {"message": "the response failed"}}
        data = msgspec.json.encode(body)
    error = body.get("error", body)
    if not isinstance(error, dict):
        return Failure(502, "upstream_error", f"the backend failed: {quote}", data)
    code = error.get("code")
    status = code if isinstance(code, int) and 400 <= code <= 599 else _TYPE_STATUS.get(str(error.get("type")), 502)
    return Failure(status, "upstream_error", quote, data if "error" in body else msgspec.json.encode({"error": body}))


def _object(data: bytes) -> dict[str, Any] | None:
    try:
        body = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


def of_verdict(verdict: Verdict, *, code: str, attempts: int, reason: str) -> Failure:
    """
    The failure that a bad generation comes to.

    Args:
        verdict: What was found.
        code: "guard_cut" or "guard_exhausted".
        attempts: Upstream attempts made.
        reason: Why there is no other.
    """
    kind = verdict.kind.value if verdict.kind else "bad"
    message = f"The generation was stopped: {kind} output ({verdict.reason}). {attempts} attempt(s) made; {reason}."
    return Failure(502, code, message)
