"""
The packaged SmolLM2 as a folder that vLLM loads: bf16 weights, dequantised, tokenizer and chat template from the GGUF.

Runs in the vLLM environment: torch and transformers are imported when a model is made, not before.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

from guard.errors import SetupError
from guard.lab.files import cache_dir, exclusive
from guard.lab.models import SMOLLM2_135M, ModelSource, ensure_model
from guard.lab.progress import Progress

#: Raised when the same source would give another folder.
FORMAT_VERSION = 1

_END_OF_TURN = "<|im_end|>"


def made_once(name: str, key: object, make: Callable[[Path], None]) -> Path:
    """
    A folder in the user's cache, made on first use; others see none of it or all of it.

    Args:
        name: What it is, for people.
        key: All that its content depends on; its representation is hashed.
        make: Fills the empty folder it is given.

    Returns:
        The folder.
    """
    base = cache_dir() / "vllm"
    made = base / f"{name}-{hashlib.sha256(repr(key).encode()).hexdigest()[:16]}"
    if made.is_dir():
        return made
    with exclusive(base / ".lock"):
        if made.is_dir():
            return made
        temporary = base / f".{made.name}.part"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        try:
            make(temporary)
            temporary.rename(made)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return made


def ensure_target(source: ModelSource = SMOLLM2_135M, progress: Progress | None = None) -> Path:
    """
    The target model as a Hugging Face folder; converted on first use.

    Args:
        source: Which packaged model.
        progress: Where to report.

    Returns:
        A folder with config, weights, tokenizer and chat template.

    Raises:
        SetupError: The model file cannot be had, or torch, transformers or gguf is missing.
    """
    progress = progress or Progress()

    def make(folder: Path) -> None:
        gguf = ensure_model(source, progress)
        progress.start(f"converting {gguf.name} to bf16")
        convert(gguf, folder)

    return made_once("smollm2-135m", (FORMAT_VERSION, source.sha256), make)


def convert(gguf: Path, folder: Path) -> None:
    """
    Write a GGUF model as a Hugging Face folder in bf16.

    Args:
        gguf: Model file, of a llama architecture.
        folder: Existing folder to fill.

    Raises:
        SetupError: torch, transformers or gguf is missing.
    """
    try:
        import torch  # noqa: PLC0415 - only in the vLLM environment
        from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig  # noqa: PLC0415
    except ImportError as error:
        raise SetupError(f"{error}; run this with the interpreter that `bash deploy/vllm_env.sh` prints") from error
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        dtype=torch.float32,
        quantization_config=GgufConfig(dequantize=True),
    ).to(torch.bfloat16)
    # Left in place, these would have vLLM look for quantised weights.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.hf_quantizer = None
    model.is_quantized = False
    model.config.dtype = torch.bfloat16
    model.config.name_or_path = gguf.stem
    end = tokenizer.convert_tokens_to_ids(_END_OF_TURN)
    model.config.eos_token_id = model.generation_config.eos_token_id = end
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def read_config(folder: Path) -> dict[str, object]:
    """The `config.json` of a model folder."""
    config: dict[str, object] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return config
