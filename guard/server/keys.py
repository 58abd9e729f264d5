"""Keys that clients may use: kept as hashes, looked up without telling by its time how near a guess was."""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from multidict import CIMultiDictProxy

from guard.config import AccessSettings, ApiKey
from guard.data import read_text
from guard.errors import ConfigError

#: Longest key that is looked at. Unit: characters.
MAX_KEY = 512
_LINE = re.compile(r"(?P<name>[A-Za-z0-9._-]{1,64})[ \t]+(?P<sha256>[0-9a-f]{64})")


class KeyRing:
    """
    All keys, by who has them.

    Hashes are looked up by their HMAC under a key of this process, so that the time of a look-up says
    nothing about the keys that exist. A key has 256 random bits, so a plain hash is not worth guessing at.

    Args:
        settings: Keys of the configuration, and the file of more.

    Raises:
        ConfigError: The file is wrong.
    """

    def __init__(self, settings: AccessSettings) -> None:
        self._settings = settings
        self._blind = secrets.token_bytes(32)
        self._names: dict[bytes, str] = {}
        #: Whether clients need a key.
        self.needed = bool(settings.keys) or settings.keys_file is not None
        self.reload()

    def reload(self) -> None:
        """Read the file again. Raises ConfigError, and keeps what there was, when it is wrong."""
        keys = list(self._settings.keys)
        if self._settings.keys_file is not None:
            keys += read_keys(Path(self._settings.keys_file))
        self._names = {self._hidden(bytes.fromhex(key.sha256)): key.name for key in keys}

    def owner(self, headers: CIMultiDictProxy[str]) -> str | None:
        """Who sends these headers; None when no key in them is known."""
        for key in presented(headers):
            if 0 < len(key) <= MAX_KEY:
                name = self._names.get(self._hidden(sha256(key.encode("utf-8", "surrogateescape")).digest()))
                if name is not None:
                    return name
        return None

    def _hidden(self, digest: bytes) -> bytes:
        return hmac.digest(self._blind, digest, "sha256")


def presented(headers: CIMultiDictProxy[str]) -> Iterator[str]:
    """The keys in a request's headers, where OpenAI's and Anthropic's clients put them."""
    for value in headers.getall("Authorization", ()):
        scheme, _, key = value.partition(" ")
        if scheme.lower() == "bearer":
            yield key.strip()
    yield from headers.getall("x-api-key", ())


def read_keys(path: Path) -> list[ApiKey]:
    """
    A file of keys: one `name sha256` a line, `#` begins a comment.

    Raises:
        ConfigError: It cannot be read, a line is of another form, or a name stands twice.
    """
    found: dict[str, ApiKey] = {}
    for number, line in enumerate(read_text(path, "access.keys_file").splitlines(), 1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        match = _LINE.fullmatch(text)
        if match is None:
            # Not quoted: it may be the key itself.
            raise ConfigError("write `name sha256`, as `guard key NAME` prints it", path=str(path), line=number)
        if match["name"] in found:
            raise ConfigError(f"{match['name']!r} stands twice", path=str(path), line=number)
        found[match["name"]] = ApiKey(name=match["name"], sha256=match["sha256"])
    return list(found.values())


def read_secret(text: str | None, file: str | None, setting: str) -> str | None:
    """
    A secret that is given itself, or as a file that holds it.

    Raises:
        ConfigError: The file cannot be read, is empty, or holds what cannot stand in a header.
    """
    if file is None:
        secret, source = text, None
    else:
        secret, source = read_text(Path(file), f"{setting}_file").strip(), file
    if secret is not None and (not secret or not secret.isascii() or not secret.isprintable()):
        raise ConfigError("the secret must be one line of printable ASCII", path=source, where=setting)
    return secret
