"""Which adapter reads which engine."""

from __future__ import annotations

from guard.signals.base import SignalAdapter
from guard.signals.llama import LlamaAdapter
from guard.signals.sglang import SglangAdapter
from guard.signals.text import TextAdapter
from guard.signals.vllm import VllmAdapter

#: Engine names as configuration writes them.
ENGINES = ("llama.cpp", "vllm", "sglang", "text")


def adapter_for(engine: str, num_speculative_tokens: int | None = None) -> SignalAdapter:
    """
    A fresh adapter for one attempt.

    Args:
        engine: One of ENGINES.
        num_speculative_tokens: Draft depth k of the deployment, if known. Unit: tokens.

    Raises:
        ValueError: Unknown engine, or k below 1.
    """
    if num_speculative_tokens is not None and num_speculative_tokens < 1:
        raise ValueError(f"num_speculative_tokens must be at least 1, not {num_speculative_tokens}")
    if engine == "llama.cpp":
        return LlamaAdapter()
    if engine == "vllm":
        return VllmAdapter(num_speculative_tokens)
    if engine == "sglang":
        return SglangAdapter()
    if engine == "text":
        return TextAdapter()
    raise ValueError(f"unknown engine {engine!r}; one of {', '.join(ENGINES)}")
