"""Streams written for these tests, and a policy small enough to foresee what it does with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from guard.policy.judge import Judge
from guard.shipped import find_policy

#: Retries once acceptance over 16 tokens is below 1.5 tokens a step; waits from 2.5 on.
POLICY = """
version: 1
name: trial
description: For tests.
hold_back: {mode: suspicion, hold_at: 0.5, act_at: 1.0, limit: 64 tokens}
rules:
  - name: low
    kind: garbled
    action: retry
    when: {signal: acceptance_length, window: 16 tokens, from: 3.5, to: 1.5}
"""
#: Retries once the tokens of a stream whose log-probabilities are told are unlikely over 16 of them.
UNLIKELY = """
version: 1
name: unlikely
rules:
  - {name: unlikely, kind: garbled, action: retry, when: {signal: logprob_mean, window: 16 tokens, below: -3}}
"""
WORDS = ("the", "harbour", "lay", "quiet", "while", "small", "boats", "came", "home", "with", "lamps", "lit")


def policy_file(folder: Path, text: str = POLICY) -> str:
    path = folder / "trial.yaml"
    path.write_text(text)
    return str(path)


def judge(folder: Path, text: str = POLICY) -> Judge:
    return Judge(find_policy(policy_file(folder, text)))


def good(steps: int) -> list[list[Any]]:
    """Steps that keep all of three drafted tokens."""
    return [[" " + WORDS[n % len(WORDS)], 4] for n in range(steps)]


def bad(steps: int) -> list[list[Any]]:
    """Steps that keep nothing."""
    return [[f" q{n * 7919 % 97}x", 1] for n in range(steps)]


def line(name: str, chunks: list[list[Any]], **fields: Any) -> dict[str, Any]:
    values = {"id": name, "kind": "healthy", "num_speculative_tokens": 3, "chunks": chunks}
    return {**values, **fields}


def corpus(folder: Path) -> Path:
    """Eight streams, among them one of each outcome."""
    lines = [
        line("good", good(30)),
        line("copy", good(30), hard_negative="high_accept", subkind="copied"),
        line("weak", bad(60), hard_negative="low_accept", subkind="weak draft"),
        line("found", good(20) + bad(40), kind="garbled", subkind="salad", first_bad_token=80),
        line("late", good(10) + bad(2) + good(10) + bad(40), kind="garbled", first_bad_token=40, subkind="salad"),
        line("loop", good(20) + [[" and so on", 4]] * 40, kind="repetition", first_bad_token=80, subkind="phrase"),
        line("early", bad(30) + good(30), kind="repetition", first_bad_token=60),
        line("fluent", good(30), kind="rescore_only", first_bad_token=50),
    ]
    path = folder / "cases.jsonl"
    path.write_text("".join(json.dumps(entry) + "\n" for entry in lines))
    return path
