"""Joins detectors and policy for one attempt: samples in, the worst verdict out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from guard.detect.bank import DetectorBank
from guard.detect.baseline import Baseline
from guard.detect.told import bank_for
from guard.policy.judge import Judge, JudgeState
from guard.types import Action, Channel, Sample, Verdict

#: Choices of one request that are judged; the rest pass unwatched (memory stays bounded).
MAX_CHOICES: Final = 64

#: Most of an answer's text that the detectors of its continuation are given: more than any of them looks back.
#: Unit: characters.
MAX_RECALL: Final = 8192

#: Text that passes before a look while acceptance alone shows that all is well. Unit: characters.
MOST_WAITING: Final = 128

CLEAN: Final = Verdict(action=Action.PASS, suspicion=0.0)


class Leeway:
    """
    What may follow before anything can be suspected.

    Args:
        room: Characters with which a reading of text may change; where text `waits`, those that may. Unit: characters.
        slack, share: While the slack, to which each step adds accepted - share * judged, is not below 0, acceptance
            wakes no rule that the text has not ruled out.
        waits: Whether acceptance alone shows that all is well, so that text may wait for the look after the next one,
            should acceptance still show it then.
    """

    __slots__ = ("room", "share", "slack", "waits")

    def __init__(self, room: int, slack: float, share: float, *, waits: bool = False) -> None:
        self.room = room
        self.slack = slack
        self.share = share
        self.waits = waits


class Watched:
    """
    What is kept of one choice.

    Args:
        bank: Its detectors.
        state: The judge's memory of it.
    """

    __slots__ = ("bank", "calm_at", "state", "suspicion")

    def __init__(self, bank: DetectorBank, state: JudgeState) -> None:
        self.bank = bank
        self.state = state
        #: Version of the readings at which nothing was suspected; -1 while something is.
        self.calm_at = -1
        self.suspicion = 0.0


class Monitor:
    """
    Detector state and judge state of every choice of one attempt.

    Args:
        judge: The compiled policy.
        baseline: Healthy acceptance of the deployment, if known.
        prompt: What the user asked: a passage asked for is no loop, a script asked for not rare.
    """

    def __init__(self, judge: Judge, baseline: Baseline | None, prompt: str = "") -> None:
        self._judge = judge
        self._baseline = baseline
        self._prompt = prompt
        self._choices: dict[int, Watched] = {}
        #: By choice; by ~choice what another measure suspects of it.
        self._suspicion: dict[int, float] = {}
        self.suspicion = 0.0
        #: Highest suspicion so far.
        self.peak = 0.0

    @property
    def calm(self) -> bool:
        """Whether nothing is suspected of any choice, and no rule waits for how long it holds."""
        if self.suspicion != 0.0:
            return False
        for watched in self._choices.values():  # noqa: SIM110 - a generator costs more than the look
            if watched.state.since:
                return False
        return True

    def prepare(self) -> None:
        """Make the detectors of the first choice before its first words come."""
        if not self._choices:
            self._choices[0] = self._new_choice()

    def leeway(self, channel: Channel, ahead: int) -> Leeway | None:
        """
        How much of a channel of the first choice may follow before anything can be suspected; None while the very
        next verify step could raise suspicion.

        Args:
            channel: Whose text follows.
            ahead: Most tokens that will. Unit: tokens.
        """
        watched = self._choices.get(0)
        if watched is None or watched.suspicion != 0.0:
            return None
        return leeway(self._judge, watched.bank, watched.state, channel, ahead)

    def take_ahead(self, counts: bytes) -> None:
        """Take in verify steps of the first choice, whose text comes with its next sample; see `DetectorBank`."""
        watched = self._choices.get(0)
        if watched is None:
            watched = self._choices[0] = self._new_choice()
        watched.bank.take_ahead(counts)

    def slack_alone(self, channel: Channel, ahead: int) -> tuple[float, float] | None:
        """
        Slack and share as of Leeway, if acceptance alone shows that nothing can be suspected meanwhile.

        Args:
            channel: Whose text follows.
            ahead: Most tokens that will follow before the next look. Unit: tokens.
        """
        watched = self._choices[0]
        return slack_alone(self._judge, watched.bank, watched.state, channel, ahead)

    def observe(self, samples: Sequence[Sample]) -> Verdict:
        """
        Feed one chunk's samples.

        Returns:
            The verdict that asks for most among the choices in these samples; `suspicion` of the
            monitor is the highest over all choices of the attempt.
        """
        worst = CLEAN
        choices, judge = self._choices, self._judge
        for sample in samples:
            watched = choices.get(sample.choice)
            if watched is None:
                if len(choices) >= MAX_CHOICES:
                    continue
                watched = choices[sample.choice] = self._new_choice()
            bank = watched.bank
            bank.observe(sample)
            if bank.version == watched.calm_at:
                continue  # no reading has changed since the judge found nothing
            state = watched.state
            suspects = judge.suspects(bank.read, state, bank.text, bank.read_all)
            if not suspects and not state.since and watched.suspicion == 0.0:
                watched.calm_at = bank.version
                continue
            verdict = judge.weigh(suspects, bank.read, bank.finding, bank.tokens, sample.choice, state)
            self._suspect(sample.choice, watched, verdict.suspicion)
            watched.calm_at = bank.version if verdict.suspicion == 0.0 else -1
            if _gravity(verdict) > _gravity(worst):
                worst = verdict
        self.peak = max(self.peak, self.suspicion)
        return worst

    def _suspect(self, choice: int, watched: Watched, suspicion: float) -> None:
        """Keep a choice's suspicion; the monitor's own is the highest."""
        if suspicion != watched.suspicion:
            watched.suspicion = self._suspicion[choice] = suspicion
            self.suspicion = max(self._suspicion.values())

    def watched(self) -> list[tuple[int, Watched]]:
        """What is known of each choice."""
        return list(self._choices.items())

    def tokens(self, choice: int) -> int:
        """Tokens of a choice so far. Unit: tokens."""
        return self._choices[choice].bank.tokens

    def suspect_also(self, choice: int, suspicion: float) -> None:
        """Take in what another measure suspects of a choice."""
        self._suspicion[~choice] = suspicion
        self.suspicion = max(self._suspicion.values())
        self.peak = max(self.peak, self.suspicion)

    def rest_on_text(self) -> Verdict:
        """
        The cache was proven right, so low or high acceptance is the draft's doing: from here on readings of it count
        as unknown.

        Returns:
            The verdict that asks for most among all choices, by text alone.
        """
        worst = CLEAN
        for choice, watched in self._choices.items():
            watched.state.text_only = True
            bank = watched.bank
            verdict = self._judge.decide(bank.read, bank.finding, bank.tokens, choice, watched.state, None)
            self._suspect(choice, watched, verdict.suspicion)
            watched.calm_at = -1
            if _gravity(verdict) > _gravity(worst):
                worst = verdict
        return worst

    def recall(self, text: str, tokens: int) -> None:
        """
        The first choice continues a text that was judged before: detectors take it in, nothing is decided on it.

        A loop that goes on over the joint is then found as soon as without one.

        Args:
            text: The answer so far.
            tokens: In it. Unit: tokens.
        """
        watched = self._choices[0] = self._new_choice()
        tail = text[-MAX_RECALL:]
        near = tokens * len(tail) // max(len(text), 1)
        watched.bank.observe(Sample(0, (), tokens - near))
        watched.bank.observe(Sample(0, ((Channel.CONTENT, tail),), near))

    def forget(self, choice: int) -> None:
        """A choice was ended: what it was suspected of no longer counts."""
        self._suspicion.pop(choice, None)
        self._suspicion.pop(~choice, None)
        if choice in self._choices:
            self._choices[choice].suspicion = 0.0
        self.suspicion = max(self._suspicion.values(), default=0.0)

    def _new_choice(self) -> Watched:
        judge = self._judge
        bank = bank_for(judge.refs, self._baseline, self._prompt, told=judge.reads_logprobs)
        return Watched(bank, judge.state())


def leeway(judge: Judge, bank: DetectorBank, state: JudgeState, channel: Channel, ahead: int) -> Leeway | None:
    """By one judge; see `Monitor.leeway`."""
    alone = slack_alone(judge, bank, state, channel, ahead)
    if alone is None:
        found = judge.slack(bank.read, bank.slack, ahead, state)
        if found is None:
            return None
        # By now it is known which rules the text rules out.
        alone = slack_alone(judge, bank, state, channel, ahead)
        if alone is None:
            return Leeway(bank.room(channel), *found)
    return Leeway(MOST_WAITING, *alone, waits=True)


def slack_alone(
    judge: Judge, bank: DetectorBank, state: JudgeState, channel: Channel, ahead: int
) -> tuple[float, float] | None:
    """By one judge; see `Monitor.slack_alone`."""
    return judge.slack(None, bank.slack, ahead, state) if bank.is_ordinary(channel) else None


_ORDER: Final = {action: rank for rank, action in enumerate(Action)}


def _gravity(verdict: Verdict) -> tuple[int, float]:
    return _ORDER[verdict.action], verdict.suspicion
