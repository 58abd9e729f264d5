"""What an exchange is made with: the policy's part, the deployment's part, the client's wishes."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from guard.core.tape import Tapes
from guard.detect.baseline import Baseline
from guard.policy.judge import Judge
from guard.types import Capabilities, ReplicaId, RequestId


class Wariness(msgspec.Struct, frozen=True):
    """
    How the answers of a replica are looked at while it is suspect.

    Args:
        why: What it is suspected for at the moment, readable; empty while it is above suspicion.
        evidence: Part of a policy's evidence that is enough then. In (0, 1).
        kinds: Verdicts that it may be suspected of.
    """

    why: Callable[[], str]
    evidence: float
    kinds: tuple[str, ...]


class Target(msgspec.Struct, frozen=True):
    """
    The replica chosen for one attempt.

    Args:
        replica: Its name.
        engine: "llama.cpp", "vllm", "sglang" or "text".
        num_speculative_tokens: Draft depth k, if known. Unit: tokens.
        baseline: Healthy acceptance of this deployment, if known.
        capabilities: What it was proven to be able to do; None while that is not known.
        wariness: How its answers are looked at while it is suspect; None to look at none more closely.
        exact_stops: Whether chunks wait for the next where that tells what they are without the guard.
    """

    replica: ReplicaId
    engine: str
    num_speculative_tokens: int | None = None
    baseline: Baseline | None = None
    capabilities: Capabilities | None = None
    wariness: Wariness | None = None
    exact_stops: bool = True


class ExchangeSettings(msgspec.Struct, frozen=True):
    """
    Fixed for the whole exchange.

    Args:
        request_id: In every log line, header and record. A client may give the same one twice.
        nonce: Unique to this exchange, in letters and digits: cache salts and engine request ids are
            made from it.
        judge: The compiled policy.
        shadow: A policy judged beside it, of which only the first verdict is recorded.
        annotate: Whether the client asked for per-step acceptance in its chunks.
        max_event_bytes: Cap of one server-sent event. Unit: bytes.
        tapes: Takes what the attempts say, when the exchange may be recorded.
        rescore: Keep what is needed to score answers again, where the backend tells it.
        retry_after: When a client is to come again, where there is no replica to ask. Unit: seconds.
        second_look: Ask for an answer once more, whole, where the one put together may not be the backend's own.
    """

    request_id: RequestId
    judge: Judge
    nonce: str
    shadow: Judge | None = None
    annotate: bool = False
    max_event_bytes: int = 8 * 1024 * 1024
    tapes: Tapes | None = None
    rescore: bool = False
    retry_after: int = 1
    second_look: bool = True

    @property
    def reads_logprobs(self) -> bool:
        """Whether a policy reads log-probabilities."""
        return self.judge.reads_logprobs or (self.shadow is not None and self.shadow.reads_logprobs)
