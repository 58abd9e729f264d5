"""Rules on the tree itself."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(p for p in (ROOT / "guard").rglob("*.py") if p.name not in ("__init__.py", "__main__.py"))


def names(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in paths]


@pytest.mark.parametrize("source", SOURCES, ids=names(SOURCES))
def test_every_source_file_has_its_test_file(source: Path) -> None:
    package = source.parent.relative_to(ROOT / "guard")
    found = [
        path
        for kind in ("unit", "property", "sim", "integration", "browser", "vllm")
        for path in [ROOT / "tests" / kind / package / f"test_{source.stem}.py"]
        if path.is_file()
    ]
    assert found, f"write tests/<kind>/{package}/test_{source.stem}.py"


@pytest.mark.parametrize("source", SOURCES, ids=names(SOURCES))
def test_source_files_stay_small(source: Path) -> None:
    assert len(source.read_text(encoding="utf-8").splitlines()) <= 400


def test_no_proxy_of_the_environment_stands_between_the_guard_and_a_backend() -> None:
    """Aiohttp obeys those variables only when told to, httpx unless told not to."""
    for source in SOURCES:
        text = source.read_text(encoding="utf-8")
        assert "trust_env=True" not in text, source
        opened = len(re.findall(r"httpx\.(?:AsyncClient|Client|get|post|request|stream)\(", text))
        assert opened <= text.count("trust_env=False"), source


def test_the_top_level_is_fixed() -> None:
    allowed = {"pyproject.toml", "README.md", "LICENSE", "guard", "draft_models", "policies", "tests", "deploy"}
    found = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    assert found - allowed <= {"build", "dist", "specdec_guard.egg-info"}


def test_no_test_is_skipped_but_those_that_need_a_gpu() -> None:
    marks = ("pytest" + ".skip(", "mark" + ".skip", "mark" + ".xfail", "importor" + "skip")
    offenders = [
        str(path.relative_to(ROOT))
        for path in (ROOT / "tests").rglob("*.py")
        if any(mark in path.read_text(encoding="utf-8") for mark in marks) and "gpu" not in path.parts
    ]
    assert offenders == []


PAGES = [p for p in ROOT.rglob("*.md") if not any(part.startswith(".") for part in p.relative_to(ROOT).parts)]


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    inline = re.findall(r"\]\(([^)\s]+)\)", text)
    named = {name.lower(): place for name, place in re.findall(r"^\[([^\]]+)\]:\s*(\S+)", text, flags=re.MULTILINE)}
    used = [name.lower() for name in re.findall(r"\]\[([^\]]+)\]", text)]
    assert [name for name in used if name not in named] == []
    places = [place.partition("#")[0] for place in (*inline, *named.values()) if "://" not in place]
    assert [place for place in places if place and not (page.parent / place).exists()] == []


FILES = [f"/{p.relative_to(ROOT)}" for folder in ("guard", "tests", "deploy") for p in (ROOT / folder).rglob("*.*")]


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_every_source_that_a_page_names_is_there(page: Path) -> None:
    """Whoever looks for it finds it: a file that was renamed leaves no page behind."""
    named = set(re.findall(r"`([\w./-]+\.(?:py|c|lua|sh|js))`", page.read_text(encoding="utf-8")))
    assert [name for name in sorted(named) if not any(file.endswith(f"/{name.lstrip('./')}") for file in FILES)] == []
