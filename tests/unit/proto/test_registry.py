"""Which family serves a path."""

from __future__ import annotations

import pytest

from guard.proto.openai import CHAT, COMPLETIONS
from guard.proto.registry import FAMILIES, family_at, family_near, plain_path


def test_only_the_guarded_paths_have_a_family() -> None:
    assert family_at("/v1/chat/completions") is CHAT
    assert family_at("/v1/completions") is COMPLETIONS
    assert family_at("/v1/embeddings") is None
    assert family_at("/v1/chat/completions/") is None


def test_only_the_methods_that_generate_are_guarded() -> None:
    assert family_at("/v1/chat/completions", "GET") is None


def test_no_path_has_two_families() -> None:
    paths = [path for family in FAMILIES for path in family.paths]
    assert len(paths) == len(set(paths))


@pytest.mark.parametrize("path", ["/v1/models", "/", "/v1/completionsx"])
def test_errors_are_in_openais_form_where_no_family_is_near(path: str) -> None:
    assert family_near(path) is CHAT


@pytest.mark.parametrize("spelled", ["//v1/chat/completions", "/v1//chat///completions", "/v1/chat/completions//"])
def test_a_guarded_path_is_known_however_it_is_spelled(spelled: str) -> None:
    assert plain_path(spelled) == "/v1/chat/completions"
    assert plain_path("/v1/chat/completions") == "/v1/chat/completions"


@pytest.mark.parametrize("path", ["/", "//", "", "/v1//models/", "/v1/chat/completions/x", "/V1/chat/completions"])
def test_other_paths_stay_as_they_are(path: str) -> None:
    assert plain_path(path) == path
