"""
Draft models made from the target by a recipe: some of its layers left out.

Such a draft shares the target's vocabulary, needs no training and no download, and its agreement
with the target can be chosen by which layers stay.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from guard.data import data_dir
from guard.errors import ConfigError, SetupError
from guard.lab.files import cache_dir, exclusive, has_sha256, remember_sha256, replacing, sha256_of
from guard.lab.models import ModelSource
from guard.lab.progress import Progress

if TYPE_CHECKING:
    from gguf import GGUFReader, GGUFWriter

#: Draft of the embedded backend unless another is asked for.
DEFAULT_DRAFT = "smollm2-135m-drop17"
#: Raised when the same recipe would give other bytes.
FORMAT_VERSION = 1

_BLOCK = re.compile(r"blk\.(\d+)\.(.+)")


class Layers(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which of the target's layers stay. Both lists are given so that a reader need not count."""

    kept: tuple[int, ...]
    dropped: tuple[int, ...]


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    How a draft is made.

    Args:
        name: Name of the draft; also of its folder.
        description: One sentence.
        licence: SPDX name; the target's.
        target: The model it is made from and for.
        layers: The target's layers that stay, and those that go.
        sha256: Hexadecimal digest of the result.
        num_speculative_tokens: Recommended draft depth. Unit: tokens.
    """

    name: str
    description: str
    licence: str
    target: ModelSource
    layers: Layers
    sha256: str
    num_speculative_tokens: int

    @property
    def key(self) -> str:
        """Name of the result in the cache: recipe and target, hashed."""
        parts = (FORMAT_VERSION, self.target.sha256, self.layers.kept)
        return f"{self.name}-{hashlib.sha256(repr(parts).encode()).hexdigest()[:16]}.gguf"


def load_recipe(name: str, folder: Path | None = None) -> Recipe:
    """
    Read `<name>/recipe.yaml`.

    Args:
        name: Folder of the draft.
        folder: Where drafts stand; the project's by default.

    Raises:
        ConfigError: It is absent, not valid, or its layer lists contradict each other.
    """
    folder = folder or data_dir("draft_models")
    path = folder / name / "recipe.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.parent.name for p in folder.glob("*/recipe.yaml"))) or "none"
        raise ConfigError(f"no draft named {name!r}; known: {known}", path=str(path))
    try:
        recipe = msgspec.yaml.decode(path.read_bytes(), type=Recipe)
    except (msgspec.DecodeError, ImportError) as error:
        raise ConfigError(str(error), path=str(path)) from error
    kept, dropped = recipe.layers.kept, recipe.layers.dropped
    if sorted((*kept, *dropped)) != list(range(len(kept) + len(dropped))) or list(kept) != sorted(kept):
        raise ConfigError("kept and dropped must name each layer once, kept in order",
                          path=str(path), where="layers")  # fmt: skip
    return recipe


def ensure_draft(recipe: Recipe, target: Path, progress: Progress | None = None) -> Path:
    """
    The draft a recipe describes; made on first use, then taken from the cache.

    Args:
        recipe: What to make.
        target: The target's model file, already checked.
        progress: Where to report.

    Returns:
        Path of the draft's model file.

    Raises:
        SetupError: The gguf package is absent, or the result has another checksum than it should.
    """
    cache = cache_dir()
    made = cache / "drafts" / recipe.key
    if made.is_file() and has_sha256(made, recipe.sha256, cache / "stamps"):
        return made
    with exclusive(cache / "drafts" / ".lock"):
        if made.is_file() and has_sha256(made, recipe.sha256, cache / "stamps"):
            return made
        with replacing(made) as temporary:
            write_pruned(target, temporary, recipe.layers.kept, progress)
            if sha256_of(temporary) != recipe.sha256:
                raise SetupError(
                    f"the draft {recipe.name} came out with another checksum than its recipe gives; "
                    "install the gguf version that pyproject.toml names"
                )
        remember_sha256(made, recipe.sha256, cache / "stamps")
    return made


def write_pruned(source: Path, to: Path, kept: Sequence[int], progress: Progress | None = None) -> None:
    """
    Copy a model file with only some of its layers, renumbered.

    Weights keep their quantisation and bytes; the vocabulary and all other settings stay.

    Args:
        source: The whole model.
        to: File to write.
        kept: Layers that stay, in order.
        progress: Where to report.

    Raises:
        SetupError: The gguf package is absent.
        ValueError: A kept layer is not in the model.
    """
    progress = progress or Progress()
    try:
        from gguf import GGUFReader, GGUFWriter  # noqa: PLC0415 - optional, and slow to import
    except ImportError as error:
        raise SetupError("making a draft needs the gguf package: pip install 'specdec-guard[demo]'") from error
    reader = GGUFReader(source)
    architecture = str(reader.fields["general.architecture"].contents())
    depth = reader.fields[f"{architecture}.block_count"].contents()
    if not kept or not set(kept) <= set(range(depth)):
        raise ValueError(f"kept layers {list(kept)} are not among the model's 0 to {depth - 1}")
    writer = GGUFWriter(to, architecture)
    _copy_settings(reader, writer, {f"{architecture}.block_count": len(kept)})
    tensors = _kept_tensors(reader, {old: new for new, old in enumerate(kept)})
    progress.start(f"making the draft of {len(kept)} layers", sum(int(t.n_bytes) for _, t in tensors))
    for name, tensor in tensors:
        writer.add_tensor(name, tensor.data, raw_dtype=tensor.tensor_type)
        progress.advance(int(tensor.n_bytes))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _copy_settings(reader: GGUFReader, writer: GGUFWriter, changed: dict[str, int]) -> None:
    from gguf import GGUFValueType  # noqa: PLC0415 - see write_pruned

    for key, field in reader.fields.items():
        # The first are the file's own header; the writer sets the second by itself.
        if key.startswith("GGUF.") or key == "general.architecture":
            continue
        value = changed.get(key, field.contents())
        kind = field.types[0]
        element = field.types[-1] if kind == GGUFValueType.ARRAY else None
        writer.add_key_value(key, value, kind, sub_type=element)


def _kept_tensors(reader: GGUFReader, new_index: dict[int, int]) -> list[tuple[str, Any]]:
    tensors = []
    for tensor in reader.tensors:
        match = _BLOCK.fullmatch(tensor.name)
        if match is None:
            tensors.append((tensor.name, tensor))
        elif int(match[1]) in new_index:
            tensors.append((f"blk.{new_index[int(match[1])]}.{match[2]}", tensor))
    return tensors
