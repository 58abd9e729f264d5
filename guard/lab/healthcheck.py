"""`guard healthcheck`: for containers, which have no curl."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import httpx

from guard.config import Config, load
from guard.errors import ConfigError

TIMEOUT = 3.0


def healthcheck_command(url: str | None) -> int:
    """
    Ask `/readyz` of a guard on this machine.

    Args:
        url: Its admin port; by the configuration that the environment names if None.

    Returns:
        0 when it is ready, 1 when it is not or cannot be reached.
    """
    target = (url or admin_url()).rstrip("/") + "/readyz"
    try:
        # The certificate is for the name that others use, and this never leaves the machine.
        answer = httpx.get(target, timeout=TIMEOUT, verify=False, trust_env=False)  # noqa: S501
    except httpx.HTTPError as error:
        print(f"{target}: {error}", file=sys.stderr)
        return 1
    print(answer.text)
    return 0 if answer.status_code == 200 else 1


def admin_url() -> str:
    """Where the admin port is, by GUARD_CONFIG and the other variables."""
    named = os.environ.get("GUARD_CONFIG")
    try:
        admin = load(Path(named) if named else None, os.environ, own_upstream=True).config.admin
    except ConfigError:
        admin = Config(upstreams=[]).admin
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(admin.host, admin.host)  # noqa: S104
    scheme = "http" if admin.tls is None else "https"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{admin.port}"
