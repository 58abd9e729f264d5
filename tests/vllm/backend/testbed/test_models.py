"""guard.backend.testbed.models: the packaged model as a folder, made once."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors import safe_open
from transformers import AutoTokenizer

from guard.backend.testbed.models import convert, ensure_target, made_once, read_config
from guard.lab.models import ensure_model


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "specdec-guard" / "vllm"


def test_a_folder_is_made_once_for_each_key(cache: Path) -> None:
    made: list[Path] = []

    def make(folder: Path) -> None:
        made.append(folder)
        (folder / "file").write_text("x")

    one = made_once("thing", 1, make)
    assert made_once("thing", 1, make) == one
    assert made_once("thing", 2, make) != one
    assert (one / "file").read_text() == "x"
    assert one.parent == cache
    assert len(made) == 2


def test_a_folder_that_could_not_be_made_is_not_there(cache: Path) -> None:
    def make(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        made_once("thing", 1, make)
    assert [path.name for path in cache.iterdir()] == [".lock"]


def test_the_target_is_dequantised_and_complete() -> None:
    folder = ensure_target()
    config = read_config(folder)
    assert config["num_hidden_layers"] == 30
    assert config["dtype"] == "bfloat16"
    assert "quantization_config" not in config
    with safe_open(folder / "model.safetensors", "pt") as weights:
        assert {str(weights.get_tensor(name).dtype) for name in weights.keys()} == {"torch.bfloat16"}  # noqa: SIM118


def test_tokenizer_and_chat_template_come_from_the_gguf() -> None:
    tokenizer = AutoTokenizer.from_pretrained(ensure_target())
    text = "Hello  world,\n\n it's 2024! 你好 🙂"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    chat = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], add_generation_prompt=True, tokenize=False
    )
    assert chat.endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
    assert read_config(ensure_target())["eos_token_id"] == tokenizer.convert_tokens_to_ids("<|im_end|>")


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(ensure_model().read_bytes()[:1000])
    with pytest.raises(Exception, match=r".+"):
        convert(tmp_path / "x.gguf", tmp_path)
    assert not (tmp_path / "model.safetensors").exists()
