"""`guard key`: makes an API key for a client."""

from __future__ import annotations

import re
import secrets
import sys
from hashlib import sha256

from guard.errors import ConfigError


def new_key() -> str:
    """A key of 256 random bits."""
    return f"sg-{secrets.token_urlsafe(32)}"


def key_command(name: str) -> int:
    """
    Print a new key, and what goes into `access.keys_file`. The key itself is stored nowhere.

    Args:
        name: Who gets it.

    Raises:
        ConfigError: The name cannot stand in such a file.
    """
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", name):
        raise ConfigError(f"{name!r}: a name has 1 to 64 letters, digits, dots, dashes or underscores", where="name")
    key = new_key()
    print(f"For the client, shown only now:  {key}", file=sys.stderr)
    print(f"{name} {sha256(key.encode()).hexdigest()}")
    return 0
