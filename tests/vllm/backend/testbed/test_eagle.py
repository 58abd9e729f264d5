"""guard.backend.testbed.eagle: a head that belongs to its target."""

from __future__ import annotations

import torch
from safetensors.torch import load_file

from guard.backend.testbed.eagle import ensure_eagle
from guard.backend.testbed.models import ensure_target, read_config


def test_the_head_of_smollm2_is_one_layer_of_it_behind_its_embedding() -> None:
    target, folder = ensure_target(), ensure_eagle()
    assert read_config(folder) == {**read_config(target), "num_hidden_layers": 1}
    whole, head = load_file(target / "model.safetensors"), load_file(folder / "model.safetensors")
    width = read_config(target)["hidden_size"]
    assert isinstance(width, int)
    assert head["fc.weight"].shape == (width, 2 * width)
    state = torch.randn(width).to(torch.bfloat16)
    read = torch.nn.functional.linear(torch.cat((state, torch.zeros_like(state))), head["fc.weight"])
    assert torch.equal(read, state)
    assert torch.equal(head["embed_tokens.weight"], whole["model.embed_tokens.weight"])
    assert torch.equal(head["layers.0.mlp.up_proj.weight"], whole["model.layers.0.mlp.up_proj.weight"])
    assert not any("input_layernorm" in name for name in head)
