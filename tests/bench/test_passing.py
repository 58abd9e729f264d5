"""What passes before it is judged costs hardly anything in detection, on recorded streams."""

from __future__ import annotations

from pathlib import Path

from guard.core.passing import MOST_UNJUDGED
from guard.lab.cases import read_cases
from guard.policy.judge import Judge
from guard.shipped import find_policy
from tests.bench.passing import compared, figures

TRACES = sorted((Path(__file__).parents[1] / "data" / "traces").glob("*.jsonl.gz"))


def test_verdicts_are_the_same_and_hardly_later() -> None:
    cases = [case for path in TRACES for case in read_cases(path)]
    found = figures(compared(Judge(find_policy("default")), cases))
    assert found["otherwise"] == []
    assert found["false_positives_live"] == found["false_positives_each"] == 0
    for kind in ("garbled", "repetition"):
        assert found[kind]["live"]["recall"] == found[kind]["each"]["recall"]
        assert found[kind]["tokens_later"]["mean"] < 0.5
        assert found[kind]["tokens_later"]["most"] <= MOST_UNJUDGED
        assert found[kind]["bad_characters_more"]["median"] <= 8
        assert found[kind]["bad_characters_more"]["most"] <= 64
