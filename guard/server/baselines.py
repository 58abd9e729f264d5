"""
What each replica's acceptance looks like while it is healthy, learned from the answers that ended well.

A measured profile, where one is configured, is the start; what the traffic itself shows takes over once
there is enough of it. A deployment that is low throughout has a weak draft: said once, never acted on.
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import lt

import structlog

from guard.core.record import AttemptRecord, ExchangeRecord, Outcome
from guard.detect.baseline import Baseline
from guard.detect.learner import BaselineLearner
from guard.state.store import StateStore

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


class Baselines:
    """
    One learner for each replica.

    Args:
        measured: Baselines from profiles, by replica name.

    With a shared store, each guard adds the means that it saw and judges by those of all guards (`share`).
    """

    def __init__(self, measured: dict[str, Baseline]) -> None:
        self._measured = measured
        self._learners: dict[str, BaselineLearner] = {}
        self._told: set[str] = set()
        #: Means that the other guards have not been told of, by replica.
        self._unshared: dict[str, list[float]] = {}

    def of(self, replica: str) -> Baseline | None:
        """The baseline to judge a replica's streams by, if there is one."""
        learner = self._learners.get(replica)
        learned = learner.baseline() if learner is not None else None
        return learned or self._measured.get(replica)

    def measured_like(self, replica: str, other: str) -> None:
        """A replica of the same deployment as another: what was measured there holds for it."""
        if other in self._measured:
            self._measured[replica] = self._measured[other]

    def forget(self, replica: str) -> None:
        """A replica is gone for good."""
        for known in (self._measured, self._learners, self._unshared):
            known.pop(replica, None)

    def learn(self, record: ExchangeRecord) -> None:
        """Take in a finished exchange; only attempts that no rule objected to count."""
        if record.outcome not in (Outcome.HEALTHY, Outcome.RESCUED):
            return
        for attempt in record.attempts:
            if attempt.verdict == "pass" and not attempt.fault:
                self._learn(attempt)

    def _learn(self, attempt: AttemptRecord) -> None:
        accepted, judged = judged_tokens(attempt)
        if not judged:
            return
        learner = self._learners.get(attempt.replica)
        if learner is None:
            learner = self._learners[attempt.replica] = BaselineLearner()
        mean = learner.add(accepted, judged)
        if mean is not None:
            self._unshared.setdefault(attempt.replica, []).append(mean)
        self._tell_weak(attempt.replica, learner)

    async def share(self, store: StateStore, replicas: Iterable[str]) -> None:
        """
        Tell the store what was learned since the last time, and take over what all guards know.

        Args:
            store: Shared with the other guards.
            replicas: Names of all replicas, those without traffic here included.
        """
        for replica in sorted({*replicas, *self._unshared}):
            means = await store.share_means(replica, self._unshared.pop(replica, []))
            if means:
                # Streams may have ended meanwhile; they are told the next time.
                learner = BaselineLearner(means=[*means, *self._unshared.get(replica, ())])
                self._learners[replica] = learner
                self._tell_weak(replica, learner)

    def _tell_weak(self, replica: str, learner: BaselineLearner) -> None:
        if learner.weak_draft and replica not in self._told:
            self._told.add(replica)
            _log.warning(
                "weak draft: acceptance is low in nearly all streams, so a corrupted cache cannot show in it",
                replica=replica,
            )

    def report(self) -> dict[str, dict[str, object]]:
        """For the admin port: what is known of each replica."""
        names = sorted({*self._measured, *self._learners})
        return {name: self._line(name) for name in names}

    def _line(self, name: str) -> dict[str, object]:
        learner = self._learners.get(name)
        baseline = self.of(name)
        return {
            "probability": round(baseline.probability, 4) if baseline else None,
            "learned": learner is not None and learner.baseline() is not None,
            "streams": len(learner.means) if learner is not None else 0,
            "weak_draft": learner is not None and learner.weak_draft,
        }


def judged_tokens(attempt: AttemptRecord) -> tuple[int, int]:
    """
    Draft tokens kept, and draft tokens that the target model judged, of one attempt.

    A step judges those it kept and, unless it kept all, the first that it rejected; steps of unknown
    depth and steps without a draft judge none. Unit: tokens.
    """
    if attempt.drafted and min(attempt.drafted) > 0:  # nearly all attempts: no turn for every step
        kept = sum(attempt.accepted)
        return kept, kept + sum(map(lt, attempt.accepted, attempt.drafted))
    kept = judged = 0
    for accepted, drafted in zip(attempt.accepted, attempt.drafted, strict=True):
        if drafted > 0:
            kept += accepted
            judged += accepted + (accepted < drafted)
    return kept, judged
