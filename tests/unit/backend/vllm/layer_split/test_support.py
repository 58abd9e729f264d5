"""guard.backend.vllm.layer_split.support: what is not supported is refused by its name, and so is disagreement."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from guard.backend.kv.layer_split import LayerSplitError
from guard.backend.vllm.layer_split.support import agree, config_reasons, connector_reasons, layer_reasons, refuse


def config(**changed: Any) -> SimpleNamespace:
    parallel = {
        "pipeline_parallel_size": 1,
        "data_parallel_size": 1,
        "prefill_context_parallel_size": 1,
        "decode_context_parallel_size": 1,
        "enable_dbo": False,
    }
    model = {"enforce_eager": True, "is_encoder_decoder": False}
    other = {"use_v2_model_runner": False}
    for part in (parallel, model, other):
        part.update({name: value for name, value in changed.items() if name in part})
    return SimpleNamespace(parallel_config=SimpleNamespace(**parallel), model_config=SimpleNamespace(**model), **other)


def test_a_plain_configuration_has_nothing_against_it() -> None:
    assert config_reasons(config()) == []
    refuse([])


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("pipeline_parallel_size", 2, "pipeline parallel"),
        ("data_parallel_size", 2, "data parallel"),
        ("prefill_context_parallel_size", 2, "PCP"),
        ("decode_context_parallel_size", 2, "DCP"),
        ("enable_dbo", True, "micro-batches"),
        ("enforce_eager", False, "captured graphs"),
        ("is_encoder_decoder", True, "encoder-decoder"),
        ("use_v2_model_runner", True, "model runner V2"),
    ],
)
def test_each_mode_is_refused_by_name(name: str, value: Any, reason: str) -> None:
    reasons = config_reasons(config(**{name: value}))
    assert len(reasons) == 1
    with pytest.raises(LayerSplitError, match=f"(?s){reason}.*start without GUARD_VLLM_LAYER_SPLIT=1"):
        refuse(reasons)


class Push:
    guard_layer_split = True


def transfer(role: str = "kv_producer", **extra: Any) -> SimpleNamespace:
    return SimpleNamespace(kv_connector="Some", kv_role=role, kv_connector_extra_config=extra)


def test_a_connector_whose_owners_send_has_nothing_against_it() -> None:
    assert connector_reasons(None, None) == []
    assert connector_reasons(transfer(listen="/kv"), Push) == []


@pytest.mark.parametrize(
    ("transfer", "connector", "reason"),
    [
        (transfer(), object, "the KV connector Some"),
        (transfer("kv_consumer"), Push, "a KV connector that loads"),
        (transfer("kv_both"), Push, "a KV connector that loads"),
        (transfer(peers={"P": "/kv"}), Push, "a KV connector that loads"),
    ],
)
def test_other_connectors_are_refused_by_name(transfer: SimpleNamespace, connector: type, reason: str) -> None:
    (found,) = connector_reasons(transfer, connector)
    assert found.startswith(reason)


class FullAttentionSpec(tuple[int, ...]):
    pass


class MLAAttentionSpec(tuple[int, ...]):
    pass


def layer(backend: str = "CPU_ATTN", dtype: str = "auto", *, inside: bool = False) -> SimpleNamespace:
    kind = SimpleNamespace(get_name=lambda: backend, forward_includes_kv_cache_update=inside)
    return SimpleNamespace(get_attn_backend=lambda: kind, kv_cache_dtype=dtype)


def test_plain_layers_have_nothing_against_them() -> None:
    assert layer_reasons({"a": FullAttentionSpec((1,))}, {"a": layer()}, {}) == []


@pytest.mark.parametrize(
    ("specs", "layers", "shared", "reason"),
    [
        ({"a": MLAAttentionSpec((1,))}, {"a": layer()}, {}, "MLAAttentionSpec"),
        (
            {"a": FullAttentionSpec((1,)), "b": FullAttentionSpec((2,))},
            {"a": layer(), "b": layer()},
            {},
            "different shapes",
        ),
        ({"a": FullAttentionSpec((1,))}, {"a": layer()}, {"b": "a"}, "share another layer's KV"),
        ({"a": FullAttentionSpec((1,))}, {"a": layer("FLASHINFER")}, {}, "attention backend FLASHINFER"),
        ({"a": FullAttentionSpec((1,))}, {"a": layer(inside=True)}, {}, "attention backend CPU_ATTN"),
        ({"a": FullAttentionSpec((1,))}, {"a": layer(dtype="fp8_e4m3")}, {}, "quantised KV cache"),
    ],
)
def test_each_kind_of_layer_is_refused_by_name(
    specs: dict[str, Any], layers: dict[str, Any], shared: dict[str, str], reason: str
) -> None:
    reasons = layer_reasons(specs, layers, shared)
    assert len(reasons) == 1
    assert reason in reasons[0]


def test_ranks_that_agree_go_on_and_others_are_told_apart() -> None:
    agree("the layers", [{"owners": "(0, 1)"}, {"owners": "(0, 1)"}])
    with pytest.raises(LayerSplitError, match=r"do not agree on the layers, owners: ranks \[0, 2\]: .*; ranks \[1\]: "):
        agree("the layers", [{"owners": "(0, 1)"}, {"owners": "(1, 0)"}, {"owners": "(0, 1)"}])
