"""guard.lab.draft: a recipe is read strictly and executed exactly."""

from pathlib import Path
from typing import Any

import gguf
import msgspec
import numpy as np
import pytest

from guard.data import data_dir
from guard.errors import ConfigError, SetupError
from guard.lab.draft import Recipe, ensure_draft, load_recipe, write_pruned
from guard.lab.files import sha256_of


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "specdec-guard" / "drafts"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A model file of four layers, each of whose weights say which it is."""
    path = tmp_path / "target.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(4)
    writer.add_key_value("tokenizer.ggml.tokens", ["a", "bé"], gguf.GGUFValueType.ARRAY,
                         sub_type=gguf.GGUFValueType.STRING)  # fmt: skip
    writer.add_tensor("token_embd.weight", np.full((2, 4), 9, np.float32))
    for layer in range(4):
        writer.add_tensor(f"blk.{layer}.attn_q.weight", np.full((2, 4), layer, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def recipe(**changes: Any) -> dict[str, Any]:
    target = {"package": "p", "version": "1", "file": "m/f.gguf", "sha256": "00", "size_bytes": 1}
    return {
        "name": "small",
        "description": "A test.",
        "licence": "Apache-2.0",
        "target": {**target, "licence": "Apache-2.0"},
        "layers": {"kept": [0, 2, 3], "dropped": [1]},
        "sha256": "00",
        "num_speculative_tokens": 3,
        **changes,
    }


def write_recipe(folder: Path, content: dict[str, Any]) -> None:
    (folder / "small").mkdir(exist_ok=True)
    (folder / "small" / "recipe.yaml").write_bytes(msgspec.yaml.encode(content))


def test_kept_layers_are_renumbered_and_all_else_stays(target: Path, tmp_path: Path) -> None:
    write_pruned(target, tmp_path / "draft.gguf", [0, 2, 3])
    reader = gguf.GGUFReader(tmp_path / "draft.gguf")
    assert reader.fields["llama.block_count"].contents() == 3
    assert reader.fields["tokenizer.ggml.tokens"].contents() == ["a", "bé"]
    weights = {tensor.name: float(tensor.data.flat[0]) for tensor in reader.tensors}
    assert weights == {
        "token_embd.weight": 9,
        "blk.0.attn_q.weight": 0,
        "blk.1.attn_q.weight": 2,
        "blk.2.attn_q.weight": 3,
    }


def test_a_layer_that_is_not_there_cannot_be_kept(target: Path, tmp_path: Path) -> None:
    for kept in ([0, 4], []):
        with pytest.raises(ValueError, match="not among the model's 0 to 3"):
            write_pruned(target, tmp_path / "draft.gguf", kept)


def test_a_draft_is_made_once_and_checked(target: Path, tmp_path: Path, cache: Path) -> None:
    write_pruned(target, tmp_path / "expected.gguf", [0, 2, 3])
    write_recipe(tmp_path, recipe(sha256=sha256_of(tmp_path / "expected.gguf")))
    small = load_recipe("small", tmp_path)
    made = ensure_draft(small, target)
    assert made == cache / small.key
    target.unlink()  # not needed again
    assert ensure_draft(small, target) == made


def test_a_draft_that_comes_out_otherwise_is_not_kept(target: Path, tmp_path: Path, cache: Path) -> None:
    write_recipe(tmp_path, recipe())
    with pytest.raises(SetupError, match="another checksum"):
        ensure_draft(load_recipe("small", tmp_path), target)
    assert not list(cache.glob("*.gguf"))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"layers": {"kept": [0, 2], "dropped": [1, 2]}},
            "layers: kept and dropped must name each",
        ),
        ({"layers": {"kept": [2, 0], "dropped": [1]}}, "kept in order"),
        ({"depth": 3}, "unknown field `depth`"),
        ({"sha256": 5}, r"Expected `str`.*sha256"),
    ],
)
def test_a_wrong_recipe_is_refused_with_its_place(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    write_recipe(tmp_path, recipe(**changes))
    with pytest.raises(ConfigError, match=says) as refused:
        load_recipe("small", tmp_path)
    assert refused.value.path == str(tmp_path / "small" / "recipe.yaml")


def test_an_unknown_name_lists_the_known_ones(tmp_path: Path) -> None:
    write_recipe(tmp_path, recipe())
    with pytest.raises(ConfigError, match="no draft named 'large'; known: small"):
        load_recipe("large", tmp_path)


def test_the_key_follows_the_layers_and_the_target(tmp_path: Path) -> None:
    one = msgspec.convert(recipe(), Recipe)
    other = msgspec.convert(recipe(layers={"kept": [0, 1, 3], "dropped": [2]}), Recipe)
    assert one.key != other.key


def test_every_shipped_recipe_is_valid() -> None:
    names = [path.parent.name for path in data_dir("draft_models").glob("*/recipe.yaml")]
    assert names
    assert all(load_recipe(name).name == name for name in names)
