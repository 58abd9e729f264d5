"""The cache as memory that another process can write: shared memory in the place of a registration for RDMA."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from guard.backend.vllm.push.wire import Layer, Register


def share(caches: Mapping[str, Any]) -> tuple[str, int, tuple[Layer, ...]]:
    """
    Move an engine's cache into shared memory, in place: every view of it follows.

    Args:
        caches: Each layer's tensor, blocks first; all of one backing allocation.

    Returns:
        File that maps the memory, its size in bytes, and the layers.

    Raises:
        ValueError: The cache is not in host memory, or not in one allocation.
    """
    tensors = list(caches.values())
    storage = tensors[0].untyped_storage()
    if any(each.device.type != "cpu" for each in tensors):
        raise ValueError("guard: the push connector writes host memory only; this cache is on an accelerator")
    if any(each.untyped_storage().data_ptr() != storage.data_ptr() for each in tensors):
        raise ValueError("guard: the layers' caches are not of one allocation")
    descriptor, size = storage._share_fd_cpu_()
    layers = tuple(
        Layer(name, dtype_of(each), tuple(each.shape), tuple(each.stride()), each.storage_offset())
        for name, each in caches.items()
    )
    return f"/proc/{os.getpid()}/fd/{descriptor}", size, layers


def dtype_of(cache: Any) -> str:
    """The name of a tensor's dtype, like float32."""
    return str(cache.dtype).removeprefix("torch.")


def attach(register: Register) -> list[Any]:
    """
    Another process's cache, to write into.

    Args:
        register: What it said of it.

    Returns:
        A tensor for each layer.
    """
    import torch  # noqa: PLC0415 - only in the vLLM environment

    memory = torch.from_file(register.path, shared=True, size=register.size, dtype=torch.int8)
    return [
        memory.view(getattr(torch, layer.dtype)).as_strided(layer.shape, layer.stride, layer.offset)
        for layer in register.layers
    ]


def write(target: Any, blocks: Sequence[int], source: Any, read: Sequence[int]) -> None:
    """
    One layer's share of a transfer.

    Args:
        target: The peer's cache of the layer.
        blocks: Which of its blocks.
        source: Our cache of the layer.
        read: Which of our blocks, in the same order.
    """
    target[list(blocks)] = source[list(read)]
