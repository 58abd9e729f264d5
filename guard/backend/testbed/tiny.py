"""
Tiny random models for fast tests: a target, a draft and an EAGLE head that partly agree with it.

Nothing is trained. The residual stream of the target carries the embedding of the token just read, and attention adds
what the cache holds: so the next token depends mostly on this one, which is what a draft can guess, and now and then
on the cache, which is what tests of the cache need. The draft lacks the last layers; the EAGLE head passes the
embedding through. Greedy text does not repeat one token, as that of untuned random models does.
"""

from __future__ import annotations

import math
from pathlib import Path

import msgspec

from guard.backend.testbed.drafts import write_pruned
from guard.backend.testbed.eagle import write_eagle
from guard.backend.testbed.models import made_once

#: Raised when the same shape would give other weights.
FORMAT_VERSION = 1

SPECIAL_TOKENS = ("<|pad|>", "<|im_start|>", "<|im_end|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


class TinyShape(msgspec.Struct, frozen=True):
    """
    Size and character of the tiny models.

    Args:
        hidden_size: Width of the residual stream.
        num_layers: Layers of the target.
        num_draft_layers: The first of them, which the draft keeps.
        num_heads: Query heads; 32 wide, the least that vLLM's CPU attention takes.
        num_kv_heads: Key and value heads.
        attention_gain: How much of what attention finds is added to the residual stream: dependence on the cache.
        mlp_gain: The same for the feed-forward part.
        eagle_gain: How much of the target's hidden state the EAGLE head adds to the embedding.
        seed: Seed of all weights.
    """

    hidden_size: int = 128
    num_layers: int = 4
    num_draft_layers: int = 3
    num_heads: int = 4
    num_kv_heads: int = 2
    attention_gain: float = 0.35
    mlp_gain: float = 0.15
    eagle_gain: float = 0.1
    seed: int = 7


class TinyModels(msgspec.Struct, frozen=True):
    """Folders of one family of tiny models: same vocabulary, same tokenizer."""

    target: Path
    draft: Path
    eagle: Path


def ensure_tiny(shape: TinyShape | None = None) -> TinyModels:
    """
    The tiny models of a shape; made on first use.

    Args:
        shape: Their size; the usual one by default.
    """
    shape = shape or TinyShape()

    def make(folder: Path) -> None:
        for name in TinyModels.__struct_fields__:
            (folder / name).mkdir()
        write_target(shape, folder / "target")
        write_pruned(folder / "target", folder / "draft", range(shape.num_draft_layers))
        write_eagle(folder / "target", folder / "eagle", shape.eagle_gain)

    made = made_once("tiny", (FORMAT_VERSION, shape), make)
    return TinyModels(*(made / name for name in TinyModels.__struct_fields__))


def vocabulary() -> dict[str, int]:
    """Token to id: special tokens, all bytes in their printable form, and every pair of small letters."""
    from tokenizers import pre_tokenizers  # noqa: PLC0415 - only in the vLLM environment

    pairs = [a + b for a in _LETTERS for b in _LETTERS]
    words = [*SPECIAL_TOKENS, *sorted(pre_tokenizers.ByteLevel.alphabet()), *pairs]
    return {word: number for number, word in enumerate(words)}


def write_tokenizer(folder: Path) -> None:
    """Write a tokenizer without training: bytes, and pairs of small letters as merges."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers  # noqa: PLC0415
    from transformers import PreTrainedTokenizerFast  # noqa: PLC0415

    merges = [(a, b) for a in _LETTERS for b in _LETTERS]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary(), merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    pad, start, end = SPECIAL_TOKENS
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=start, eos_token=end, pad_token=pad, chat_template=CHAT_TEMPLATE
    )
    fast.save_pretrained(folder)


def write_target(shape: TinyShape, folder: Path) -> None:
    """
    Write the target: config, random weights, tokenizer.

    Args:
        shape: Its size.
        folder: Existing folder to fill.
    """
    import torch  # noqa: PLC0415
    from transformers import LlamaConfig, LlamaForCausalLM  # noqa: PLC0415

    words = vocabulary()
    pad, start, end = (words[token] for token in SPECIAL_TOKENS)
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=shape.hidden_size,
        intermediate_size=2 * shape.hidden_size,
        num_hidden_layers=shape.num_layers,
        num_attention_heads=shape.num_heads,
        num_key_value_heads=shape.num_kv_heads,
        head_dim=32,
        max_position_embeddings=4096,
        bos_token_id=start,
        eos_token_id=end,
        pad_token_id=pad,
        tie_word_embeddings=False,
    )
    generator = torch.Generator().manual_seed(shape.seed)
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" not in name:
                weight.normal_(0, _spread(name, shape), generator=generator)
        # Only letters are ever the likeliest token: whole characters, and no end of the text by chance.
        model.lm_head.weight[: len(words) - len(_LETTERS) ** 2] = 0
    model.to(torch.bfloat16).save_pretrained(folder)
    write_tokenizer(folder)


def _spread(name: str, shape: TinyShape) -> float:
    """Standard deviation of a weight; matrices keep the size of what they multiply, but for the gains."""
    width = 1 / math.sqrt(shape.hidden_size)
    for part, spread in (
        ("embed_tokens", 1.0),
        ("o_proj", shape.attention_gain * width),
        ("down_proj", shape.mlp_gain * width),
        # Sharp attention: what is found differs from token to token.
        ("q_proj", 2 * width),
        ("k_proj", 2 * width),
    ):
        if part in name:
            return spread
    return width
