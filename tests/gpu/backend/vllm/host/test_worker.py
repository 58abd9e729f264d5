"""
The host tier's copies on CUDA: streams and events in place of the thread.

Run with the vLLM environment's interpreter, or any with torch for CUDA: `python -m pytest tests/gpu -m gpu`.
"""

from __future__ import annotations

import shutil

import pytest

if shutil.which("nvidia-smi") is None:
    pytest.skip("there is no CUDA device here", allow_module_level=True)

from tests.vllm.backend.vllm.host import copies

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("strided", [False, True])
def test_content_makes_the_round(strided: bool) -> None:
    copies.content_makes_the_round("cuda:0", strided=strided)


@pytest.mark.parametrize("fenced", [True, False])
def test_a_save_waits_for_the_step_that_writes(fenced: bool) -> None:
    assert copies.saved_after_it_is_written("cuda:0", fenced=fenced) is fenced


@pytest.mark.parametrize("fenced", [True, False])
def test_a_load_waits_for_the_steps_that_read(fenced: bool) -> None:
    assert copies.loaded_after_it_is_read("cuda:0", fenced=fenced) is fenced


def test_slots_are_pinned_or_copies_would_not_run_beside_compute() -> None:
    worker = copies.HostWorker(copies.caches("cuda:0"), 2)
    assert all(slots.is_pinned() for slots in worker.slots.values())
    worker.close()
