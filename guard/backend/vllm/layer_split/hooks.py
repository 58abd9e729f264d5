"""Where LayerSplit goes into each release line of vLLM; the table's form is that of `releases`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Final

from guard.backend.vllm.patching import Maker, Patches
from guard.backend.vllm.releases import Hook

_RUNNER: Final = "vllm.v1.worker.gpu_model_runner"
_ATTENTION: Final = "vllm.model_executor.layers.attention.attention"

_COMMON: Mapping[str, Hook] = {
    "runner.specs": Hook(
        _RUNNER, "GPUModelRunner", "get_kv_cache_spec", ("self",), ("kv_cache_spec[layer_name] = spec",)
    ),
    "runner.initialize": Hook(
        _RUNNER,
        "GPUModelRunner",
        "initialize_kv_cache",
        ("self", "kv_cache_config", "is_profiling", "kv_cache_allocation_context"),
        ("kv_cache_config = deepcopy(kv_cache_config)", "self.initialize_kv_cache_tensors("),
    ),
    "runner.bind": Hook(
        _RUNNER,
        "GPUModelRunner",
        "initialize_kv_cache_tensors",
        (),
        ("kv_caches = allocate_kv_cache(", "bind_kv_cache(kv_caches, self.compilation_config.static_forward_context"),
        patched=False,
    ),
    "runner.metadata": Hook(
        _RUNNER,
        "GPUModelRunner",
        "_build_attention_metadata",
        (
            "self",
            "num_tokens",
            "num_reqs",
            "max_query_len",
            "num_tokens_padded",
            "num_reqs_padded",
            "ubatch_slices",
            "logits_indices",
            "max_num_sampled_tokens",
            "use_spec_decode",
            "for_cudagraph_capture",
            "num_scheduled_tokens",
            "slot_mappings",
        ),
        ("self.input_batch.block_table[kv_cache_gid]",),
    ),
    "runner.step": Hook(
        _RUNNER,
        "GPUModelRunner",
        "execute_model",
        (),
        ("num_reqs=num_reqs, ", "num_scheduled_tokens=scheduler_output.num_scheduled_tokens"),
        patched=False,
    ),
    "worker.memory": Hook("vllm.v1.worker.gpu_worker", "Worker", "determine_available_memory", ("self",)),
    "worker.cpu_memory": Hook("vllm.v1.worker.cpu_worker", "CPUWorker", "determine_available_memory", ("self",)),
    "cpu.update": Hook(
        "vllm.v1.attention.backends.cpu_attn",
        "CPUAttentionBackendImpl",
        "do_kv_cache_update",
        ("self", "layer", "key", "value", "kv_cache", "slot_mapping"),
        patched=False,
    ),
    "cpu.forward": Hook(
        "vllm.v1.attention.backends.cpu_attn",
        "CPUAttentionBackendImpl",
        "forward",
        (
            "self",
            "layer",
            "query",
            "key",
            "value",
            "kv_cache",
            "attn_metadata",
            "output",
            "output_scale",
            "output_block_scale",
        ),
        ("block_table=attn_metadata.block_table",),
        patched=False,
    ),
    "input.params": Hook(
        "vllm.v1.engine.input_processor", "InputProcessor", "_validate_params", ("self", "params", "supported_tasks")
    ),
    "attention.layer": Hook(_ATTENTION, "Attention", "forward", (), ("self.layer_name",), patched=False),
}

#: By release line; in each, the hooks by name.
RELEASES: Final[Mapping[str, Mapping[str, Hook]]] = {"0.32": _COMMON}

#: Module and function that make each replacement.
_REPLACED: Final[Mapping[str, tuple[str, str]]] = {
    "runner.specs": ("worker", "get_kv_cache_spec"),
    "runner.initialize": ("worker", "initialize_kv_cache"),
    "runner.metadata": ("worker", "build_attention_metadata"),
    "worker.memory": ("worker", "determine_available_memory"),
    "worker.cpu_memory": ("worker", "determine_available_memory"),
    "input.params": ("prefill", "validate_params"),
}


def plan(hooks: Mapping[str, Hook], refused: Callable[[str], None]) -> Patches:
    """
    Plan all replacements of one release.

    Args:
        hooks: The release's table.
        refused: Told why when a hook turns out not to be as expected after all.

    Returns:
        The patches, not yet installed.
    """
    patches = Patches(refused)
    for name, hook in hooks.items():
        if hook.patched:
            patches.replace(name, hook, _maker(*_REPLACED[name]))
    return patches


def _maker(module: str, name: str) -> Maker:
    def make(_module: Any, original: Callable[..., Any]) -> Any:
        # torch is imported with vLLM's own worker, not when the plugin is loaded.
        return getattr(import_module(f"guard.backend.vllm.layer_split.{module}"), name)(original)

    return make
