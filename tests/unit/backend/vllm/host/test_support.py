"""guard.backend.vllm.host.support: what is refused, by its name."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from guard.backend.vllm.host.support import HostTierError, draft_layers, slots_of


class FullAttentionSpec:
    page_size_bytes = 1000


class SlidingWindowSpec(FullAttentionSpec):
    pass


def config(extra: dict[str, Any] | None = None, *, caching: bool = True, role: str = "kv_both", **parallel: int) -> Any:
    return SimpleNamespace(
        cache_config=SimpleNamespace(enable_prefix_caching=caching),
        kv_transfer_config=SimpleNamespace(
            kv_role=role, kv_connector_extra_config={"host_bytes": 9000} if extra is None else extra
        ),
        parallel_config=SimpleNamespace(**parallel),
    )


def caches(*specs: type[Any]) -> Any:
    groups = [SimpleNamespace(kv_cache_spec=spec(), layer_names=["l0", "l1"]) for spec in specs]
    return SimpleNamespace(kv_cache_groups=groups)


ONE = caches(FullAttentionSpec)


def test_slots_are_whole_blocks_of_all_layers() -> None:
    assert slots_of(config(), ONE, "0.32.0+cpu") == 4


@pytest.mark.parametrize(
    ("settings", "found", "version", "reason"),
    [
        (config(), ONE, "0.33.1", "vLLM 0.33.1"),
        (config(), ONE, "0.320.0", "vLLM 0.320.0"),
        (config(caching=False), ONE, "0.32.0", "prefix caching switched off"),
        (config(role="kv_producer"), ONE, "0.32.0", "kv_producer"),
        (config(pipeline_parallel_size=2), ONE, "0.32.0", "pipeline parallel"),
        (config(prefill_context_parallel_size=2), ONE, "0.32.0", "prefill context parallel"),
        (config(decode_context_parallel_size=2), ONE, "0.32.0", "decode context parallel"),
        (config(), caches(FullAttentionSpec, FullAttentionSpec), "0.32.0", "2 groups of caches"),
        (config(), caches(SlidingWindowSpec), "0.32.0", "caches of kind SlidingWindowSpec"),
        (config({}), ONE, "0.32.0", '"host_bytes": None'),
        (config({"host_bytes": True}), ONE, "0.32.0", '"host_bytes": True'),
        (config({"host_bytes": "1G"}), ONE, "0.32.0", "at least one block: 2000"),
        (config({"host_bytes": 1999}), ONE, "0.32.0", '"host_bytes": 1999'),
    ],
)
def test_what_is_refused_is_named(settings: Any, found: Any, version: str, reason: str) -> None:
    with pytest.raises(HostTierError, match=reason):
        slots_of(settings, found, version)


def test_all_reasons_are_told_at_once() -> None:
    with pytest.raises(HostTierError, match=r"vLLM 0\.33\.0.*switched off.*host_bytes"):
        slots_of(config({}, caching=False), ONE, "0.33.0")


def test_a_drafts_layers_have_a_prefix_or_numbers_after_the_models() -> None:
    model = SimpleNamespace(get_num_layers=lambda parallel: 30)
    settings = SimpleNamespace(speculative_config=object(), model_config=model, parallel_config=None)
    names = [f"model.layers.{number}.self_attn.attn" for number in (0, 29, 30)]
    names += ["draft_model.model.layers.0.self_attn.attn", "model.embed"]
    assert draft_layers(settings, names) == {names[2], names[3]}
    settings.speculative_config = None
    assert draft_layers(settings, names) == frozenset()
