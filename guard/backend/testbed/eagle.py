"""
EAGLE heads that nobody trained: one layer of the target, which adds little to the embedding of the token just read.

Good for exact counts of real steps, not for speed: no head for SmolLM2-135M is published, and this one is hardly ever
right. The tiny model's now and then is (`tiny.py`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

from guard.backend.testbed.models import FORMAT_VERSION, ensure_target, made_once, read_config
from guard.lab.models import SMOLLM2_135M
from guard.lab.progress import Progress

if TYPE_CHECKING:
    import torch

#: How much of the target's hidden state the head of SmolLM2 adds to the embedding.
_GAIN: Final = 0.1


def ensure_eagle(progress: Progress | None = None) -> Path:
    """
    A head for SmolLM2-135M; made on first use.

    Args:
        progress: Where to report.

    Raises:
        SetupError: The target cannot be had.
    """
    target = ensure_target(progress=progress)
    key = (FORMAT_VERSION, SMOLLM2_135M.sha256, _GAIN)
    return made_once("smollm2-135m-eagle", key, lambda folder: write_eagle(target, folder, _GAIN))


def write_eagle(target: Path, folder: Path, gain: float) -> None:
    """
    Write an EAGLE head for a target.

    Args:
        target: The target's folder, its weights in one file.
        folder: Existing folder to fill.
        gain: How much of the target's hidden state it adds to the embedding.

    Raises:
        ConfigError: The target's config is absent or wrong.
    """
    import torch  # noqa: PLC0415 - only in the vLLM environment
    from safetensors.torch import load_file, save_file  # noqa: PLC0415

    # vLLM lends the head the target's own output matrix.
    config = {**read_config(target), "num_hidden_layers": 1}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    weights: dict[str, torch.Tensor] = load_file(target / "model.safetensors")
    embedding = weights["model.embed_tokens.weight"]
    eye = torch.eye(embedding.shape[1])
    head = {"embed_tokens.weight": embedding, "fc.weight": torch.cat((eye, gain * eye), dim=1).to(torch.bfloat16)}
    for name, weight in weights.items():
        prefix = "model.layers.0."
        if name.startswith(prefix) and not name.endswith("input_layernorm.weight"):
            head["layers.0." + name.removeprefix(prefix)] = weight
    save_file({name: weight.clone() for name, weight in head.items()}, folder / "model.safetensors")
