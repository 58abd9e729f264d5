"""A stream cut into other chunks comes to the same verdict, at most one chunk later."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from guard.detect.bank import DetectorBank
from guard.detect.catalogue import CATALOGUE
from guard.policy.judge import Judge
from guard.policy.load import load_policy
from guard.types import Action, Channel, Sample, StepAcceptance, Verdict

POLICY = Path(__file__).parents[3] / "policies" / "default.yaml"
JUDGE = Judge(load_policy(POLICY.read_text(encoding="utf-8"), CATALOGUE))

#: One token a time: text and the verify step it ends, if any.
Token = tuple[str, StepAcceptance | None]


def script(bad: str) -> list[Token]:
    """A fair start of varied words, then something bad."""
    tokens: list[Token] = []
    for index in range(150):
        # Every seventh word comes back, as in prose; the others are new.
        word = "and " if index % 7 == 0 else f"{chr(97 + index % 26)}{chr(97 + index // 26)}rel "
        tokens.append((word, StepAcceptance(1, 3, 2, exact=True) if index % 2 else None))
    for index in range(150):
        tokens.append((bad[index % len(bad)] * (1 + index % 2), StepAcceptance(0, 3, 1, exact=True)))
    return tokens


def first_verdict(tokens: list[Token], sizes: list[int]) -> Verdict | None:
    bank, state = DetectorBank(JUDGE.refs), JUDGE.state()
    start = index = 0
    while start < len(tokens):
        part = tokens[start : start + sizes[index % len(sizes)]]
        text = "".join(piece for piece, _ in part)
        steps = tuple(step for _, step in part if step is not None)
        bank.observe(Sample(0, ((Channel.CONTENT, text),), len(part), steps))
        verdict = JUDGE.decide(bank.read, bank.finding, bank.tokens, 0, state)
        if verdict.action is Action.RETRY:
            return verdict
        start, index = start + len(part), index + 1
    return None


@settings(max_examples=60)
@given(
    st.sampled_from(["\n", "!", "\ufffd", "дя漢ของ말x"]),
    st.lists(st.integers(1, 24), min_size=1, max_size=12),
)
def test_verdict_and_onset_move_by_at_most_one_chunk(bad: str, sizes: list[int]) -> None:
    tokens = script(bad)
    fine, coarse = first_verdict(tokens, [1]), first_verdict(tokens, sizes)
    assert fine is not None
    assert coarse is not None
    assert fine.token <= coarse.token < fine.token + max(sizes)
    # Within one chunk two rules may come to act together; then the first in the file speaks.
    if coarse.rule == fine.rule:
        assert abs(coarse.onset_token - fine.onset_token) <= max(sizes)
