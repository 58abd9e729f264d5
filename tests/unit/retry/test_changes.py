"""Every retry changes something that the engine understands."""

from __future__ import annotations

import pytest

from guard.retry.changes import MAX_SEED, changes_for
from guard.types import Change


def change(engine: str, *wanted: Change, attempt: int = 2, body: dict[str, object] | None = None) -> dict[str, object]:
    return dict(changes_for(engine, wanted, attempt=attempt, nonce="r1", body=body or {}))


def test_the_first_attempt_changes_nothing() -> None:
    assert change("vllm", *Change, attempt=1) == {}


def test_cache_bypass_per_engine() -> None:
    assert change("llama.cpp", Change.CACHE) == {"cache_prompt": False}
    assert change("vllm", Change.CACHE) == {"cache_salt": "guard-r1-2"}
    assert change("text", Change.CACHE) == {}


def test_each_attempt_has_its_own_salt() -> None:
    assert change("vllm", Change.CACHE, attempt=2) != change("vllm", Change.CACHE, attempt=3)


@pytest.mark.parametrize(("seed", "becomes"), [(None, 1), (7, 8), (MAX_SEED - 1, 0), (True, 1), ("x", 1)])
def test_seed_steps_from_the_clients(seed: object, becomes: int) -> None:
    assert change("vllm", Change.SEED, body={"seed": seed}) == {"seed": becomes}


@pytest.mark.parametrize(("temperature", "becomes"), [(0, 0.1), (0.7, 0.8), (None, 1.1), (2.0, 2.0), (10**400, 1.1)])
def test_temperature_steps_from_the_clients(temperature: object, becomes: float) -> None:
    assert change("vllm", Change.TEMPERATURE, body={"temperature": temperature}) == {"temperature": becomes}


@pytest.mark.parametrize(("penalty", "becomes"), [(None, 0.2), (0.5, 0.7), (1.9, 2.0), (2.5, 2.5), (True, 0.2)])
def test_penalty_steps_from_the_clients(penalty: object, becomes: float) -> None:
    assert change("vllm", Change.PENALTY, body={"frequency_penalty": penalty}) == {"frequency_penalty": becomes}


def test_sglang_has_a_salt_too() -> None:
    assert change("sglang", Change.CACHE) == {"cache_salt": "guard-r1-2"}


def test_temperature_and_penalty_wait_while_the_cache_may_be_the_cause() -> None:
    wanted = (Change.CACHE, Change.TEMPERATURE, Change.PENALTY)
    made = [changes_for("llama.cpp", wanted, attempt=n, nonce="x", body={"temperature": 0}) for n in (2, 3, 4)]
    assert made == [
        {"cache_prompt": False},
        {"cache_prompt": False, "temperature": 0.1, "frequency_penalty": 0.2},
        {"cache_prompt": False, "temperature": 0.2, "frequency_penalty": 0.4},
    ]
    # Where no cache can be left aside, the first retry has nothing else to change.
    assert changes_for("text", wanted, attempt=2, nonce="x", body={}) == {"temperature": 1.1, "frequency_penalty": 0.2}
