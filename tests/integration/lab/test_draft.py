"""guard.lab.draft: every shipped recipe gives the bytes it promises, from the real target."""

from __future__ import annotations

from pathlib import Path

import pytest

from guard.data import data_dir
from guard.lab.draft import load_recipe, write_pruned
from guard.lab.files import sha256_of
from guard.lab.models import ensure_model

pytestmark = pytest.mark.embedded

NAMES = [path.parent.name for path in sorted(data_dir("draft_models").glob("*/recipe.yaml"))]


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_gives_the_bytes_it_promises(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    write_pruned(ensure_model(recipe.target), tmp_path / "draft.gguf", recipe.layers.kept)
    assert sha256_of(tmp_path / "draft.gguf") == recipe.sha256
