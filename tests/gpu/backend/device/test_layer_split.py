"""
LayerSplit's device code on CUDA: two ranks on one device, over gloo where NCCL refuses two ranks on one.

Run with the vLLM environment's interpreter, or any with torch for CUDA: `python -m pytest tests/gpu -m gpu`.
"""

from __future__ import annotations

import shutil
from typing import Any

import pytest

# Asking torch would start CUDA here, and a process that has started it cannot be forked.
if shutil.which("nvidia-smi") is None:
    pytest.skip("there is no CUDA device here", allow_module_level=True)

from tests.vllm.backend.device.ranks import run_ranks, unsplit, walked

pytestmark = pytest.mark.gpu
STEPS = 8


@pytest.mark.parametrize("options", [{}, {"prefetch": False}, {"check": True}, {"copy_cost": 20.0}])
def test_every_attention_is_that_of_a_whole_cache(options: dict[str, Any]) -> None:
    right = unsplit(4, STEPS, 4)
    for answer in run_ranks(walked, 2, 4, STEPS, 4, {**options, "device": "cuda:0"}, seconds=300.0):
        assert not isinstance(answer, str), answer
        for found, expected in zip(answer[0], right, strict=True):
            assert found == pytest.approx(expected.tolist(), rel=1e-5)
