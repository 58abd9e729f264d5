"""A policy written out and read again is the same policy."""

from __future__ import annotations

import msgspec
import pytest
import yaml

from guard.detect.catalogue import CATALOGUE
from guard.policy.load import load_policy
from guard.policy.written import written
from guard.shipped import find_policy, shipped_policies

ODD = """
version: 1
name: odd
description: Every form there is.
match: {model: [a*, b], route: /v1/*, header: {x-team: code*}, prompt_tokens: {above: 10, below: 1000}}
hold_back: {mode: window, window: 48 tokens, hold_at: 0.25, act_at: 0.75, limit: 128 tokens}
retry: {max_attempts: 2, change: [temperature]}
when_exhausted: pass
kinds: {garbled: {max_attempts: 4}}
rules:
  - name: one
    kind: garbled
    action: retry
    for: 16 tokens
    when:
      all:
        - not: {signal: repetition_count, above: 3, after: 64 tokens}
        - any: [{signal: garble, window: 160 characters, from: 0.00001, to: 0.1}]
        - {signal: acceptance_length, window: 8 steps, below: 1.5}
"""


@pytest.mark.parametrize("name", shipped_policies())
def test_shipped_policies_come_back(name: str) -> None:
    policy = find_policy(name)
    again = load_policy(yaml.safe_dump(written(policy)), CATALOGUE)
    assert again == policy


def test_every_form_comes_back_and_is_plain() -> None:
    policy = load_policy(ODD, CATALOGUE)
    source = written(policy)
    assert load_policy(yaml.safe_dump(source), CATALOGUE) == policy
    assert msgspec.json.decode(msgspec.json.encode(source)) == source
