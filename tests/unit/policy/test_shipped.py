"""The shipped policies on streams written for the purpose: what must act, and what must not."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from guard.detect.bank import DetectorBank
from guard.detect.baseline import Baseline
from guard.detect.catalogue import CATALOGUE
from guard.lab.policy_test import run_file
from guard.policy.json_schema import schema_text
from guard.policy.judge import Judge
from guard.policy.load import load_policy
from guard.policy.schema import HoldMode, Policy
from guard.shipped import find_policy
from guard.types import Action, Channel, Kind, Sample, StepAcceptance, Verdict

FOLDER = Path(__file__).parents[3] / "policies"
FILES = sorted(path for path in FOLDER.glob("*.yaml") if not path.stem.endswith("_test"))
BASELINE = Baseline(probability=0.5, weight=5000, k=3)

PROSE = (
    "The garden behind the house was laid out by the first owner, who wanted to see the river from the "
    "kitchen. Over the years the hedge grew higher than the wall, and in the end only the roof of the "
    "boathouse could be seen above it. When the new family came they cut the hedge back to the height of "
    "a child, planted two pear trees along the path, and put a bench where the old gate had been. From "
    "there one could watch the barges, which in those days still carried coal down to the town, and in "
    "the evening hear the men call to each other across the water. Nobody in the village remembered a "
    "summer as dry as that one, and by the middle of August the lower steps of the landing, green with "
    "weed, stood clear of the stream for the first time since the bridge was built. "
)
NOUNS = ["header", "body", "index", "footer", "table", "record", "entry", "page", "block", "image"]
CODE = "".join(
    f"def read_{noun}(path: str) -> {noun.title()}:\n    with open(path) as source:\n"
    f"        return parse_{noun}(source)\n\n"
    for noun in NOUNS
)
TABLE = "| item | price |\n|------|-------|\n" + "".join(f"| part {n} | {n * 7 % 90}.50 |\n" for n in range(40))
PIECES = ["rit", "Morn", "ight", '("--', ".isk", "Over", "could,", "Vard", "lamp", "Wash", "}J", "tower", "_"]
PIECES += ["not", "US", "ant", "a.", "ve'", "enne", "Def", "1", "isatch", "#x"]


def salad(pieces: int) -> list[str]:
    dice = random.Random(7)
    return [dice.choice(PIECES) + dice.choice(["", "", " "]) + dice.choice("etaoinsh") for _ in range(pieces)]


def stream(pieces: list[str], accepted: list[int] | int) -> Iterator[Sample]:
    """One verify step a chunk; `accepted` repeats."""
    pattern = [accepted] if isinstance(accepted, int) else accepted
    queue = iter(pieces)
    for index, piece in enumerate(queue):
        count = pattern[index % len(pattern)]
        text = piece + "".join(next(queue, "") for _ in range(count))
        step = StepAcceptance(accepted=count, drafted=3, tokens=count + 1, exact=True)
        yield Sample(choice=0, texts=((Channel.CONTENT, text),), tokens=count + 1, steps=(step,))


def tokens_of(text: str) -> list[str]:
    return [text[start : start + 4] for start in range(0, len(text), 4)]


HEALTHY = [1, 2, 0, 3]


def load(name: str) -> Policy:
    path = FOLDER / f"{name}.yaml"
    return find_policy(str(path))


def judge(samples: list[Sample], name: str = "default", baseline: Baseline | None = None) -> tuple[Verdict | None, int]:
    """The first verdict that acts, and on how many chunks text was held before it."""
    policy = Judge(load(name))
    bank, state, held = DetectorBank(policy.refs, baseline), policy.state(), 0
    for sample in samples:
        bank.observe(sample)
        verdict = policy.decide(bank.read, bank.finding, bank.tokens, 0, state)
        if verdict.action not in (Action.PASS, Action.HOLD):
            return verdict, held
        held += verdict.action is Action.HOLD
    return None, held


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_policy_loads_under_its_file_name(path: Path) -> None:
    assert load(path.stem).name == path.stem


def test_observe_and_demo_have_the_default_rules() -> None:
    default, observe, demo = load("default"), load("observe"), load("demo")
    assert demo.rules == default.rules
    assert [(r.name, r.when, r.persist) for r in observe.rules] == [(r.name, r.when, r.persist) for r in default.rules]
    holds = [rule.name for rule in default.rules if rule.action is Action.HOLD]
    assert [rule.name for rule in observe.rules if rule.action is not Action.NOTE] == holds == ["fallen"]
    assert (observe.hold_back.mode, demo.hold_back.mode) == (HoldMode.OFF, HoldMode.FULL)


@pytest.mark.parametrize("name", ["default", "text-only"])
@pytest.mark.parametrize("baseline", [None, BASELINE], ids=["own history", "baseline"])
@pytest.mark.parametrize("text", [PROSE, CODE, TABLE], ids=["prose", "code", "table"])
def test_healthy_text_passes_without_delay(text: str, baseline: Baseline | None, name: str) -> None:
    assert judge(list(stream(tokens_of(text), HEALTHY)), name, baseline) == (None, 0)


@pytest.mark.parametrize("baseline", [None, BASELINE], ids=["own history", "baseline"])
def test_a_weak_draft_under_perfect_text_is_left_alone(baseline: Baseline | None) -> None:
    assert judge(list(stream(tokens_of(PROSE), 0)), baseline=baseline)[0] is None


def test_a_draft_that_breaks_in_mid_stream_under_perfect_text_is_left_alone() -> None:
    pieces = tokens_of(PROSE)
    samples = [*stream(pieces[:100], HEALTHY), *stream(pieces[100:], 0)]
    assert judge(samples)[0] is None


def test_copying_at_full_acceptance_is_left_alone() -> None:
    assert judge(list(stream(tokens_of(PROSE), 3))) == (None, 0)


def test_salad_in_mid_stream_is_retried_near_its_onset() -> None:
    pieces = tokens_of(PROSE)[:150]
    verdict, _ = judge([*stream(pieces, HEALTHY), *stream(salad(120), 0)])
    assert verdict is not None
    assert (verdict.action, verdict.kind) == (Action.RETRY, Kind.GARBLED)
    assert 150 < verdict.token <= 150 + 64
    assert abs(verdict.onset_token - 150) <= 24
    assert "fell from" in verdict.reason


def test_salad_from_the_first_token_is_retried_when_the_baseline_is_known() -> None:
    verdict, _ = judge(list(stream(salad(120), 0)), baseline=BASELINE)
    assert verdict is not None
    assert verdict.token <= 64
    assert verdict.onset_token <= 8


@pytest.mark.parametrize("flood", ["\n", "!"])
def test_a_flood_the_draft_does_not_follow_is_retried(flood: str) -> None:
    pieces = tokens_of(PROSE)[:150]
    verdict, _ = judge([*stream(pieces, HEALTHY), *stream([flood] * 120, 0)])
    assert verdict is not None
    assert verdict.kind is Kind.REPETITION
    assert verdict.token <= 150 + 64
    assert abs(verdict.onset_token - 150) <= 8


@pytest.mark.parametrize("accepted", [3, [3, 2, 3, 1]])
def test_a_loop_the_draft_follows_is_retried(accepted: list[int] | int) -> None:
    pieces = tokens_of(PROSE[:400] + "I will check the file once more. " * 30)
    verdict, _ = judge(list(stream(pieces, accepted)))
    assert verdict is not None
    assert verdict.kind is Kind.REPETITION
    assert verdict.token <= 100 + 64


def test_replacement_characters_in_number_are_retried_without_acceptance() -> None:
    samples = [Sample(0, ((Channel.CONTENT, text),), 1) for text in [*tokens_of(PROSE)[:50], *["\ufffd"] * 64]]
    verdict, _ = judge(samples, "text-only")
    assert verdict is not None
    assert verdict.kind is Kind.RARE_CHARS


def test_one_replacement_character_is_nothing() -> None:
    pieces = [*tokens_of(PROSE)[:80], "\ufffd", *tokens_of(PROSE)[80:]]
    assert judge(list(stream(pieces, HEALTHY)), baseline=BASELINE) == (None, 0)


def test_the_published_rule_is_as_published() -> None:
    low, _ = judge(list(stream(tokens_of(PROSE), 0)), "published")
    assert low is not None
    assert (low.token, low.kind) == (128, Kind.GARBLED)
    high, _ = judge(list(stream(tokens_of(PROSE), 3)), "published")
    assert high is not None
    assert (high.token, high.kind) == (128, Kind.REPETITION)
    assert judge(list(stream(tokens_of(PROSE), HEALTHY)), "published")[0] is None


def test_observe_only_notes() -> None:
    verdict, held = judge([*stream(tokens_of(PROSE)[:150], HEALTHY), *stream(salad(120), 0)], "observe")
    assert verdict is not None
    assert (verdict.action, held) == (Action.NOTE, 0)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_policy_has_its_tests_beside_it(path: Path) -> None:
    assert path.with_stem(f"{path.stem}_test").is_file()


def test_the_committed_schema_is_up_to_date() -> None:
    committed = (FOLDER / "policy.schema.json").read_text(encoding="utf-8")
    assert committed == schema_text(CATALOGUE), "write it again: guard policy schema > policies/policy.schema.json"


def test_the_examples_of_the_readme_are_right(tmp_path: Path) -> None:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    first, first_test, rule, settings, child, match, tests, tuned = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    (unsure,) = re.findall(r"```yaml\n(.*?)```", (FOLDER / "EVIDENCE.md").read_text(encoding="utf-8"), re.DOTALL)
    base = (FOLDER / "default.yaml").read_text(encoding="utf-8")
    head = "version: 1\nname: example\n"
    more = head + "extends: default\n"
    for example in (
        head + rule,
        settings + "extends: default\n",
        child,
        tuned,
        more + match,
        more + "rules:\n" + unsure,
    ):
        assert load_policy(example, CATALOGUE, "README.md", lambda name, _: (base, name)).rules
    (tmp_path / "mine.yaml").write_text(first, encoding="utf-8")
    for written in (first_test, tests):
        (tmp_path / "mine_test.yaml").write_text(written, encoding="utf-8")
        report = run_file(tmp_path / "mine_test.yaml", find_policy)
        assert report.tests == 2
        assert report.failures == []
