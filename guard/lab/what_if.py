"""
Two policies over the same recorded streams, and where they differ: `python -m guard.lab.what_if`.

Started by the dashboard as a process of its own. A Task (guard/server/what_if.py) comes on standard input, the
outcome goes to standard output as JSON; exit code 2 with a line on standard error when it cannot be done.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TextIO

import msgspec

from guard.detect.baseline import Baseline
from guard.detect.catalogue import CATALOGUE
from guard.errors import GuardError
from guard.lab.backtest import Figures, baselines_for, figures
from guard.lab.cases import Case, read_cases
from guard.lab.tries import Tried, backtest
from guard.policy.load import load_policy
from guard.server.what_if import Task

#: Most streams and verify steps that are tried, the newest files first.
MOST_CASES, MOST_CHUNKS = 2000, 400_000
#: Most differences told one by one.
MOST_CHANGES = 200


class Decision(msgspec.Struct, frozen=True):
    """What one policy made of a stream: its action, rule and reason, and the token at which it fell."""

    action: str
    rule: str
    token: int
    reason: str


class Change(msgspec.Struct, frozen=True):
    """A stream on which the two differ."""

    id: str
    label: str
    tokens: int
    before: Decision
    after: Decision


class Outcome(msgspec.Struct, frozen=True):
    """
    All of it.

    Args:
        streams: Streams tried.
        left_out: Whether there were more.
        before: Figures of the policy in force.
        after: Figures of the edited one.
        stopped: Streams that each stops, before and after.
        newly: Streams that only the edited one stops.
        no_longer: Streams that only the one in force stops.
        changes: Differences one by one, also those in rule or token alone.
    """

    streams: int
    left_out: bool
    before: Figures
    after: Figures
    stopped: tuple[int, int]
    newly: int
    no_longer: int
    changes: list[Change]


def try_both(task: Task) -> Outcome:
    """
    Run both policies over the streams.

    Args:
        task: What the dashboard asked.

    Raises:
        ConfigError: A policy or a file is wrong.
    """
    policy = load_policy(task.policy, CATALOGUE)
    edited = load_policy(task.edited, CATALOGUE)
    source = (case for path in task.files for case in read_cases(Path(path)))
    cases = list(_bounded(source))
    known: dict[int, Baseline] = {}
    if task.baseline is not None:
        known = baselines_for(str(task.baseline), (case.num_speculative_tokens for case in cases))
    before, after = backtest(policy, cases, known), backtest(edited, cases, known)
    pairs = list(zip(before, after, strict=True))
    changes = [_change(one, other) for one, other in pairs if _decision(one) != _decision(other)]
    # What is stopped or no longer stopped is told before what is only stopped elsewhere.
    changes.sort(key=lambda change: (change.before.action in _STOPS) == (change.after.action in _STOPS))
    return Outcome(
        streams=len(cases),
        left_out=next(source, None) is not None,
        before=figures(policy.name, before),
        after=figures(edited.name, after),
        stopped=(sum(one.result.acted for one in before), sum(one.result.acted for one in after)),
        newly=sum(other.result.acted and not one.result.acted for one, other in pairs),
        no_longer=sum(one.result.acted and not other.result.acted for one, other in pairs),
        changes=changes[:MOST_CHANGES],
    )


_STOPS = ("retry", "cut")


def _bounded(cases: Iterable[Case]) -> Iterator[Case]:
    chunks = 0
    for case in islice(cases, MOST_CASES):
        yield case
        chunks += len(case.chunks)
        if chunks >= MOST_CHUNKS:
            return


def _decision(tried: Tried) -> Decision:
    result = tried.result
    return Decision(result.action.value, result.rule, result.token, result.reason)


def _change(one: Tried, other: Tried) -> Change:
    case = one.case
    return Change(case.id, case.kind.value, case.tokens, _decision(one), _decision(other))


def main(source: TextIO = sys.stdin, to: TextIO = sys.stdout) -> int:
    """
    Read a task, write its outcome.

    Args:
        source: Where the task comes from.
        to: Where the outcome goes.

    Returns:
        Exit code.
    """
    try:
        outcome = try_both(msgspec.json.decode(source.read(), type=Task))
    except (GuardError, msgspec.MsgspecError) as error:
        print(f"guard: {error}", file=sys.stderr)
        return 2
    to.write(msgspec.json.encode(outcome).decode())
    return 0


if __name__ == "__main__":
    os.nice(10)  # streams come first
    raise SystemExit(main())
