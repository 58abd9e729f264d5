"""
Files of tests of policies: their form, their streams, and all that is wrong with one.

A test file stands beside its policy (`default.yaml`, `default_test.yaml`) and writes its streams down as segments.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from guard.data import read_text
from guard.errors import ConfigError
from guard.policy.schema import Policy
from guard.shipped import policy_faults
from guard.types import Action, Channel, Kind, Sample, StepAcceptance
from guard.yamldoc import Document, nearest, to_struct
from guard.yamlfaults import Faults

#: Longest stream of one test. Unit: tokens.
MAX_TOKENS = 200_000

Positive = Annotated[int, Meta(ge=1)]
Count = Annotated[int, Meta(ge=0)]


class Draw(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    Text drawn at random, the same at every run.

    Args:
        pieces: What is drawn from.
        count: How many are drawn.
        seed: Another one draws another text.
    """

    pieces: tuple[str, ...]
    count: Annotated[int, Meta(ge=1, le=20_000)]
    seed: int = 7


class Segment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    A stretch of a stream. Exactly one of text, use, draw.

    Args:
        text: The text itself.
        use: Name of one of the file's `texts`.
        draw: Text drawn at random.
        repeat: How often it is said.
        numbered: Each {n} in it becomes the number of the repeat, from 1.
        skip: So many are left out at its start. Unit: characters.
        characters: Of the rest, only so many are taken. Unit: characters.
        accepted: Draft tokens kept in each verify step, over and over; a single number stands for a list
            of one. The stream shows no acceptance where neither it nor the file gives any, or with [].
        drafted: Draft tokens proposed in each step.
        token_characters: Characters that make a token.
        channel: Where in the message it stands.
        logprob: Log-probability of each of its tokens; none are told if left out. Unit: nats.
    """

    text: str | None = None
    use: str | None = None
    draw: Draw | None = None
    repeat: Annotated[int, Meta(ge=1, le=20_000)] = 1
    numbered: bool = False
    skip: Count = 0
    characters: Positive | None = None
    accepted: Count | tuple[Count, ...] | None = None
    drafted: Positive | None = None
    token_characters: Positive = 4
    channel: Channel = Channel.CONTENT
    logprob: Annotated[float, Meta(le=0)] | None = None


class Expect(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    What the policy must make of a stream; what is left out may be anything.

    Args:
        action: The first action taken; `pass` when none must be.
        kind: What the verdict says is wrong.
        rule: The rule that decides, or several of which one does.
        by_token: Latest token of the verdict.
        not_before_token: Earliest token of the verdict.
        held: Whether text waits at some point before the verdict, or at all where there is none.
    """

    action: Action
    kind: Kind | None = None
    rule: str | tuple[str, ...] | None = None
    by_token: Positive | None = None
    not_before_token: Positive | None = None
    held: bool | None = None


class BaselineSource(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Healthy acceptance of the deployment: chance that a judged draft token is kept, and the draft depth."""

    probability: Annotated[float, Meta(gt=0, le=1)]
    k: Positive = 3


class Case(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    One stream and what must come of it.

    Args:
        prompt: What the user asked; not known if left out.
    """

    name: str
    stream: tuple[Segment, ...]
    expect: Action | Expect
    baseline: BaselineSource | None = None
    prompt: str = ""


class CaseFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    A file of tests.

    Args:
        tests: The tests.
        policy: A shipped policy, or a file beside this one; the name without `_test` if left out.
        texts: Texts used more than once, by name.
        texts_from: Test file beside this one whose texts can be used too.
        baseline: For all tests that give none themselves.
        accepted: For all segments that give none themselves.
        drafted: For all segments that give none themselves.
    """

    tests: tuple[Case, ...]
    policy: str | None = None
    texts: dict[str, str] = {}
    texts_from: str | None = None
    baseline: BaselineSource | None = None
    accepted: Count | tuple[Count, ...] | None = None
    drafted: Positive = 3


class Suite(NamedTuple):
    """
    A file of tests that is right.

    Args:
        path: The file.
        document: Its text, for the lines.
        source: What it says, with the texts that it borrows.
        policy: The policy that it tests.
    """

    path: Path
    document: Document
    source: CaseFile
    policy: Policy


def read_tests(path: Path, find: Callable[[str], Policy]) -> tuple[Suite | None, list[ConfigError]]:
    """
    Read a file of tests and its policy.

    Args:
        path: The test file.
        find: Loads a policy by path or shipped name.

    Returns:
        The file, if nothing is wrong; and all that is wrong with it and its policy, as far as one look can tell.
    """
    faults, of_policy = Faults(), list[ConfigError]()
    try:
        document = Document(read_text(path), str(path))
    except ConfigError as error:
        return None, [error]
    if isinstance(document.data, dict) and "tests" not in document.data and "version" in document.data:
        missing = path.with_stem(f"{path.stem}_test").name
        return None, [ConfigError(f"it is a policy, and its tests belong beside it, in {missing}", path=str(path))]

    def read() -> Suite | None:
        return _read(document, path, find, of_policy)

    tests = faults.look(read, lambda error: document if error.path == document.path else None)
    unborrowed = faults.left_out("texts") or faults.left_out("texts_from")
    own = [error for error in faults.in_order if not (unborrowed and error.where.endswith(".use"))]
    wrong = [*of_policy, *own]
    return (tests if not wrong else None), wrong


def _read(document: Document, path: Path, find: Callable[[str], Policy], of_policy: list[ConfigError]) -> Suite | None:
    """The file as it is now; None where it is right and its policy, whose faults are told, is not."""
    of_policy.clear()
    source = to_struct(document, CaseFile)
    if not source.tests:
        document.fail("tests", "a test file needs at least one test")
    if source.texts_from is not None:
        texts = _borrowed(document, path.parent / source.texts_from) | source.texts
        source = msgspec.structs.replace(source, texts=texts)
    policy = _policy_of(document, source, path, find, of_policy)
    for index, test in enumerate(source.tests):
        if policy is not None:
            _check(document, f"tests[{index}]", expected(test), policy)
        samples_of(document, f"tests[{index}]", test, source)
    return Suite(path, document, source, policy) if policy is not None else None


def expected(test: Case) -> Expect:
    """What must come of a test, written out."""
    return test.expect if isinstance(test.expect, Expect) else Expect(action=test.expect)


def _borrowed(document: Document, path: Path) -> dict[str, str]:
    try:
        text = read_text(path)
    except ConfigError as error:
        document.fail("texts_from", str(error))
    return to_struct(Document(text, str(path)), CaseFile).texts


def _policy_of(
    document: Document, source: CaseFile, path: Path, find: Callable[[str], Policy], wrong: list[ConfigError]
) -> Policy | None:
    name = _policy_name(document, source, path)
    try:
        return find(name)
    except ConfigError as error:
        if error.line is not None:
            wrong += policy_faults(name) or [error]
            return None
        ways = "" if source.policy is not None else "; name the policy, or call the file after it: NAME_test.yaml"
        document.fail("policy", f"{error}{ways}")


def _policy_name(document: Document, source: CaseFile, path: Path) -> str:
    if source.policy is not None:
        beside = path.parent / source.policy
        return str(beside) if beside.suffix in (".yaml", ".yml") else source.policy
    if not path.stem.endswith("_test"):
        document.fail("policy", "name the policy, or call the file after it: NAME_test.yaml")
    return str(path.with_stem(path.stem.removesuffix("_test")))


def _check(document: Document, where: str, expect: Expect, policy: Policy) -> None:
    """Refuse expectations that no stream could meet."""
    where = f"{where}.expect"
    if expect.action is Action.HOLD and not any(rule.action is Action.HOLD for rule in policy.rules):
        document.fail(f"{where}.action", "no rule holds as its action; write held: true")
    rules = (expect.rule,) if isinstance(expect.rule, str) else expect.rule or ()
    known = [rule.name for rule in policy.rules]
    for name in rules:
        if name not in known:
            document.fail(f"{where}.rule", f"{policy.name} has no rule {name!r}; {nearest(name, known)}")
    details = ("kind", "rule", "by_token", "not_before_token")
    stray = next((name for name in details if getattr(expect, name) is not None), None)
    if expect.action is Action.PASS and stray:
        document.fail(f"{where}.{stray}", "belongs to a verdict; where nothing acts there is none")
    first, last = expect.not_before_token, expect.by_token
    if first is not None and last is not None and first > last:
        document.fail(f"{where}.by_token", f"must not be before not_before_token ({first})")


def samples_of(document: Document, where: str, test: Case, source: CaseFile) -> list[Sample]:
    """
    A test's stream, one verify step or one token a sample.

    Raises:
        ConfigError: A segment is wrong.
    """
    if not test.stream:
        document.fail(f"{where}.stream", "a stream needs at least one segment")
    samples: list[Sample] = []
    sent = 0
    for index, segment in enumerate(test.stream):
        place = f"{where}.stream[{index}]"
        text = _text(document, place, segment, source.texts)
        accepted = segment.accepted if segment.accepted is not None else source.accepted
        drafted = segment.drafted or source.drafted
        pattern = (accepted,) if isinstance(accepted, int) else accepted or ()
        if max(pattern, default=0) > drafted:
            document.fail(f"{place}.accepted", f"needs numbers from 0 to drafted ({drafted})")
        size = segment.token_characters
        tokens = [text[start : start + size] for start in range(0, len(text), size)]
        sent += len(tokens)
        if sent > MAX_TOKENS:
            document.fail(place, f"the stream has more than {MAX_TOKENS} tokens")
        for sample in _steps(tokens, pattern, drafted, segment.channel):
            if segment.logprob is not None:
                sample.logprobs = (segment.logprob,) * sample.tokens
            samples.append(sample)
    return samples


def _text(document: Document, where: str, segment: Segment, texts: dict[str, str]) -> str:
    given = [name for name in ("text", "use", "draw") if getattr(segment, name) is not None]
    if len(given) != 1:
        document.fail(where, f"a segment has exactly one of text, use, draw; found {' and '.join(given) or 'none'}")
    text = segment.text or ""
    if segment.use is not None:
        if segment.use not in texts:
            document.fail(f"{where}.use", f"no text is called {segment.use!r}; {nearest(segment.use, texts)}")
        text = texts[segment.use]
    if segment.draw is not None:
        dice = random.Random(segment.draw.seed)
        text = "".join(dice.choice(segment.draw.pieces or ("",)) for _ in range(segment.draw.count))
    if segment.numbered:
        text = "".join(text.replace("{n}", str(number)) for number in range(1, segment.repeat + 1))
    else:
        text *= segment.repeat
    text = text[segment.skip :][: segment.characters]
    if not text:
        document.fail(where, "the segment has no text")
    return text


def _steps(tokens: list[str], pattern: tuple[int, ...], drafted: int, channel: Channel) -> Iterator[Sample]:
    if not pattern:
        for token in tokens:
            yield Sample(0, ((channel, token),), 1)
        return
    start = number = 0
    while start < len(tokens):
        emitted = tokens[start : start + pattern[number % len(pattern)] + 1]
        step = StepAcceptance(accepted=len(emitted) - 1, drafted=drafted, tokens=len(emitted), exact=True)
        yield Sample(0, ((channel, "".join(emitted)),), len(emitted), (step,))
        start, number = start + len(emitted), number + 1
