"""`guard demo --backend vllm`: the same story as on llama.cpp, on a real vLLM with the plugin."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from guard.errors import SetupError
from guard.lab import vllm_replica
from guard.lab.inject import FaultPlan
from guard.lab.vllm_replica import VllmReplica, order_of, vllm_python


@pytest.mark.timeout(900)
def test_once_json() -> None:
    command = [sys.executable, "-m", "guard", "demo", "--backend", "vllm", "--once", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    outcome = json.loads(done.stdout)
    assert outcome["ok"] is True
    assert outcome["healthy"]["mean_acceptance_length"] > 2
    for fault in (*outcome["faults"][:2], outcome["mid_answer"]):
        assert (fault["verdict"], fault["attempts"]) == ("retry", 2)
        assert fault["detection_delay_tokens"] > 0
        assert fault["client_text_clean"] is True


def test_an_order_is_carried_out_once_and_every_request_has_its_own_cache() -> None:
    replica = VllmReplica("python")
    replica.arm(FaultPlan("zero_half", onset_token=60, seed=3))
    first, second = replica.fields(), replica.fields()
    assert first["cache_salt"] != second["cache_salt"]
    assert first["vllm_xargs"] == {
        "guard_fault": "zeros",
        "guard_fault_values": 0.5,
        "guard_fault_onset": 60,
        "guard_fault_seed": 3,
        "guard_fault_layers": "target",
        "guard_fault_id": first["cache_salt"],
    }
    replica.disarm()
    assert "vllm_xargs" not in replica.fields()


@pytest.mark.parametrize("fault", ["noise", "zero_half", "shuffle", "splice"])
def test_every_fault_of_the_lab_is_one_of_the_plugins(fault: str) -> None:
    from guard.backend.vllm.faults import plan_of  # noqa: PLC0415 - needs torch's environment

    plan = plan_of(order_of(FaultPlan(fault, onset_token=7), "a"))
    assert plan is not None
    assert (plan.onset, plan.id) == (7, "a")


def test_the_interpreter_with_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    assert vllm_python({"GUARD_VLLM_PYTHON": "/some/python"}) == "/some/python"
    assert vllm_python({}) == sys.executable
    monkeypatch.setattr(vllm_replica.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(SetupError, match="vllm-demo"):
        vllm_python({})


async def test_a_server_that_does_not_start_says_why() -> None:
    with pytest.raises(SetupError, match="did not start"):
        async with VllmReplica("/bin/false"):
            raise AssertionError("it cannot have started")
