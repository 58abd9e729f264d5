"""`guard healthcheck`: for containers, which have no curl."""

from __future__ import annotations

import math
import os
import sys
import time
from pathlib import Path

import httpx

from guard.config import Config, load
from guard.config_rules import url_problem
from guard.errors import ConfigError

#: How long one question may take. Unit: seconds.
TIMEOUT = 3.0
#: Between two questions, where it waits. Unit: seconds.
PAUSE = 0.1


def healthcheck_command(url: str | None, wait: float = 0.0) -> int:
    """
    Ask `/readyz` of a guard on this machine.

    Args:
        url: Its admin port; by the configuration that the environment names if None.
        wait: For how long to ask again until it is ready: after a start. Unit: seconds.

    Returns:
        0 when it is ready, 1 when it is not or cannot be reached.

    Raises:
        ConfigError: The URL is none, or the time is no length of time.
    """
    problem = url_problem(url) if url else ""
    if problem:
        raise ConfigError(problem, where="--url")
    if not 0 <= wait < math.inf:
        raise ConfigError("give a number of seconds from 0 on", where="--wait")
    target = (url or admin_url()).rstrip("/") + "/readyz"
    deadline = time.monotonic() + wait
    while True:
        is_ready, said = _ask(target)
        if is_ready or time.monotonic() >= deadline:
            print(said, file=sys.stdout if is_ready else sys.stderr)
            return 0 if is_ready else 1
        time.sleep(PAUSE)


def _ask(target: str) -> tuple[bool, str]:
    """Whether it is ready, and what it or the system said."""
    try:
        # The certificate is for the name that others use, and this never leaves the machine.
        answer = httpx.get(target, timeout=TIMEOUT, verify=False, trust_env=False)  # noqa: S501
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:  # of a host in the configuration, too
        return False, f"{target}: {error}"
    return answer.status_code == 200, answer.text


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
