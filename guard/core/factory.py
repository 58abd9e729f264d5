"""What attempts ask for (which switches, which changes, continuing which text), and the attempts themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from guard.core.attempt import Attempt
from guard.core.engine_id import EngineId, engine_id
from guard.core.holdback import Held, HoldBack
from guard.core.record import AttemptRecord
from guard.core.settings import ExchangeSettings, Target
from guard.policy import schema
from guard.policy.schema import Policy
from guard.proto.ahead import Ahead, stops_show
from guard.proto.client import ClientRequest
from guard.proto.family import Continuation, Identity
from guard.proto.prompt import prompt_text
from guard.proto.request import upstream_body
from guard.rescore.emitted import Emitted
from guard.retry.changes import changes_for
from guard.signals.base import SignalAdapter
from guard.signals.logprobs import LogprobAdapter
from guard.signals.registry import adapter_for
from guard.types import Change, WhenExhausted

#: Why a text is not continued that the client was told the end of.
ENDED: Final = "the answer has ended"


class Shown:
    """
    What the client has seen so far, as far as a continuation needs it.

    `text` is the content of choice 0; `fragile` says why the answer can no longer be continued
    (a tool call or reasoning was begun, or the answer has ended), empty while it can.
    """

    def __init__(self) -> None:
        self._texts: list[str] = []
        self.tokens = 0
        self.fragile = ""
        #: Retries leave the prefix cache aside, even if the policy does not say so.
        self.bypass = False
        #: Of the attempt whose chunks the client saw first; later chunks must look like its own.
        self.identity: Identity | None = None

    @property
    def text(self) -> str:
        """Content released so far."""
        return "".join(self._texts)

    def note(self, released: Sequence[Held], attempt: Attempt) -> None:
        """Account for chunks just released."""
        if self.identity is None and any(held.data for held in released):
            self.identity = attempt.identity
        for held in released:
            self.tokens += held.tokens
            if held.text:
                self._texts.append(held.text)
        if attempt.fragile and not self.fragile:
            self.fragile = attempt.fragile
        if attempt.finished and not attempt.hold:
            self.fragile = self.fragile or ENDED

    def add(self, text: str, tokens: int, fragile: str) -> None:
        """The same for what was shown beside the hold-back window, once the identity is known. Unit: tokens."""
        self.tokens += tokens
        if text:
            self._texts.append(text)
        if fragile and not self.fragile:
            self.fragile = fragile


def resume_blocker(request: ClientRequest, target: Target, shown: Shown) -> str:
    """
    Why a continuation of the shown text would be unsafe.

    Returns:
        A clause for the record; empty when a continuation is safe.
    """
    if request.resume_hazards:
        return ", ".join(request.resume_hazards)
    blocker = request.family.resume_blocker(target.engine)
    if blocker:
        return blocker
    if target.capabilities is not None and target.capabilities.resume(request.route) is False:
        return "the backend was tried and does not continue a text"
    if request.max_tokens is not None and request.max_tokens <= shown.tokens:
        return "the client's token limit is reached"
    return shown.fragile


class Asked(NamedTuple):
    """
    What a replica is asked for in one attempt. The request can be on its way before the attempt itself is made.

    Args:
        target: The replica chosen.
        number: 1 for the first.
        mode: "first", "restart", "resume" or "whole".
        whole: Whether one body is asked for, as the client did, with nothing switched on in it.
        engine: As far as its signal goes: what it is not asked for, it does not add.
        adapter: Reads the acceptance signal.
        ahead: Reads one event ahead, where that is needed.
        rescores: Whether the answer may have to be scored again.
        changes: What it does differently from the attempts before.
        known: Under which id the engine knows it.
        body: Of the request.
    """

    target: Target
    number: int
    mode: str
    whole: bool
    engine: str
    adapter: SignalAdapter
    ahead: Ahead | None
    rescores: bool
    changes: dict[str, Any]
    known: EngineId
    body: bytes


def ask(
    request: ClientRequest,
    settings: ExchangeSettings,
    target: Target,
    *,
    number: int,
    mode: str,
    shown: Shown,
    wanted: Sequence[Change] = (),
    verdicts: int = 0,
    whole: bool = False,
) -> Asked:
    """
    What attempt `number` asks for.

    Args:
        request: The client's.
        settings: The exchange's.
        target: As of Asked, like `number`, `mode` and `whole`.
        number: See `target`.
        mode: See `target`.
        shown: What the client has seen.
        wanted: What this attempt does differently from those before.
        verdicts: Attempts given up for what they said, from which steps of temperature are counted.
        whole: See `target`.
    """
    family, engine = request.family, target.engine
    stops = stops_show(request, engine) if target.exact_stops and not whole else None
    signal_of = "text" if stops == "never" else engine
    reads = settings.reads_logprobs
    adapter: SignalAdapter = adapter_for(signal_of, target.num_speculative_tokens)
    if reads or (settings.tapes is not None and settings.tapes.logprobs):
        adapter = LogprobAdapter(adapter)
    changes = changes_for(
        engine,
        (Change.CACHE, *wanted) if shown.bypass else wanted,
        attempt=verdicts + 1,
        nonce=settings.nonce,
        body=family.sampling(request),
    )
    resumes = mode == "resume"
    rescores = settings.rescore and not whole and _can_rescore(request, target)
    asks = rescores or (reads and not whole and _can_ask(request, target))
    signal = {} if whole else adapter.switches()
    switches = {**signal, **(family.logprob_fields(request) if asks else {})}
    if stops == "verbose" and request.body.get("verbose") is not True:
        switches["verbose"] = True
    known = engine_id(request, engine, settings.nonce, number)
    body = upstream_body(
        request,
        switches={**switches, family.rid_field(request): known.sent} if known.sent is not None else switches,
        changes=changes,
        resume_text=shown.text if resumes else None,
        released_tokens=shown.tokens if resumes else 0,
        engine=engine,
        whole=whole,
    )
    return Asked(
        target,
        number,
        mode,
        whole=whole,
        engine=signal_of,
        adapter=adapter,
        ahead=Ahead(family.reader(), request) if stops in ("itself", "verbose") else None,
        rescores=rescores,
        changes=dict(changes),
        known=known,
        body=body,
    )


def make_attempt(request: ClientRequest, settings: ExchangeSettings, asked: Asked, shown: Shown) -> Attempt:
    """
    The attempt that reads the answer to what was asked for.

    Args:
        request: The client's.
        settings: The exchange's.
        asked: From `ask`.
        shown: What the client has seen, as it was for `ask`.
    """
    family, target, resumes = request.family, asked.target, asked.mode == "resume"
    record = AttemptRecord(
        number=asked.number,
        replica=target.replica,
        engine=target.engine,
        mode=asked.mode,
        changes=asked.changes,
        baseline=target.baseline.probability if target.baseline is not None else None,
    )
    rewriter = family.rewriter(
        request,
        engine=asked.engine,
        annotate=settings.annotate,
        continuation=_continuation(shown, resumes=resumes),
    )
    attempt = Attempt(
        target,
        settings,
        record,
        asked.adapter,
        family.reader(),
        rewriter,
        _window(settings.judge.policy, request),
        asked.known,
        prompt_text(request),
        whole=asked.whole,
        ahead=asked.ahead,
    )
    if resumes:
        attempt.recall(shown.text, shown.tokens)
    attempt.emitted = Emitted() if asked.rescores else None
    return attempt


def _can_ask(request: ClientRequest, target: Target) -> bool:
    """Whether log-probabilities can be asked for, and kept from a client that did not: vLLM's."""
    return target.engine == "vllm" and not request.body.get("echo")


def _can_rescore(request: ClientRequest, target: Target) -> bool:
    """Whether the answer of this replica could be scored again."""
    if request.n != 1 or not _can_ask(request, target):
        return False
    proven = target.capabilities is None or target.capabilities.rescore is not False
    return proven and bool(request.family.logprob_fields(request))


def _continuation(shown: Shown, *, resumes: bool) -> Continuation | None:
    if shown.identity is None:
        return None
    tokens = shown.tokens if resumes else 0
    text = shown.text if resumes else ""
    return Continuation(shown.identity, prompt_tokens=-tokens, completion_tokens=tokens, text=text)


def _window(policy: Policy, request: ClientRequest) -> HoldBack:
    hold = policy.hold_back
    if not request.stream and policy.when_exhausted is WhenExhausted.BEST:
        # The healthy part of each attempt may still be wanted.
        return HoldBack(hold_at=0.0, window=0, limit=None)
    if not request.stream:
        # The whole body is the window, see WholeDelivery.
        return HoldBack(hold_at=2.0, window=0, limit=1)
    return window_of(hold)


def window_of(hold: schema.HoldBack) -> HoldBack:
    """What a stream's text waits in under a policy's `hold_back`."""
    if hold.mode == "off":
        return HoldBack(hold_at=2.0, window=0, limit=1)
    if hold.mode == "full":
        return HoldBack(hold_at=0.0, window=0, limit=None)
    window = hold.window if hold.mode == "window" else 0
    return HoldBack(hold_at=hold.hold_at, window=window, limit=max(hold.limit, window, 1))
