"""guard.backend.vllm.layer_split.prefill: a prefill node refuses to decode, and others do not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from guard.backend.vllm.layer_split.prefill import validate_params
from guard.backend.vllm.layer_split.settings import PREFILL_ONLY, VARIABLE


def original(self: Any, params: Any, supported_tasks: Any) -> str:
    return "found"


def ask(**params: Any) -> Any:
    return validate_params(original)(None, SimpleNamespace(**params), ())


def test_a_prefill_node_takes_one_token_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "1")
    monkeypatch.setenv(PREFILL_ONLY, "1")
    assert ask(max_tokens=1) == "found"
    assert ask() == "found"  # pooling
    for tokens in (2, None):
        with pytest.raises(ValueError, match=f"max_tokens=1, not {tokens}"):
            ask(max_tokens=tokens)


@pytest.mark.parametrize("environ", [{VARIABLE: "1"}, {PREFILL_ONLY: "1"}])
def test_other_nodes_take_all(monkeypatch: pytest.MonkeyPatch, environ: dict[str, str]) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert ask(max_tokens=100) == "found"
