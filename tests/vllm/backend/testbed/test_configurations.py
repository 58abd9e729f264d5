"""guard.backend.testbed.configurations: what is named is what is started."""

from __future__ import annotations

import pytest

from guard.backend.testbed.configurations import CONFIGURATIONS, FAULTS_VARIABLE, smollm2, tiny
from guard.backend.testbed.drafts import ensure_draft
from guard.backend.testbed.repair import REPAIR_VARIABLE
from guard.backend.vllm.faults import SWITCH


def test_the_switch_is_the_injectors_own() -> None:
    assert FAULTS_VARIABLE == SWITCH


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_every_named_configuration_has_its_models(name: str) -> None:
    options = CONFIGURATIONS[name]()
    assert (options.model / "config.json").is_file()
    model, _, method = name.partition("-")
    assert options.name.startswith(model)
    assert (options.speculative or {"method": "plain"})["method"].startswith(method)


def test_depth_and_switches_reach_the_server() -> None:
    options = smollm2(depth=2, faults=True, repair=False)
    assert options.speculative == {"method": "draft_model", "model": str(ensure_draft()), "num_speculative_tokens": 2}
    assert options.env == {FAULTS_VARIABLE: "1"}
    assert smollm2("").speculative is None
    assert tiny("ngram").env == {REPAIR_VARIABLE: "1"}
