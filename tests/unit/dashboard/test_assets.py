"""The page's files: complete, without anything inline or from elsewhere."""

from __future__ import annotations

import re

import pytest

from guard.dashboard.assets import INDEX, LOGIN, LOGIN_HEADERS, LOGIN_PARTS, SECURITY_HEADERS, assets

NAMES = sorted(assets())
TEXTS = {name: asset.body.decode() for name, asset in assets().items()}


def test_the_index_names_files_that_exist() -> None:
    named = re.findall(r'(?:src|href)="dashboard/([^"]+)"', TEXTS[INDEX])
    assert named
    assert set(named) <= set(NAMES)


def test_the_page_to_sign_in_with_needs_only_what_anybody_may_have() -> None:
    named = re.findall(r'(?:src|href)="dashboard/([^"]+)"', TEXTS[LOGIN])
    assert set(named) == set(LOGIN_PARTS)
    assert not re.findall(r'from "', TEXTS["login.js"])
    assert LOGIN_HEADERS["Cache-Control"] == "no-store"
    assert "form-action 'self'" in LOGIN_HEADERS["Content-Security-Policy"]


def test_every_module_that_is_imported_exists() -> None:
    for name in NAMES:
        for imported in re.findall(r'from "\./([^"]+)"', TEXTS[name]):
            assert imported in NAMES, f"{name} imports {imported}"


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_inline_and_nothing_from_elsewhere(name: str) -> None:
    text = TEXTS[name]
    addresses = [found for found in re.findall(r"https?://[^\s\"')]+", text) if "www.w3.org/2000/svg" not in found]
    assert addresses == []
    if name.endswith(".html"):
        assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=|\son[a-z]+=", text)
    if name.endswith(".js"):
        # Text from outside never becomes markup or code.
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text)


def test_the_policy_of_the_page_allows_nothing_inline() -> None:
    rules = SECURITY_HEADERS["Content-Security-Policy"]
    assert "unsafe" not in rules
    assert rules.startswith("default-src 'none'")


def test_tags_tell_files_apart() -> None:
    assert len({asset.tag for asset in assets().values()}) == len(NAMES)
