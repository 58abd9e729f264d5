"""guard.backend.vllm.acceptance.switch: the environment for all, the request for itself."""

from __future__ import annotations

from typing import Any

import pytest

from guard.backend.vllm.acceptance.switch import KEY, VARIABLE, Mode, Switch, mode


@pytest.mark.parametrize(("value", "means"), [("", Mode.ON_REQUEST), ("0", Mode.OFF), (" 1 ", Mode.ALL)])
def test_the_environment_has_three_values(value: str, means: Mode) -> None:
    assert mode({VARIABLE: value}) is means
    assert mode({}) is Mode.ON_REQUEST


def test_another_value_is_an_error_that_names_the_good_ones() -> None:
    with pytest.raises(ValueError, match=r"GUARD_VLLM_ACCEPTANCE is 'yes'; it may be 1 .* 0 .* unset"):
        mode({VARIABLE: "yes"})


@pytest.mark.parametrize("extra", [None, {}, {"other": 1}])
def test_without_a_word_of_the_request_the_environment_decides(extra: dict[str, Any] | None) -> None:
    assert not Switch(Mode.ON_REQUEST).wanted(extra)
    assert Switch(Mode.ALL).wanted(extra)


@pytest.mark.parametrize(("value", "wanted"), [(1, True), ("1", True), (0, False), ("0", False), ("false", False)])
def test_the_requests_word_counts_before_the_environment(value: object, wanted: bool) -> None:
    assert Switch(Mode.ON_REQUEST).wanted({KEY: value}) is wanted
    assert Switch(Mode.ALL).wanted({KEY: value}) is wanted
