"""
Drafts for vLLM from the recipes of `draft_models/`: the target's folder with some of its layers left out.

The recipe is the one that gives the GGUF draft of the embedded backend; the layers here are the
same, in bf16.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from guard.backend.testbed.models import FORMAT_VERSION, ensure_target, made_once, read_config
from guard.errors import ConfigError
from guard.lab.draft import load_recipe
from guard.lab.models import SMOLLM2_135M
from guard.lab.progress import Progress

#: Draft of the test bed unless another is asked for.
DEFAULT_DRAFT = "smollm2-135m-drop25-26"

_LAYER = re.compile(r"model\.layers\.(\d+)\.(.+)")
_WEIGHTS = "model.safetensors"


def ensure_draft(name: str = DEFAULT_DRAFT, progress: Progress | None = None) -> Path:
    """
    The draft of a recipe as a Hugging Face folder; made on first use.

    Args:
        name: Folder of the recipe in `draft_models/`.
        progress: Where to report.

    Raises:
        ConfigError: The recipe is absent or wrong, or is for another target.
        SetupError: The target cannot be had.
    """
    recipe = load_recipe(name)
    if recipe.target.sha256 != SMOLLM2_135M.sha256:
        raise ConfigError(f"the test bed has no target {recipe.target.file_name}", where=f"{name}: target")
    target = ensure_target(progress=progress)
    key = (FORMAT_VERSION, recipe.target.sha256, recipe.layers.kept)
    return made_once(name, key, lambda folder: write_pruned(target, folder, recipe.layers.kept))


def write_pruned(source: Path, folder: Path, kept: Sequence[int]) -> None:
    """
    Copy a model folder with only some of its layers, renumbered.

    Args:
        source: The whole model, its weights in one file.
        folder: Existing folder to fill.
        kept: Layers that stay, in order.

    Raises:
        ConfigError: A layer is named that the model does not have.
    """
    from safetensors.torch import load_file, save_file  # noqa: PLC0415 - only in the vLLM environment

    config = read_config(source)
    num_layers = config["num_hidden_layers"]
    if not isinstance(num_layers, int) or not set(kept) <= set(range(num_layers)):
        raise ConfigError(f"{source.name} has {num_layers} layers; asked for {list(kept)}", where="layers.kept")
    place = {old: new for new, old in enumerate(kept)}
    weights = {}
    for name, tensor in load_file(source / _WEIGHTS).items():
        found = _LAYER.fullmatch(name)
        if found is None:
            weights[name] = tensor
        elif int(found[1]) in place:
            weights[f"model.layers.{place[int(found[1])]}.{found[2]}"] = tensor
    for path in source.iterdir():
        if path.name not in (_WEIGHTS, "config.json"):
            shutil.copyfile(path, folder / path.name)
    save_file(weights, folder / _WEIGHTS, metadata={"format": "pt"})
    config["num_hidden_layers"] = len(kept)
    if isinstance(config.get("layer_types"), list):
        config["layer_types"] = ["full_attention"] * len(kept)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
