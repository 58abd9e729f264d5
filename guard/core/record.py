"""What is kept of an exchange once it is over: for the log line, the metrics and the request page."""

from __future__ import annotations

import enum

import msgspec

from guard.rescore.compare import Rescored
from guard.types import Finding, Kind, Verdict

#: Verify steps kept per attempt; later ones only count in the sums.
MAX_STEPS = 8192
#: Stands in the arrays where a step's draft depth is unknown.
UNKNOWN_DRAFT = -1
#: Changes of suspicion kept per attempt, and the least change that is one.
MAX_SUSPICIONS = 1024
LEAST_CHANGE = 0.02


class Outcome(enum.StrEnum):
    """How an exchange ended, seen from the client."""

    HEALTHY = "healthy"
    #: A bad attempt was given up, and a later one was good.
    RESCUED = "rescued"
    #: Bad by a rule that only notes, or let through by `when_exhausted: pass`.
    NOTED = "noted"
    #: A rule's action is to cut, or one choice of several was ended.
    CUT = "cut"
    #: No attempt was good, and nothing was left to try: an error.
    EXHAUSTED = "exhausted"
    #: A fault of the backend, after all attempts.
    UPSTREAM_ERROR = "upstream_error"
    CLIENT_GONE = "client_gone"
    #: Passed on as the backend said it, not watched: its refusals, and whole answers too large to be kept.
    RELAYED = "relayed"
    #: Ended by the healthy part of the best attempt (`when_exhausted: best`).
    BEST = "best"
    #: The guard was told to stop, and the time to drain was over: the answer was broken off.
    SHUTDOWN = "shutdown"


class AttemptRecord(msgspec.Struct):
    """
    One upstream request of an exchange.

    Args:
        number: 1 for the first.
        replica: Where it ran.
        engine: Which signal adapter read it.
        mode: "first", "restart", "resume" or "whole".
        changes: Request fields changed for it.
        tokens: Tokens it generated. Unit: tokens.
        tokens_shown: Of those, sent to the client. Unit: tokens.
        tokens_burned: Of those, the rest. Unit: tokens.
        began_at: Tokens of the answer before it; onset and verdict count from the answer's beginning. Unit: tokens.
        held_from_token: First token after which suspicion kept text back; None if it never did.
        accepted: Accepted draft tokens of each verify step, bonus excluded.
        drafted: Drafted tokens of each verify step; -1 where unknown.
        verdict: The decision that ended or marked it, if any.
        onset_token: Estimated first bad token.
        verdict_token: Token at which the decision fell.
        reason: The evidence, readable.
        fault: Transport or protocol fault, if any.
        confirm: What re-scoring it before a verdict was acted on came to.
        audit: What re-scoring it after its end came to.
        suspicion_peak: Highest suspicion it was under.
        shadow: First verdict of the shadow policy that acts, if any.
        started: Arrival of the request until the attempt was asked for. Unit: seconds.
        baseline: Healthy acceptance probability that it was judged by, if one was known.
        suspected: Why less evidence than the policy's was enough, where it was; empty elsewhere.
        doubted: Whether its verdict rests on that, and not on the policy's own measure.
        findings: The evidence, signal by signal.
        suspicions: Token and suspicion wherever the suspicion changed; none while it stays 0.
    """

    number: int
    replica: str
    engine: str
    mode: str
    changes: dict[str, str | int | float | bool] = {}
    tokens: int = 0
    tokens_shown: int = 0
    tokens_burned: int = 0
    began_at: int = 0
    held_from_token: int | None = None
    accepted: list[int] = []
    drafted: list[int] = []
    verdict: str = "pass"
    kind: Kind | None = None
    rule: str = ""
    suspicion: float = 0.0
    onset_token: int | None = None
    verdict_token: int | None = None
    reason: str = ""
    fault: str = ""
    shadow: Verdict | None = None
    confirm: Rescored | None = None
    audit: Rescored | None = None
    suspicion_peak: float = 0.0
    started: float = 0.0
    baseline: float | None = None
    suspected: str = ""
    doubted: bool = False
    findings: tuple[Finding, ...] = ()
    suspicions: list[tuple[int, float]] = []

    def suspect(self, suspicion: float) -> None:
        """Keep a suspicion, if it is another one than before."""
        before = self.suspicions[-1][1] if self.suspicions else 0.0
        # The way back to nothing is always worth a point.
        if abs(suspicion - before) < LEAST_CHANGE and (suspicion == 0.0) == (before == 0.0):
            return
        if len(self.suspicions) == MAX_SUSPICIONS:
            self.suspicions.pop()
        self.suspicions.append((self.tokens, round(suspicion, 3)))

    def note(self, verdict: Verdict) -> None:
        """Take over what was only noted, unless something was before."""
        if self.kind is None:
            self.judge(verdict)

    def judge(self, verdict: Verdict) -> None:
        """Take over what the policy decided."""
        self.verdict = verdict.action.value
        self.kind = verdict.kind
        self.rule = verdict.rule
        self.suspicion = round(verdict.suspicion, 4)
        self.onset_token = verdict.onset_token
        self.verdict_token = verdict.token
        self.reason = verdict.reason
        self.findings = verdict.findings

    @property
    def bad_tokens_shown(self) -> int:
        """Tokens after the onset that the client had before the verdict. Unit: tokens."""
        if self.kind is None or self.onset_token is None:
            return 0
        # The onset counts from the answer's beginning, of which a continuation has only the rest.
        return max(self.tokens_shown - max(self.onset_token - self.began_at, 0), 0)

    @property
    def burned_by(self) -> str:
        """Why its tokens were thrown away: what was found, "fault", or "left" (the client did, or nothing followed)."""
        if self.kind is not None and self.verdict not in ("pass", "note"):
            return self.kind.value
        return "fault" if self.fault else "left"


class ExchangeRecord(msgspec.Struct):
    """
    One client request, whole. Times are seconds from its arrival.

    Args:
        tokens_shown: Tokens the client received: its usage, as if there had been one attempt. Unit: tokens.
        tokens_burned: Tokens generated and thrown away, over all attempts. Unit: tokens.
        ttft_upstream: Until the first token of the first attempt arrived at the guard.
        ttft_delivered: Until the first token was sent to the client.
        held_tokens_max: Most tokens the hold-back window kept at once. Unit: tokens.
        held_seconds: Time in which text waited in the hold-back window.
        longest_gap: Longest time between two pieces of text sent to the client.
        ended_at: When it was over. Unit: seconds since 1970.
        second_look: Why the answer put together was asked for once more, whole; empty where it was not.
    """

    request_id: str
    route: str
    model: str
    policy: str
    stream: bool
    outcome: Outcome = Outcome.HEALTHY
    attempts: list[AttemptRecord] = []
    plan_reason: str = ""
    status: int = 0
    duration: float = 0.0
    tokens_shown: int = 0
    tokens_burned: int = 0
    ttft_upstream: float | None = None
    ttft_delivered: float | None = None
    held_tokens_max: int = 0
    held_seconds: float = 0.0
    longest_gap: float = 0.0
    ended_at: float = 0.0
    second_look: str = ""

    @property
    def bad_tokens_shown(self) -> int:
        """Tokens after an onset that the client has. Unit: tokens."""
        return sum([attempt.bad_tokens_shown for attempt in self.attempts])

    def summary(self) -> dict[str, object]:
        """The short account that the client sees in the closing comment of a stream."""
        last = self.attempts[-1] if self.attempts else None
        bad = next((attempt for attempt in self.attempts if attempt.kind is not None), None)
        out: dict[str, object] = {
            "request_id": self.request_id,
            "outcome": self.outcome,
            "verdict": last.verdict if last else "pass",
            "attempts": len(self.attempts),
        }
        if self.tokens_burned:
            out["tokens_shown"], out["tokens_burned"] = self.tokens_shown, self.tokens_burned
        if bad is not None and bad.kind is not None:
            if shown := self.bad_tokens_shown:
                out["bad_tokens_shown"] = shown
            out["kind"] = bad.kind
            out["reason"] = bad.reason
        return out
