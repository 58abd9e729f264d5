"""guard.backend.testbed.tiny: the same bytes for everybody, and a greedy text that depends on what was read."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from guard.backend.testbed.eagle import write_eagle
from guard.backend.testbed.tiny import TinyShape, ensure_tiny, vocabulary, write_target
from guard.lab.files import sha256_of

LETTERS = range(len(vocabulary()) - 26 * 26, len(vocabulary()))


def prompt(seed: int) -> torch.Tensor:
    """Shape: [1, 100]."""
    return torch.randint(LETTERS.start, LETTERS.stop, (1, 100), generator=torch.Generator().manual_seed(seed))


def test_a_shape_gives_the_same_weights_again(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_target(TinyShape(num_layers=1), tmp_path / name)
        (tmp_path / name / "eagle").mkdir()
        write_eagle(tmp_path / name, tmp_path / name / "eagle", 0.1)
    for file in ("model.safetensors", "tokenizer.json", "eagle/model.safetensors"):
        assert sha256_of(tmp_path / "one" / file) == sha256_of(tmp_path / "two" / file)


def test_the_tokenizer_gives_every_text_back() -> None:
    tokenizer = AutoTokenizer.from_pretrained(ensure_tiny().target)
    text = "hello there,\n 你好 🙂"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "x"}], add_generation_prompt=True, tokenize=False)
    assert chat == "<|im_start|>user\nx<|im_end|>\n<|im_start|>assistant\n"


def test_greedy_text_varies_and_depends_on_earlier_tokens() -> None:
    model = AutoModelForCausalLM.from_pretrained(ensure_tiny().target, dtype=torch.float32)
    for seed in range(3):
        changed = prompt(seed)
        changed[0, 20:52] = prompt(seed + 100)[0, 20:52]
        texts = [
            model.generate(tokens, max_new_tokens=64, do_sample=False, pad_token_id=0)[0, 100:].tolist()
            for tokens in (prompt(seed), changed)
        ]
        assert texts[0] != texts[1]
        assert len(set(texts[0])) > 20
        assert set(texts[0]) <= set(LETTERS)


def test_the_draft_agrees_with_the_target_in_part() -> None:
    models = ensure_tiny()
    target = AutoModelForCausalLM.from_pretrained(models.target, dtype=torch.float32)
    draft = AutoModelForCausalLM.from_pretrained(models.draft, dtype=torch.float32)
    agreed = []
    for seed in range(3):
        tokens = target.generate(prompt(seed), max_new_tokens=64, do_sample=False, pad_token_id=0)
        guesses = draft(tokens).logits[0].argmax(-1)
        agreed.append((guesses[99:-1] == tokens[0, 100:]).float().mean().item())
    assert 0.4 < sum(agreed) / len(agreed) < 0.95
