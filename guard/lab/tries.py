"""Cases tried on a policy, in this process or in several, each in memory while it runs alone."""

from __future__ import annotations

import enum
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from guard.detect.baseline import Baseline
from guard.lab.case_files import CaseFiles
from guard.lab.cases import Case, CaseKind, CaseResult, run_case
from guard.lab.long_run import counted, deaf
from guard.policy.judge import Judge
from guard.policy.schema import Policy

#: Chunks below which starting further processes costs more than it saves.
PARALLEL_CHUNKS = 200_000
#: Cases that a process is handed at once: as many are in memory for each.
MOST_AT_ONCE = 8


class Outcome(enum.StrEnum):
    """A verdict held against the label, what needs looking at first."""

    FALSE_POSITIVE = "false positive"
    EARLY = "too early"
    MISSED = "missed"
    DETECTED = "detected"
    CLEAN = "clean"
    RESCORE = "re-score only"


class Tried(NamedTuple):
    """One case and what the policy made of it."""

    case: Case
    result: CaseResult

    @property
    def outcome(self) -> Outcome:
        """See Outcome."""
        case, result = self
        if case.kind is CaseKind.RESCORE_ONLY:
            return Outcome.RESCORE
        if case.kind is CaseKind.HEALTHY:
            return Outcome.FALSE_POSITIVE if result.acted else Outcome.CLEAN
        if not result.acted:
            return Outcome.MISSED
        return Outcome.DETECTED if result.token >= (case.first_bad_token or 0) else Outcome.EARLY

    @property
    def delay(self) -> int | None:
        """Tokens from the onset to the verdict of a detected case."""
        if self.outcome is not Outcome.DETECTED:
            return None
        return self.result.token - (self.case.first_bad_token or 0)

    @property
    def bad_shown(self) -> int | None:
        """Tokens after the onset that the client of a detected case had by then."""
        if self.outcome is not Outcome.DETECTED:
            return None
        return max(self.result.shown - (self.case.first_bad_token or 0), 0)


_Draw = Callable[[Policy, Tried], str]


class Drawing(NamedTuple):
    """
    What a report takes of each case while the case is in memory with its trace.

    Args:
        draw: A function of a module, as further processes call it too; the result has its trace.
        keep: Told what was drawn, in this process and in the order of the cases.
    """

    draw: _Draw
    keep: Callable[[str], None]


def backtest(
    policy: Policy,
    cases: Sequence[Case] | CaseFiles,
    baselines: dict[int, Baseline] | None = None,
    *,
    jobs: int = 1,
    drawing: Drawing | None = None,
    show: bool = False,
) -> list[Tried]:
    """
    Run all cases.

    Args:
        policy: A checked policy.
        cases: What to run it on. Of files, the results have each case's head alone.
        baselines: Healthy acceptance by draft depth, where known.
        jobs: Processes to share the work, when there is enough of it.
        drawing: What is to be drawn of each.
        show: Whether a run that takes long tells how far it is, if there is a terminal.

    Returns:
        In the order given, without their traces.
    """
    if isinstance(cases, CaseFiles):
        heads, chunks = cases.heads, cases.chunks
    else:
        heads, chunks = list(cases), sum(len(case.chunks) for case in cases)
    work = ((case, (baselines or {}).get(case.num_speculative_tokens)) for case in cases)
    draw, keep = drawing if drawing is not None else (None, None)
    if jobs < 2 or chunks < PARALLEL_CHUNKS:
        judge = Judge(policy)
        return _together(heads, (_run(judge, draw, *each) for each in work), keep, show=show)
    # Fresh interpreters rather than forks: a fork of a process with threads can hang.
    context = multiprocessing.get_context("spawn")
    with deaf():
        pool = context.Pool(jobs, _start_worker, (policy, draw))
    with pool:
        batch = max(1, min(MOST_AT_ONCE, len(heads) // (8 * jobs)))
        return _together(heads, pool.imap(_run_one, work, chunksize=batch), keep, show=show)


def _together(
    cases: Sequence[Case],
    results: Iterable[tuple[CaseResult, str]],
    keep: Callable[[str], None] | None,
    *,
    show: bool,
) -> list[Tried]:
    def each() -> Iterator[Tried]:
        for case, (result, drawn) in zip(cases, results, strict=True):
            if keep is not None:
                keep(drawn)
            yield Tried(case, result)

    return list(counted(each(), len(cases)) if show else each())


def _run(judge: Judge, draw: _Draw | None, case: Case, baseline: Baseline | None) -> tuple[CaseResult, str]:
    """A case's result without its trace, and what was drawn of it."""
    result = run_case(judge, case, baseline, trace=draw is not None)
    if draw is None:
        return result, ""
    drawn = draw(judge.policy, Tried(case, result))
    return msgspec.structs.replace(result, suspicion=(), acceptance=()), drawn


_worker: tuple[Judge, _Draw | None] | None = None


def _start_worker(policy: Policy, draw: _Draw | None) -> None:
    global _worker  # noqa: PLW0603 - a worker process serves one policy for its whole life
    _worker = Judge(policy), draw


def _run_one(work: tuple[Case, Baseline | None]) -> tuple[CaseResult, str]:
    assert _worker is not None
    return _run(*_worker, *work)
