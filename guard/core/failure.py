"""What a client is told when its answer cannot be had."""

from __future__ import annotations

import msgspec

from guard.errors import UpstreamError
from guard.types import Verdict

#: HTTP status of a fault that ends an exchange before its head was sent; others are 502.
_FAULT_STATUS = {"timeout": 504}
#: Most of a backend's own error text that is passed on. Unit: characters.
_MAX_QUOTE = 500


class Failure(msgspec.Struct, frozen=True):
    """
    One failure, for either kind of delivery.

    Args:
        status: HTTP status, if the head is still to be sent.
        code: OpenAI error code.
        message: For people.
    """

    status: int
    code: str
    message: str


def of_fault(fault: UpstreamError) -> Failure:
    """The failure that a transport or protocol fault comes to."""
    return Failure(_FAULT_STATUS.get(fault.kind, 502), f"upstream_{fault.kind}", str(fault))


def of_error_event(data: bytes) -> Failure:
    """The failure that a backend's own error event comes to, for an answer that is not a stream."""
    quote = data.decode("utf-8", "replace")[:_MAX_QUOTE]
    return Failure(502, "upstream_error", f"the backend failed: {quote}")


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
