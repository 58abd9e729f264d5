"""The vocabulary shared by all layers. Data only: no behaviour beyond trivial properties."""

from __future__ import annotations

import enum
from typing import Final, NewType

import msgspec

#: More tokens than any answer has. What a backend tells beyond that is no count: sums of such numbers are no longer
#: exact where they are divided, and the largest are none that a float can hold. Unit: tokens.
MOST_TOKENS: Final = 2**31 - 1

RequestId = NewType("RequestId", str)
ReplicaId = NewType("ReplicaId", str)


class Capabilities(msgspec.Struct, frozen=True):
    """
    What a replica was proven to be able to do. None: it was tried, and could not be seen.

    Args:
        engine: Engine it named itself.
        version: Version it told; all is tried again when it changes.
        resume_chat: Continues a partial answer on the chat route.
        resume_completions: The same on the completions route.
        cache_bypass: Leaves its prefix cache aside when asked to.
        rescore: Scores the tokens of an answer again.
        withdraw: Takes a prompt out of its prefix cache when asked to.
    """

    engine: str
    version: str
    resume_chat: bool | None = None
    resume_completions: bool | None = None
    cache_bypass: bool | None = None
    rescore: bool | None = None
    withdraw: bool | None = None

    def resume(self, route: str) -> bool | None:
        """Whether it continues a partial answer on this route."""
        return self.resume_chat if route.endswith("/chat/completions") else self.resume_completions


class Channel(enum.StrEnum):
    """Where in a message a text stands. Each is watched on its own."""

    CONTENT = "content"
    REASONING = "reasoning"
    TOOL = "tool"


class StepAcceptance(msgspec.Struct, frozen=True, gc=False):
    """
    What one verify step kept of its draft.

    Args:
        accepted: Draft tokens kept, bonus excluded. Unit: tokens.
        drafted: Draft tokens proposed; 0 when the step had no draft, -1 when it is not known.
        tokens: Tokens the step emitted to the client, bonus included. Unit: tokens.
        exact: False when inferred (vLLM without the plugin), True when the engine said so.
    """

    accepted: int
    drafted: int
    tokens: int
    exact: bool


class Sample(msgspec.Struct, gc=False):
    """
    One choice's share of one chunk: what the detectors see.

    Args:
        choice: Index of the choice.
        texts: Text by channel, in the order it stands in the chunk.
        tokens: Tokens this chunk adds to the choice. Unit: tokens. Text without a count counts 1.
        steps: Verify steps that this chunk completes; empty without an acceptance signal.
        logprobs: Log-probabilities of its tokens, of those for which the backend told one. Unit: nats.
    """

    choice: int
    texts: tuple[tuple[Channel, str], ...]
    tokens: int
    steps: tuple[StepAcceptance, ...] = ()
    logprobs: tuple[float, ...] = ()


class Unit(enum.StrEnum):
    """Units in which a policy may size a window."""

    TOKENS = "tokens"
    STEPS = "steps"
    CHARACTERS = "characters"


class Window(msgspec.Struct, frozen=True, gc=False):
    """The latest `size` units of a stream."""

    size: int
    unit: Unit

    def __str__(self) -> str:
        return f"{self.size} {self.unit}"


class Cadence(enum.IntEnum):
    """How often a reading can change: with every verify step, every block of text, or every page of it."""

    STEP = 0
    BLOCK = 1
    PAGE = 2


#: Signals read from the text, at the place where acceptance fell.
AT_FALL: Final = ("topic_break", "sentence_break", "new_words", "broken_words", "joint_kinds")
#: What is worked out from the text whenever it is read, by how much work that is; the rest of AT_FALL is above 1.
_COSTS: Final = {
    "broken_words": 1, "function_words": 1, "nested_again": 2, "counted_words": 2, "new_words": 3, "sameness": 3,
}  # fmt: skip


class SignalRef(msgspec.Struct, frozen=True, gc=False):
    """A signal as a policy names it; `window` None means the whole stream so far."""

    name: str
    window: Window | None = None

    @property
    def cadence(self) -> Cadence:
        """How often its reading can change, which its name tells."""
        if self.name in AT_FALL:
            return Cadence.PAGE
        if self.name == "tokens" or self.of_acceptance or self.of_logprobs:
            return Cadence.STEP
        if self.name == "blank_lines" or self.name.startswith("repetition_"):
            return Cadence.BLOCK
        return Cadence.PAGE

    @property
    def of_acceptance(self) -> bool:
        """Whether it reads what verify steps kept of their drafts."""
        return self.name == "undrafted" or self.name in AT_FALL or self.name.startswith("acceptance_")

    @property
    def of_logprobs(self) -> bool:
        """Whether it reads the log-probabilities of the tokens."""
        return self.name.startswith("logprob_")

    @property
    def cost(self) -> int:
        """How much is worked out from the text when it is read, by rank; 0 where its reading is kept."""
        return _COSTS.get(self.name, 2 if self.name in AT_FALL else 0)

    def __str__(self) -> str:
        return self.name if self.window is None else f"{self.name} over {self.window}"


class SignalSpec(msgspec.Struct, frozen=True, gc=False):
    """
    One entry of the signal catalogue.

    Args:
        name: What policies write.
        low: Least value it can take.
        high: Greatest value it can take (may be infinite).
        unit: Unit of the value, for people ("tokens", "share", "characters").
        window_units: Units its window may have; empty when it takes no window.
        needs_acceptance: True when it is unknown without an acceptance signal.
        help: One sentence on what it measures.
        needs_logprobs: True when it is unknown where the backend tells no log-probabilities.
        needs_window: True when it cannot be read over the whole stream.
    """

    name: str
    low: float
    high: float
    unit: str
    window_units: tuple[Unit, ...]
    needs_acceptance: bool
    help: str
    needs_logprobs: bool = False
    needs_window: bool = False


class Kind(enum.StrEnum):
    """What is wrong with a generation."""

    GARBLED = "garbled"
    RARE_CHARS = "rare_chars"
    REPETITION = "repetition"


class Action(enum.StrEnum):
    """What a policy does about it, mildest first: of rules that act together the last of these decides."""

    PASS = "pass"  # noqa: S105 - not a password
    HOLD = "hold"
    NOTE = "note"
    CUT = "cut"
    RETRY = "retry"


class Change(enum.StrEnum):
    """One thing that a retry does differently."""

    CACHE = "cache"
    SEED = "seed"
    TEMPERATURE = "temperature"
    PENALTY = "penalty"


class WhenExhausted(enum.StrEnum):
    """What becomes of a bad generation when no retry is possible any more."""

    CUT = "cut"
    PASS = "pass"  # noqa: S105 - not a password
    BEST = "best"


class Finding(msgspec.Struct, frozen=True, gc=False):
    """
    A detector's evidence.

    Args:
        signal: Which signal, over which window.
        value: Its reading.
        onset_token: Token of the choice at which the fault is estimated to have begun.
        reason: One clause a person can read ("acceptance length fell from 2.6 to 1.05").
    """

    signal: SignalRef
    value: float
    onset_token: int
    reason: str


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """
    The policy's decision on one choice.

    Args:
        action: What to do.
        suspicion: Score in [0, 1].
        kind: What is wrong; None while nothing is.
        rule: Name of the rule that decided; empty while none did.
        choice: Index of the choice.
        token: Token of the choice at which it was decided.
        onset_token: Where the fault is estimated to have begun.
        findings: The evidence.
    """

    action: Action
    suspicion: float
    kind: Kind | None = None
    rule: str = ""
    choice: int = 0
    token: int = 0
    onset_token: int = 0
    findings: tuple[Finding, ...] = ()

    @property
    def reason(self) -> str:
        """All findings in one readable line."""
        return "; ".join(finding.reason for finding in self.findings)
