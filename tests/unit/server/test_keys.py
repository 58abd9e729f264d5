"""Keys of clients: where they are looked for, what the file may hold, what is never quoted."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from guard.config import AccessSettings, ApiKey
from guard.errors import ConfigError
from guard.server.keys import MAX_KEY, KeyRing, read_keys, read_secret

HASH = sha256(b"secret").hexdigest()
RING = KeyRing(AccessSettings(keys=[ApiKey(name="a", sha256=HASH)]))


def owner(*pairs: tuple[str, str]) -> str | None:
    return RING.owner(CIMultiDictProxy(CIMultiDict(pairs)))


def test_keys_come_as_bearer_token_or_as_x_api_key() -> None:
    assert owner(("authorization", "Bearer secret")) == "a"
    assert owner(("Authorization", "BEARER secret ")) == "a"
    assert owner(("X-API-Key", "secret")) == "a"
    assert owner(("Authorization", "Basic secret"), ("x-api-key", "secret")) == "a"
    assert owner(("Authorization", "Bearer other"), ("Authorization", "Bearer secret")) == "a"


def test_anything_else_is_nobodys() -> None:
    assert owner() is None
    assert owner(("Authorization", "secret")) is None
    assert owner(("Authorization", f"Bearer {HASH}")) is None
    assert owner(("Authorization", "Bearer ")) is None
    assert owner(("x-api-key", "s" * (MAX_KEY + 1))) is None


@given(st.text())
def test_no_header_breaks_the_look_up(text: str) -> None:
    assert owner(("x-api-key", text)) == ("a" if text == "secret" else None)


def test_neither_keys_nor_hashes_are_kept_as_they_are() -> None:
    kept = repr(vars(RING)["_names"])
    assert "secret" not in kept
    assert bytes.fromhex(HASH) not in vars(RING)["_names"]


def test_a_file_of_keys(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"# ours\na {HASH}  # since May\n\nb\t{'0' * 64}\n")
    assert [(key.name, key.sha256) for key in read_keys(path)] == [("a", HASH), ("b", "0" * 64)]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a sg-the-key-itself\n", ":1: write `name sha256`"),
        (f"a {HASH}\na {HASH}\n", ":2: 'a' stands twice"),
        (f"a {HASH} more\n", ":1: write"),
    ],
)
def test_a_wrong_file_is_named_with_its_line_and_not_quoted(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "keys"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_keys(path)
    assert says in str(caught.value)
    assert "sg-" not in str(caught.value)


@given(st.text())
def test_no_file_of_keys_ends_in_anything_but_keys_or_a_config_error(text: str) -> None:
    from tempfile import NamedTemporaryFile  # noqa: PLC0415

    with NamedTemporaryFile("w", encoding="utf-8", errors="surrogatepass") as file:
        file.write(text)
        file.flush()
        try:
            keys = read_keys(Path(file.name))
        except ConfigError:
            return
        assert all(len(key.sha256) == 64 for key in keys)


def test_secrets_from_files_lose_their_line_end(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("hush\n")
    assert read_secret(None, str(path), "x") == "hush"
    assert read_secret("given", None, "x") == "given"
    assert read_secret(None, None, "x") is None


@pytest.mark.parametrize("text", ["", "\n", "two\nlines", "tab\there", "é"])
def test_secrets_that_cannot_stand_in_a_header_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "token"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"access.x: the secret must be one line"):
        read_secret(None, str(path), "access.x")
