"""guard.backend.vllm.layer_split.settings: off unless asked for, and nothing guessed."""

from __future__ import annotations

import pytest

from guard.backend.vllm.layer_split.settings import (
    CHECK,
    PREFETCH,
    PREFILL_ONLY,
    TIMEOUT,
    VARIABLE,
    Settings,
    settings,
)


@pytest.mark.parametrize("environ", [{}, {VARIABLE: ""}, {VARIABLE: "0", PREFETCH: "1"}])
def test_off_unless_asked_for(environ: dict[str, str]) -> None:
    assert settings(environ) is None


def test_the_switches_are_read() -> None:
    assert settings({VARIABLE: "1"}) == Settings(prefetch=True, check=False, timeout_seconds=300.0)
    given = {VARIABLE: "1", PREFETCH: "0", CHECK: "1", TIMEOUT: "2.5", PREFILL_ONLY: "1"}
    assert settings(given) == Settings(prefetch=False, check=True, timeout_seconds=2.5, prefill_only=True)


@pytest.mark.parametrize(
    ("name", "value"), [(VARIABLE, "yes"), (PREFETCH, "2"), (CHECK, "on"), (TIMEOUT, "soon"), (TIMEOUT, "0")]
)
def test_another_value_is_an_error_that_names_the_switch(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"{name}={value}"):
        settings({VARIABLE: "1", name: value})
