"""guard.backend.testbed.drafts: the recipe's layers, and nothing else changed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file

from guard.backend.testbed.drafts import DEFAULT_DRAFT, ensure_draft, write_pruned
from guard.backend.testbed.models import ensure_target, read_config
from guard.backend.testbed.tiny import ensure_tiny
from guard.data import data_dir
from guard.errors import ConfigError
from guard.lab.draft import load_recipe


def test_the_draft_has_the_recipes_layers() -> None:
    recipe = load_recipe(DEFAULT_DRAFT)
    draft, target = ensure_draft(), ensure_target()
    assert read_config(draft)["num_hidden_layers"] == len(recipe.layers.kept)
    mine, whole = load_file(draft / "model.safetensors"), load_file(target / "model.safetensors")
    for new, old in enumerate(recipe.layers.kept):
        name = "self_attn.k_proj.weight"
        assert mine[f"model.layers.{new}.{name}"].equal(whole[f"model.layers.{old}.{name}"])
    assert mine["model.embed_tokens.weight"].equal(whole["model.embed_tokens.weight"])
    assert (draft / "tokenizer.json").read_bytes() == (target / "tokenizer.json").read_bytes()


def test_a_draft_for_another_target_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(data_dir("draft_models") / DEFAULT_DRAFT, tmp_path / DEFAULT_DRAFT)
    recipe = tmp_path / DEFAULT_DRAFT / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace(load_recipe(DEFAULT_DRAFT).target.sha256, "f" * 64))
    monkeypatch.setattr("guard.lab.draft.data_dir", lambda _: tmp_path)
    with pytest.raises(ConfigError, match="no target"):
        ensure_draft()


def test_layers_that_the_model_does_not_have_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has 4 layers"):
        write_pruned(ensure_tiny().target, tmp_path, [0, 4])
