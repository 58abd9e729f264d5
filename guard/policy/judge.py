"""From readings to a verdict."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from guard.policy.gates import Read, ReadAll, bits, gates_of
from guard.policy.prior import sharpened
from guard.policy.schema import All, Condition, HoldMode, Leaf, Not, Policy
from guard.types import Action, Cadence, Finding, SignalRef, Verdict

Find = Callable[[SignalRef], Finding]
Score = Callable[[Read, int], float]
#: Signal, bound, tokens ahead, whether it is passed upwards -> slack and share.
Slack = Callable[[SignalRef, float, int, bool], tuple[float, float]]

#: Of rules that act together the severest decides. Suspicion holds text beside a note as well.
_SEVERITY: Final = {action: rank for rank, action in enumerate(Action)}
#: What rises in loops.
_OF_LOOPS: Final = "acceptance_probability"


class JudgeState:
    """
    What a Judge remembers of one choice.

    Since which token each rule holds, which have noted, and what the text said of them when it last changed.
    """

    __slots__ = ("asked", "closed", "noted", "open", "page", "pages_open", "since", "text", "text_only")

    def __init__(self) -> None:
        self.since: dict[int, int] = {}
        self.noted: set[int] = set()
        #: Readings of acceptance count as unknown: something better has shown that they mean nothing here.
        self.text_only = False
        #: Blocks and pages of text at which the rest was found; None before.
        self.text: tuple[int, int] | None = None
        self.page = -1
        #: Rules behind an open gate on pages of text, and those that text alone may let score.
        self.pages_open: list[int] = []
        self.open: list[int] = []
        #: Rules, as bits, of which it is known whether this text rules them out, and those that it does.
        self.asked = self.closed = 0


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
        #: Whether a rule reads log-probabilities, which a backend only tells when asked.
        self.reads_logprobs = any(ref.of_logprobs for ref in self.refs)
        shared = {ref: ref for ref in self.refs}
        self._scores: tuple[Score, ...] = tuple(_compile(rule.when, shared) for rule in policy.rules)
        self._ceilings: tuple[Score | None, ...] = tuple(
            # A single reading that has passed its gate scores.
            None if isinstance(rule.when, Leaf) else _ceiling(rule.when, shared)
            for rule in policy.rules
        )
        self._gates = gates_of([rule.when for rule in policy.rules], shared)
        self._step_rules = self._gates.steps.mask
        #: Rules that look at loops, which change with each block of text.
        self._block_rules = bits(
            index
            for index, rule in enumerate(policy.rules)
            if any(leaf.signal.cadence is Cadence.BLOCK for leaf in leaves(rule.when))
        )
        self._hold_at = policy.hold_back.hold_at
        self._act_at = policy.hold_back.act_at
        self._holds = policy.hold_back.mode is not HoldMode.OFF
        # Where nothing is ever held, the suspicion of rules that only note is worth showing.
        self._suspects = tuple(not self._holds or rule.action is not Action.NOTE for rule in policy.rules)
        self._sharper: dict[tuple[float, tuple[str, ...]], Judge] = {}

    def sharper(self, evidence: float, kinds: tuple[str, ...]) -> Judge:
        """The judge of `sharpened` rules, on the same signals; compiled once."""
        found = self._sharper.get((evidence, kinds))
        if found is None:
            found = self._sharper[evidence, kinds] = Judge(sharpened(self.policy, evidence, kinds), self.refs)
        return found

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
        return self.weigh(self.suspects(read, state, text), read, finding, tokens, choice, state)

    def suspects(
        self, read: Read, state: JudgeState, text: tuple[int, int] | None = None, read_all: ReadAll | None = None
    ) -> list[int]:
        """
        Rules that may score above 0, in their order; the first half of `decide`. Most often there are none.

        What keeps a rule at 0 is looked for in the text first: it changes with a page, acceptance with every chunk.
        Once a page rules out all rules that a fall of acceptance could wake, acceptance is not read until the next.

        Args:
            read: As of `decide`.
            state: The same.
            text: The same.
            read_all: The same readings, of several signals in one call.
        """
        if state.text_only:
            read, read_all = _text_only(read), None
        # By value: in a compiled build the same pair is another object each time it is read.
        if text is None or text != state.text:
            self._read_text(read, state, text, read_all)
        if not self._step_rules & ~state.closed:
            return state.open
        opened = self._gates.steps.open(read, state.closed)
        if opened:
            opened = self._left(opened, read, state)
        return sorted({*state.open, *opened}) if opened else state.open

    def slack(self, read: Read | None, slack: Slack, ahead: int, state: JudgeState) -> tuple[float, float] | None:
        """
        How much may be rejected before a verify step could raise suspicion, the text being as it is.

        Args:
            read: Reading of a signal; None while the latest text is not read yet. Then all rules that low acceptance
                wakes must be far from waking, whatever the text. Those that high acceptance wakes speak of loops, which
                take their time: what was read last may rule them out.
            slack: How far a reading of acceptance is from a bound: see `guard.detect.acceptance`.
            ahead: Most tokens that will come. Unit: tokens.
            state: Of the choice, after `suspects`.

        Returns:
            Slack and share, the worst of all rules; None where the next step could raise it.
        """
        if state.open or state.since:
            return None
        if state.text_only:
            return (math.inf, 0.0) if read is not None else None
        least, most, steps = math.inf, 0.0, self._gates.steps
        for gates, rising in ((steps.rising, True), (steps.falling, False)):
            for ref, bound, rules, mask in gates:
                if not mask & ~state.closed and (read is not None or (rising and ref.name == _OF_LOOPS)):
                    continue
                value, share = slack(ref, bound, ahead, rising)
                if value >= 0.0:
                    least, most = min(least, value), max(most, share)
                elif read is None or self._left([index for index, _ in rules], read, state):
                    return None
        return least, most

    def weigh(
        self, suspects: list[int], read: Read, finding: Find, tokens: int, choice: int, state: JudgeState
    ) -> Verdict:
        """The second half of `decide`: what `suspects` come to."""
        if not suspects:
            if state.since:
                state.since.clear()
            return Verdict(Action.PASS, 0.0, None, "", choice, tokens)
        if state.text_only:
            read = _text_only(read)
        suspicion, acting = self._weigh(suspects, read, tokens, state)
        rule = self.policy.rules[acting] if acting is not None else None
        if acting is None or rule is None or (rule.action is Action.HOLD and not self._holds):
            held = self._holds and suspicion >= self._hold_at
            return Verdict(Action.HOLD if held else Action.PASS, suspicion, None, "", choice, tokens)
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

    def _read_text(self, read: Read, state: JudgeState, text: tuple[int, int] | None, read_all: ReadAll | None) -> None:
        """The text has grown: which rules may it let score?"""
        gates, page = self._gates, text[1] if text is not None else -1
        if text is None or page != state.page:
            state.page = page
            state.asked = state.closed = 0
            state.pages_open = gates.pages.open(read) if read_all is None else gates.pages.open_of_all(read_all)
        else:
            # The same pages: only rules that look at loops are asked again.
            state.asked &= ~self._block_rules
            state.closed &= ~self._block_rules
        state.text = text
        blocks = gates.blocks.open(read) if read_all is None else gates.blocks.open_of_all(read_all)
        opened = [*blocks, *state.pages_open, *gates.always]
        state.open = sorted(set(self._left(opened, read, state))) if opened else opened

    def _left(self, rules: list[int], read: Read, state: JudgeState) -> list[int]:
        """Those of the rules that the text does not rule out, whatever acceptance may be."""
        left: list[int] = []
        for index in rules:
            bit = 1 << index
            if not state.asked & bit:
                state.asked |= bit
                ceiling = self._ceilings[index]
                if ceiling is not None and ceiling(read, 0) <= 0.0:
                    state.closed |= bit
            if not state.closed & bit:
                left.append(index)
        return left

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
    parts = tuple(_compile(part, shared) for part in _cheap_first(condition.parts))
    return _least(parts) if isinstance(condition, All) else _greatest(parts)


def _ceiling(condition: Condition, shared: dict[SignalRef, SignalRef]) -> Score | None:
    """
    The most a condition can score on the text as it is, whatever acceptance and the count of tokens may become.

    None where the text says nothing of it.
    """
    if isinstance(condition, Not):
        fixed = all(leaf.signal.cadence is not Cadence.STEP and not leaf.after for leaf in leaves(condition))
        return _compile(condition, shared) if fixed else None
    if isinstance(condition, Leaf):
        if condition.signal.cadence is Cadence.STEP:
            return None
        return _compile_leaf(msgspec.structs.replace(condition, after=0), shared[condition.signal])
    parts = [_ceiling(part, shared) for part in _cheap_first(condition.parts)]
    known = tuple(part for part in parts if part is not None)
    if not known or (len(known) < len(parts) and not isinstance(condition, All)):
        return None
    return _least(known) if isinstance(condition, All) else _greatest(known)


def _cheap_first(parts: Iterable[Condition]) -> list[Condition]:
    """
    Parts that read what is kept before those that read what is worked out from the text when it is read.

    The least and the greatest of them are the same in any order, and most often the first ones decide.
    """
    return sorted(parts, key=lambda part: max(leaf.signal.cost for leaf in leaves(part)))


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
