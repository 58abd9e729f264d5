"""
How often healthy text is stopped because its draft fails somewhere in it, and garbage found in the same places.

A speculative draft is weak on parts of healthy answers: where one turns from sentences to code, to a table, to another
language, most of what it proposes is rejected, for a while or until the end, and the text is as good as ever. All
healthy texts of the tests are read with an acceptance made up for them: as usual up to some token, near nothing from
there on. For the other side, the garbage of the recorded traces is put behind a part of those texts in the same way.

    python -m tests.bench.fallen_drafts [--falls N] [--garbage N] [--policy NAME] [--set NAME ...] [--show]
"""

from __future__ import annotations

import argparse
import random
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

import yaml

from guard.core.monitor import Monitor
from guard.detect.baseline import Baseline
from guard.lab.cases import CaseKind, read_cases
from guard.policy.judge import Judge
from guard.shipped import find_policy
from guard.types import Action, Channel, Sample, StepAcceptance, Verdict
from tests.unit.policy import test_answers_alike, test_answers_of_figures

DATA: Final = Path(__file__).parents[1] / "data"
#: Draft tokens of each verify step, and the chance that one is kept while the draft does what it should.
DEPTH: Final = 3
USUAL: Final = 0.6
BASELINE: Final = Baseline(USUAL, 1000.0, DEPTH)
#: The same chance once it fails.
FALLEN: Final = (0.0, 0.05, 0.1, 0.2)
#: Shorter texts tell little. Unit: characters.
LEAST: Final = 200
#: What stands before the place of a fall, at least, and after it. Unit: characters.
BEFORE: Final = 60
AFTER: Final = 60
#: Where one kind of text ends and another may begin: a fence, a table, a heading, a line that stands alone.
_BORDER: Final = re.compile(r":\n|\n\n|\n```|\n\||\n[-*] |\n\d+\. ")
#: Tokens about as a large vocabulary has them.
_TOKEN: Final = re.compile(r" ?[A-Za-z]{1,8}| ?[0-9]{1,3}|\n[ \t]*| {2,}|[^\w\s]{1,2}| ?[^\W\d_A-Za-z]{1,3}|\s|.")


class Text(NamedTuple):
    """
    A text that is as it should be.

    Args:
        name: Of it, unique.
        prompt: What it answers.
        said: The text.
        turn: Character at which it turns into another kind; -1 where that is not known.
    """

    name: str
    prompt: str
    said: str
    turn: int = -1


class Fall(NamedTuple):
    """
    What becomes of the draft.

    Args:
        place: Character from which on it fails.
        tokens: For so long. Unit: tokens.
        chance: That one of its tokens is kept meanwhile.
        baseline: Whether the deployment's healthy acceptance is known.
        seed: Of what is kept.
    """

    place: int
    tokens: int
    chance: float
    baseline: bool
    seed: int


def _turns(name: str) -> Iterator[Text]:
    for key, answer in yaml.safe_load((DATA / f"{name}.yaml").read_text(encoding="utf-8")).items():
        before, turn = answer["before"].rstrip(), answer["turn"].rstrip()
        yield Text(
            f"{name}: {key}", answer["prompt"], before + (turn if turn[:1].isspace() else " " + turn), len(before)
        )


def _rounds() -> Iterator[Text]:
    for key, answer in yaml.safe_load((DATA / "healthy_rounds.yaml").read_text(encoding="utf-8")).items():
        yield Text(f"rounds: {key}", answer["prompt"], answer["text"])


def _answers() -> Iterator[Text]:
    for module in (test_answers_alike, test_answers_of_figures):
        for key, (prompt, said) in module.ANSWERS.items():
            yield Text(f"{module.__name__.rpartition('_')[2]}: {key}", prompt, said)


def _traces() -> Iterator[Text]:
    for path in sorted((DATA / "traces").glob("*.jsonl.gz")):
        for case in read_cases(path):
            if case.kind is CaseKind.HEALTHY:
                yield Text(f"traces: {case.id}", case.prompt, "".join(chunk.text for chunk in case.chunks))


#: Sets of texts; `unseen` is only ever measured on.
SETS: Final = {
    "traces": _traces,
    "turns": lambda: _turns("healthy_turns"),
    "rounds": _rounds,
    "answers": _answers,
    "kinds": lambda: _turns("healthy_kinds"),
    "unseen": lambda: _turns("healthy_kinds_unseen"),
}


@cache
def texts(name: str) -> tuple[Text, ...]:
    """The texts of one set that are long enough."""
    return tuple(text for text in SETS[name]() if len(text.said) >= LEAST)


@cache
def garbage() -> tuple[str, ...]:
    """What broken caches really said, of the recorded traces, from the token at which they broke."""
    found: list[str] = []
    for path in sorted((DATA / "traces").glob("*.jsonl.gz")):
        for case in read_cases(path):
            if case.kind is CaseKind.GARBLED:
                place, said = 0, ""
                for chunk in case.chunks:
                    place += chunk.tokens
                    said += chunk.text if place > (case.first_bad_token or 0) else ""
                found.append(said)
    return tuple(said for said in found if len(said) >= 2 * LEAST)


def falls(text: Text, count: int, seed: int = 0) -> Iterator[Fall]:
    """Falls in a text: half of them where it turns, or seems to, the others anywhere."""
    dice = random.Random(f"{text.name} {seed}")
    borders = [match.end() for match in _BORDER.finditer(text.said)]
    borders = [place for place in borders if BEFORE <= place <= len(text.said) - AFTER]
    for number in range(count):
        place = dice.randrange(BEFORE, len(text.said) - AFTER)
        if number % 2 == 0 and text.turn >= 0:
            place = text.turn + dice.choice((-60, -30, -10, 0, 0, 0, 10, 30, 60))
        elif number % 2 == 0 and borders:
            place = dice.choice(borders)
        tokens = dice.choice((10_000, dice.randrange(40, 151)))
        yield Fall(place, tokens, dice.choice(FALLEN), number // 2 % 2 == 0, dice.randrange(1 << 30))


def samples(said: str, fall: Fall) -> Iterator[Sample]:
    """A text in verify steps."""
    dice, place, left = random.Random(fall.seed), 0, fall.tokens
    tokens, start = _TOKEN.findall(said), 0
    while start < len(tokens):
        fallen, kept = place >= fall.place and left > 0, 0
        chance = fall.chance if fallen else USUAL
        while kept < DEPTH and dice.random() < chance:
            kept += 1
        piece = "".join(tokens[start : start + kept + 1])
        start, place, left = start + kept + 1, place + len(piece), left - fallen * (kept + 1)
        yield Sample(0, ((Channel.CONTENT, piece),), kept + 1, (StepAcceptance(kept, DEPTH, kept + 1, exact=True),))


def read(judge: Judge, prompt: str, said: str, fall: Fall) -> tuple[Verdict | None, int]:
    """The verdict that ended it, if one did, and the tokens read."""
    monitor, tokens = Monitor(judge, BASELINE if fall.baseline else None, prompt), 0
    for sample in samples(said, fall):
        tokens += sample.tokens
        verdict = monitor.observe((sample,))
        if verdict.action in {Action.RETRY, Action.CUT}:
            return verdict, tokens
    return None, tokens


def stopped(judge: Judge, name: str, count: int, seed: int = 0) -> Iterator[tuple[Text, Fall, Verdict | None]]:
    """Each text of a set with so many falls in it, and what ended it."""
    for text in texts(name):
        for fall in falls(text, count, seed):
            yield text, fall, read(judge, text.prompt, text.said, fall)[0]


def missed(judge: Judge, name: str, count: int, seed: int = 0) -> Iterator[tuple[Text, str, Fall, Verdict | None]]:
    """
    Garbage behind the beginnings of a set's texts, and what found it.

    The draft fails where the garbage begins. What is stopped before that is left out.
    """
    for text in texts(name):
        dice = random.Random(f"{text.name} {seed}")
        for fall in falls(text, count, seed):
            bad, healthy = dice.choice(garbage()), text.said[: fall.place]
            fall = fall._replace(tokens=10_000, chance=dice.choice((0.0, 0.05, 0.1)))  # noqa: PLW2901
            if read(judge, text.prompt, healthy, fall)[0] is None:
                yield text, bad, fall, read(judge, text.prompt, healthy + bad, fall)[0]


def main() -> None:
    """Print how much is stopped, and missed, by set and by rule."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--falls", type=int, default=40, help="falls in each text")
    parser.add_argument("--garbage", type=int, default=8, help="places in each text at which garbage begins")
    parser.add_argument("--policy", default="default")
    parser.add_argument("--set", nargs="*", default=list(SETS), choices=list(SETS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", action="store_true", help="name the texts that were stopped")
    chosen = parser.parse_args()
    judge = Judge(find_policy(chosen.policy))
    for name in chosen.set:
        rules: Counter[str] = Counter()
        names: Counter[tuple[str, str]] = Counter()
        total = 0
        for text, _, verdict in stopped(judge, name, chosen.falls, chosen.seed):
            total += 1
            if verdict is not None:
                rules[verdict.rule] += 1
                names[text.name, verdict.rule] += 1
        by_rule = ", ".join(f"{rule} {count}" for rule, count in rules.most_common()) or "none"
        print(
            f"{name}: stopped {rules.total()} of {total} ({rules.total() / max(1, total):.2%}): {by_rule}", flush=True
        )
        if chosen.show:
            for (text_name, rule), count in names.most_common():
                print(f"    {count} {text_name} ({rule})")
        found: Counter[str] = Counter(
            verdict.rule if verdict is not None else ""
            for *_, verdict in missed(judge, name, chosen.garbage, chosen.seed)
        )
        if found:
            print(
                f"{name}: garbage missed {found['']} of {found.total()} ({found[''] / found.total():.2%})", flush=True
            )


if __name__ == "__main__":
    main()
