"""What LayerSplit does not do in vLLM, each by its name, and what ranks must have in common."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from guard.backend.kv.layer_split import LayerSplitError
from guard.backend.vllm.layer_split.settings import VARIABLE

#: Attention backends whose metadata has one block table and whose cache update is a call of its own.
BACKENDS: Final = ("CPU_ATTN", "FLASH_ATTN", "TRITON_ATTN")


def refuse(reasons: Sequence[str]) -> None:
    """
    Stop the start of the engine, if there is any reason to.

    Raises:
        LayerSplitError: With all of them.
    """
    if reasons:
        raise LayerSplitError(
            f"LayerSplit does not work with {'; '.join(reasons)}. Change that, or start without {VARIABLE}=1."
        )


def config_reasons(config: Any) -> list[str]:
    """
    What in vLLM's configuration LayerSplit does not work with.

    Args:
        config: A `VllmConfig`.
    """
    return list(_config_reasons(config))


def _config_reasons(config: Any) -> Iterator[str]:
    parallel = config.parallel_config
    for size, name in (
        ("pipeline_parallel_size", "pipeline parallel"),
        ("data_parallel_size", "data parallel"),
        ("prefill_context_parallel_size", "prefill context parallel (PCP)"),
        ("decode_context_parallel_size", "decode context parallel (DCP)"),
    ):
        if getattr(parallel, size, 1) > 1:
            yield name
    if getattr(parallel, "enable_dbo", False):
        yield "micro-batches (dual batch overlap)"
    if not config.model_config.enforce_eager:
        yield "compilation and captured graphs (add --enforce-eager)"
    if getattr(config.model_config, "is_encoder_decoder", False):
        yield "encoder-decoder models"
    if getattr(config, "use_v2_model_runner", False):
        yield "model runner V2 (set VLLM_USE_V2_MODEL_RUNNER=0)"


def connector_reasons(transfer: Any, connector: Any) -> list[str]:
    """
    What in the KV connector LayerSplit does not work with.

    Args:
        transfer: A `KVTransferConfig`, or None.
        connector: The connector's class, or None.
    """
    if transfer is None:
        return []
    if not getattr(connector, "guard_layer_split", False):
        return [f"the KV connector {transfer.kv_connector} (works with guard.backend.vllm.push)"]
    if transfer.kv_role != "kv_producer" or transfer.kv_connector_extra_config.get("peers"):
        return ['a KV connector that loads (kv_role must be "kv_producer", without peers)']
    return []


def layer_reasons(specs: Mapping[str, Any], layers: Mapping[str, Any], shared: Mapping[str, str]) -> list[str]:
    """
    What in the model's layers LayerSplit does not work with.

    Args:
        specs: vLLM's KV cache spec of each layer.
        layers: The layers.
        shared: Layers that use another layer's KV, and that layer.
    """
    reasons: dict[str, None] = {}
    kinds = {type(spec).__name__ for spec in specs.values()}
    for kind in sorted(kinds - {"FullAttentionSpec"}):
        reasons[f"layers of kind {kind} (sliding windows, MLA, state space and hybrid caches)"] = None
    if len(set(specs.values())) > 1:
        reasons["layers whose KV has different shapes"] = None
    if shared:
        reasons["layers that share another layer's KV"] = None
    for name in specs:
        layer = layers[name]
        backend = layer.get_attn_backend()
        if backend.get_name() not in BACKENDS or backend.forward_includes_kv_cache_update:
            reasons[f"attention backend {backend.get_name()} (works with {', '.join(BACKENDS)})"] = None
        dtype = str(getattr(layer, "kv_cache_dtype", "auto"))
        if dtype not in {"auto", "float16", "bfloat16", "float32", "half", "float"}:
            reasons[f"a quantised KV cache ({dtype})"] = None
    return list(reasons)


def agree(what: str, facts: Sequence[Mapping[str, Any]]) -> None:
    """
    Compare what the ranks found.

    Args:
        what: What it is about, for the error.
        facts: Of each rank; all with the same keys.

    Raises:
        LayerSplitError: A fact differs; it is named, with the ranks that have each value.
    """
    for name in facts[0]:
        values: dict[str, list[int]] = {}
        for rank, fact in enumerate(facts):
            values.setdefault(repr(fact.get(name)), []).append(rank)
        if len(values) > 1:
            told = "; ".join(f"ranks {ranks}: {value[:200]}" for value, ranks in values.items())
            raise LayerSplitError(f"the ranks do not agree on {what}, {name}: {told}")
