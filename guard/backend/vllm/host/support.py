"""What the host tier needs of vLLM, and what it refuses by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

RELEASE: Final = "0.32"
#: Caches in which a block keeps its content for as long as the request runs.
SPECS: Final = frozenset({"FullAttentionSpec", "MLAAttentionSpec"})
SETTING: Final = "host_bytes"
_DRAFT_PREFIX: Final = "draft_model."


class HostTierError(ValueError):
    """The engine's configuration is one that the host tier does not work with."""


def slots_of(config: Any, caches: Any, version: str) -> int:
    """
    How many blocks fit into the host memory that is asked for.

    Args:
        config: A `VllmConfig`.
        caches: Its `KVCacheConfig`.
        version: vLLM's.

    Returns:
        Slots of each rank, of one block each.

    Raises:
        HostTierError: The configuration is refused; with all reasons.
    """
    reasons = list(_reasons(config, caches, version))
    size = _block_bytes(caches)
    asked = config.kv_transfer_config.kv_connector_extra_config.get(SETTING)
    if not isinstance(asked, int) or isinstance(asked, bool) or asked < size:
        reasons.append(
            f'"{SETTING}": {asked!r} in kv_connector_extra_config (bytes a rank, at least one block: {size})'
        )
    if reasons:
        raise HostTierError(f"guard: the host tier does not work with {'; '.join(reasons)}")
    return int(asked // size)


def draft_layers(config: Any, names: Iterable[str]) -> frozenset[str]:
    """
    Which of these layers are a draft's: vLLM gives them a prefix of their own, or numbers after the model's last one.

    Args:
        config: A `VllmConfig`.
        names: vLLM's names of layers, like model.layers.0.self_attn.attn.
    """
    if config.speculative_config is None:
        return frozenset()
    count = config.model_config.get_num_layers(config.parallel_config)
    return frozenset(name for name in names if name.startswith(_DRAFT_PREFIX) or _number(name) >= count)


def _number(name: str) -> int:
    return next((int(part) for part in name.split(".") if part.isdecimal()), -1)


def _block_bytes(caches: Any) -> int:
    return sum(int(group.kv_cache_spec.page_size_bytes) * len(group.layer_names) for group in caches.kv_cache_groups)


def _reasons(config: Any, caches: Any, version: str) -> Iterator[str]:
    if not version.startswith(f"{RELEASE}."):
        yield f"vLLM {version} (only {RELEASE} is known)"
    if not config.cache_config.enable_prefix_caching:
        yield "prefix caching switched off"
    if config.kv_transfer_config.kv_role != "kv_both":
        yield f'"kv_role": "{config.kv_transfer_config.kv_role}" (it is "kv_both")'
    parallel = config.parallel_config
    for size, name in (
        ("pipeline_parallel_size", "pipeline parallel"),
        ("prefill_context_parallel_size", "prefill context parallel"),
        ("decode_context_parallel_size", "decode context parallel"),
    ):
        if getattr(parallel, size, 1) > 1:
            yield name
    groups = caches.kv_cache_groups
    if len(groups) != 1:
        yield f"{len(groups)} groups of caches (hybrid models)"
    for group in groups:
        if (kind := type(group.kv_cache_spec).__name__) not in SPECS:
            yield f"caches of kind {kind}"
