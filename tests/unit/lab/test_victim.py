"""Both replicas of the demo are what its story needs."""

from __future__ import annotations

from pathlib import Path

from guard.lab.faulty import FaultyReplica
from guard.lab.inject import FaultPlan
from guard.lab.victim import Victim
from guard.lab.vllm_replica import VllmReplica


def test_llama_cpp_needs_nothing_in_the_request_and_vllm_all() -> None:
    victims: list[Victim] = [FaultyReplica("http://127.0.0.1:1", Path()), VllmReplica("python")]
    for victim in victims:
        victim.arm(FaultPlan("noise"))
    assert [sorted(victim.fields()) for victim in victims] == [[], ["cache_salt", "vllm_xargs"]]
    assert all(victim.hint for victim in victims)
