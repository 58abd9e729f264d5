"""From readings to a verdict."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from guard.policy.gates import Read, gates_of
from guard.policy.schema import All, Condition, HoldMode, Leaf, Not, Policy
from guard.types import Action, Finding, SignalRef, Verdict

Find = Callable[[SignalRef], Finding]
Score = Callable[[Read, int], float]

#: Actions, mildest first.
_SEVERITY = {action: rank for rank, action in enumerate(Action)}


class JudgeState:
    """
    What a Judge remembers of one choice.

    Since which token each rule holds, which have noted, and which gates on text were open when the text
    last changed.
    """

    __slots__ = ("block", "blocks_open", "noted", "page", "pages_open", "since", "text_only")

    def __init__(self) -> None:
        self.since: dict[int, int] = {}
        self.noted: set[int] = set()
        #: Readings of acceptance count as unknown: something better has shown that they mean nothing here.
        self.text_only = False
        self.block = self.page = -1
        self.blocks_open: list[int] = []
        self.pages_open: list[int] = []


class Judge:
    """
    Applies one policy.

    It keeps no state of its own, so one Judge serves all streams; what must be remembered of a choice is
    in a JudgeState, made by `state()` and handed back at each decision.

    Args:
        policy: A checked policy.
        share: Signals of another judge that reads the same detectors; equal ones become one object, by
            which readers find them at once.
    """

    def __init__(self, policy: Policy, share: Iterable[SignalRef] = ()) -> None:
        self.policy = policy
        known = {ref: ref for ref in share}
        self.refs: tuple[SignalRef, ...] = tuple(
            dict.fromkeys(known.get(leaf.signal, leaf.signal) for rule in policy.rules for leaf in leaves(rule.when))
        )
        shared = {ref: ref for ref in self.refs}
        self._scores: tuple[Score, ...] = tuple(_compile(rule.when, shared) for rule in policy.rules)
        self._gates = gates_of([rule.when for rule in policy.rules], shared)
        self._hold_at = policy.hold_back.hold_at
        self._act_at = policy.hold_back.act_at
        self._holds = policy.hold_back.mode is not HoldMode.OFF
        # Where nothing is ever held, the suspicion of rules that only note is worth showing.
        self._suspects = tuple(not self._holds or rule.action is not Action.NOTE for rule in policy.rules)

    def state(self) -> JudgeState:
        """A fresh state for one choice."""
        return JudgeState()

    def decide(
        self,
        read: Read,
        finding: Find,
        tokens: int,
        choice: int,
        state: JudgeState,
        text: tuple[int, int] | None = None,
    ) -> Verdict:
        """
        Judge one choice as it stands.

        Args:
            read: Reading of a signal; nan while unknown.
            finding: Evidence behind a reading; asked for only when a rule acts.
            tokens: Tokens of the choice so far.
            choice: Index of the choice.
            state: This choice's state, updated in place.
            text: Blocks and pages of text so far: readings of text are looked at again only once these have
                changed; None to look at all of them.

        Returns:
            The verdict; its action is HOLD when only the suspicion is raised. A rule that notes does so
            once in a choice.
        """
        if state.text_only:
            read = _text_only(read)
        candidates = self._open(read, state, text)
        if not candidates:
            if state.since:
                state.since.clear()
            return Verdict(Action.PASS, 0.0, None, "", choice, tokens)
        suspicion, acting = self._weigh(sorted(set(candidates)), read, tokens, state)
        if acting is None:
            held = self._holds and suspicion >= self._hold_at
            return Verdict(Action.HOLD if held else Action.PASS, suspicion, None, "", choice, tokens)
        rule = self.policy.rules[acting]
        if rule.action is Action.NOTE:
            state.noted.add(acting)
        evidence = _distinct(finding(ref) for ref in dict.fromkeys(_evidence(rule.when, read, tokens, self._act_at)))
        onsets = [found.onset_token for found in evidence if found.signal.name != "tokens"]
        return Verdict(
            action=rule.action,
            suspicion=suspicion,
            kind=rule.kind,
            rule=rule.name,
            choice=choice,
            token=tokens,
            onset_token=min(onsets, default=tokens),
            findings=evidence,
        )

    def _open(self, read: Read, state: JudgeState, text: tuple[int, int] | None) -> list[int]:
        """Rules that may score above 0, in no order, perhaps twice."""
        gates = self._gates
        block, page = text if text is not None else (-1, -1)
        if block != state.block or text is None:
            state.block = block
            state.blocks_open = gates.blocks.open(read)
            if page != state.page or text is None:
                state.page = page
                state.pages_open = gates.pages.open(read)
        return [*gates.steps.open(read), *state.blocks_open, *state.pages_open, *gates.always]

    def _weigh(self, candidates: list[int], read: Read, tokens: int, state: JudgeState) -> tuple[float, int | None]:
        """The suspicion, and the rule that acts: the severest, then the one that scores most, then the first."""
        suspicion = 0.0
        acting: int | None = None
        best = (0, 0.0)
        before, state.since = state.since, {}
        for index in candidates:
            value = self._scores[index](read, tokens)
            if value > suspicion and self._suspects[index]:
                suspicion = value
            if value < self._act_at:
                continue
            begun = state.since[index] = before.get(index, tokens)
            rule = self.policy.rules[index]
            rank = (_SEVERITY[rule.action], value)
            if tokens - begun >= rule.persist and rank > best and index not in state.noted:
                best, acting = rank, index
        return suspicion, acting


def _text_only(read: Read) -> Read:
    return lambda ref: math.nan if ref.of_acceptance else read(ref)


def _distinct(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Findings that say something new: several signals may read the same loop."""
    kept: dict[str, Finding] = {}
    for found in findings:
        kept.setdefault(found.reason, found)
    return tuple(kept.values())


def leaves(condition: Condition) -> list[Leaf]:
    """All conditions on signals inside a condition, in the order they are written."""
    if isinstance(condition, Leaf):
        return [condition]
    if isinstance(condition, Not):
        return leaves(condition.part)
    return [leaf for part in condition.parts for leaf in leaves(part)]


def score(condition: Condition, read: Read, tokens: int) -> float:
    """Score of a condition in [0, 1]; an unknown reading scores 0, also inside `not`."""
    return _compile(condition, {leaf.signal: leaf.signal for leaf in leaves(condition)})(read, tokens)


def _evidence(condition: Condition, read: Read, tokens: int, act_at: float) -> list[SignalRef]:
    """The signals that speak for the condition: those of its parts that hold."""
    if isinstance(condition, Not):
        return []
    if score(condition, read, tokens) < act_at:
        return []
    if isinstance(condition, Leaf):
        return [condition.signal]
    return [ref for part in condition.parts for ref in _evidence(part, read, tokens, act_at)]


def _compile(condition: Condition, shared: dict[SignalRef, SignalRef]) -> Score:
    """A closure that scores a condition; `shared` makes equal signals one object, which readers key on."""
    if isinstance(condition, Leaf):
        return _compile_leaf(condition, shared[condition.signal])
    if isinstance(condition, Not):
        inner = _compile(condition.part, shared)
        known = tuple(dict.fromkeys(shared[leaf.signal] for leaf in leaves(condition.part)))

        def negated(read: Read, tokens: int) -> float:
            if any(read(ref) != read(ref) for ref in known):  # only nan is not itself
                return 0.0
            return 1.0 - inner(read, tokens)

        return negated
    parts = tuple(_compile(part, shared) for part in condition.parts)
    return _least(parts) if isinstance(condition, All) else _greatest(parts)


def _least(parts: tuple[Score, ...]) -> Score:
    def least(read: Read, tokens: int) -> float:
        value = 1.0
        for part in parts:
            got = part(read, tokens)
            if got <= 0.0:
                return 0.0
            value = min(value, got)
        return value

    return least


def _greatest(parts: tuple[Score, ...]) -> Score:
    def greatest(read: Read, tokens: int) -> float:
        value = 0.0
        for part in parts:
            got = part(read, tokens)
            if got >= 1.0:
                return 1.0
            value = max(value, got)
        return value

    return greatest


def _compile_leaf(leaf: Leaf, ref: SignalRef) -> Score:
    zero, one, after = leaf.zero, leaf.one, leaf.after
    if leaf.step and one > zero:
        return lambda read, tokens: 1.0 if tokens >= after and read(ref) > zero else 0.0
    if leaf.step:
        return lambda read, tokens: 1.0 if tokens >= after and read(ref) < zero else 0.0
    span = one - zero

    def graded(read: Read, tokens: int) -> float:
        if tokens < after:
            return 0.0
        value = (read(ref) - zero) / span
        # Written so that nan, which compares false with everything, scores 0.
        return min(value, 1.0) if value > 0.0 else 0.0

    return graded
