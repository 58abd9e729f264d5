"""
Tests of policies: streams written down as segments, and what the policy must make of them.

Each stream goes through the very monitor that judges live traffic, one verify step at a time.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from guard.core.monitor import Monitor
from guard.data import data_dir
from guard.detect.baseline import MIN_WEIGHT, Baseline
from guard.errors import ConfigError
from guard.lab.policy_test_file import Expect, Suite, expected, read_tests, samples_of
from guard.policy.judge import Judge
from guard.policy.schema import Policy
from guard.shipped import find_policy, shipped_policies
from guard.types import Action, Sample, Verdict
from guard.yamldoc import nearest


class Outcome(NamedTuple):
    """What came of one stream: the verdict that acted, whether text was held, and the peak of suspicion."""

    verdict: Verdict | None
    held: bool
    tokens: int
    suspicion: float
    suspicion_token: int


class Failure(NamedTuple):
    """A test that failed: where it stands, and what was not as expected."""

    path: str
    line: int | None
    name: str
    wrong: list[str]
    outcome: Outcome

    def __str__(self) -> str:
        lines = [f"{self.path}:{self.line}: {self.name}", *(f"    {text}" for text in self.wrong)]
        verdict, got = self.outcome.verdict, self.outcome
        if verdict is None:
            lines.append(f"    the stream passed: {got.tokens} tokens{', some held' if got.held else ''}")
        else:
            lines.append(f"    {verdict.action} at token {verdict.token} by rule {verdict.rule}: {verdict.reason}")
        lines.append(f"    highest suspicion {got.suspicion:.2f}, at token {got.suspicion_token}")
        return "\n".join(lines)


class Report(NamedTuple):
    """What came of one file."""

    path: str
    policy: str
    tests: int
    failures: list[Failure]


def policy_test_command(given: Sequence[Path]) -> int:
    """
    `guard policy test`: run files of tests, each whatever is wrong with the others.

    Args:
        given: Files of tests, policies or folders; see `find_tests`.

    Returns:
        0 when all tests pass; 1 when one fails; 2 when a file is wrong.

    Raises:
        ConfigError: Nothing is there.
    """
    failed = wrong = False
    for path in find_tests(given):
        tests, faults = read_tests(path, find_policy)
        for fault in faults:
            print(fault, file=sys.stderr)
        if tests is None:
            wrong = True
            continue
        report = _run(tests)
        for failure in report.failures:
            print(failure, file=sys.stderr)
        failed = failed or bool(report.failures)
        print(f"{report.path}: {report.tests - len(report.failures)} of {report.tests} passed ({report.policy})")
    return 2 if wrong else 1 if failed else 0


def run_file(path: Path, find: Callable[[str], Policy]) -> Report:
    """
    Run the tests of one file.

    Args:
        path: The test file.
        find: Loads a policy by path or shipped name.

    Raises:
        ConfigError: The file or its policy is wrong; the first thing that is.
    """
    tests, faults = read_tests(path, find)
    if tests is None:
        raise faults[0]
    return _run(tests)


def _run(tests: Suite) -> Report:
    path, document, source, policy = tests
    judge = Judge(policy)
    failures: list[Failure] = []
    for index, test in enumerate(source.tests):
        where = f"tests[{index}]"
        given = test.baseline or source.baseline
        baseline = Baseline(given.probability, 10 * MIN_WEIGHT, given.k) if given else None
        outcome = run_stream(judge, samples_of(document, where, test, source), baseline, test.prompt)
        wrong = differences(expected(test), outcome)
        if wrong:
            failures.append(Failure(str(path), document.line(where), test.name, wrong, outcome))
    return Report(str(path), policy.name, len(source.tests), failures)


def run_stream(judge: Judge, samples: Iterable[Sample], baseline: Baseline | None, prompt: str = "") -> Outcome:
    """Judge a stream until a rule acts, or to its end; one that only holds is told where no other acts after it."""
    monitor = Monitor(judge, baseline, prompt)
    holding: Verdict | None = None
    held, tokens, peak, peak_token = False, 0, 0.0, 0
    for sample in samples:
        verdict = monitor.observe([sample])
        tokens += sample.tokens
        if verdict.suspicion > peak:
            peak, peak_token = verdict.suspicion, tokens
        if verdict.action is Action.HOLD:
            held = True
            holding = holding or (verdict if verdict.rule else None)
        elif verdict.rule:
            return Outcome(verdict, held, tokens, peak, peak_token)
    return Outcome(holding, held, tokens, peak, peak_token)


def differences(expect: Expect, outcome: Outcome) -> list[str]:
    """In which respects an outcome is not what was expected; empty when it is."""
    verdict, wrong = outcome.verdict, []
    action = verdict.action if verdict is not None else Action.PASS
    if action is not expect.action:
        wrong.append(f"expected {expect.action}, got {action}")
    elif verdict is not None:
        rules = (expect.rule,) if isinstance(expect.rule, str) else expect.rule
        if expect.kind is not None and verdict.kind is not expect.kind:
            wrong.append(f"expected kind {expect.kind}, got {verdict.kind}")
        if rules is not None and verdict.rule not in rules:
            wrong.append(f"expected rule {' or '.join(rules)}, got {verdict.rule}")
        if expect.by_token is not None and verdict.token > expect.by_token:
            wrong.append(f"expected it by token {expect.by_token}, got it at {verdict.token}")
        if expect.not_before_token is not None and verdict.token < expect.not_before_token:
            wrong.append(f"expected it not before token {expect.not_before_token}, got it at {verdict.token}")
    if expect.held is not None and outcome.held is not expect.held:
        wrong.append("text was held, but none should be" if outcome.held else "no text was held, but some should be")
    return wrong


def find_tests(given: Sequence[Path]) -> list[Path]:
    """
    Test files named themselves, by their policy (a file, or a shipped one by name), or by their folder.

    Raises:
        ConfigError: Nothing is there.
    """
    found: list[Path] = []
    for path in given:
        if str(path) in shipped_policies() and not path.exists():
            found.append(data_dir("policies") / f"{path}_test.yaml")
        elif path.is_dir():
            inside = sorted(path.glob("*_test.y*ml"))
            if not inside:
                raise ConfigError("the folder has no *_test.yaml", path=str(path))
            found += inside
        else:
            beside = path.with_stem(f"{path.stem}_test")
            if not path.suffix and not path.exists():
                says = f"no such file or folder, and no policy that ships: {nearest(str(path), shipped_policies())}"
                raise ConfigError(says, path=str(path))
            found.append(beside if not path.stem.endswith("_test") and beside.is_file() else path)
    return found
