"""`guard healthcheck`: for containers, which have no curl."""

from __future__ import annotations

import math
import os
import ssl
import sys
import time
from pathlib import Path

import httpx
import msgspec

from guard.config import AdminListen
from guard.config_rules import url_problem
from guard.data import read_text
from guard.environment import apply
from guard.errors import ConfigError
from guard.yamldoc import Document, to_struct

#: How long one question may take. Unit: seconds.
TIMEOUT = 3.0
#: Between two questions, where it waits. Unit: seconds.
PAUSE = 0.1


class _Admin(msgspec.Struct, frozen=True):
    """
    Of a configuration, the admin port alone. The guard may have read it when all of it was right: what is wrong
    elsewhere in it does not matter.
    """

    admin: AdminListen = AdminListen()


def healthcheck_command(url: str | None, wait: float = 0.0, config: Path | None = None) -> int:
    """
    Ask `/readyz` of a guard on this machine.

    Args:
        url: Its admin port; by the configuration if None.
        wait: For how long to ask again until it is ready: after a start. Unit: seconds.
        config: Its configuration file; the one that the environment names, if there is one, if None.

    Returns:
        0 when it is ready, 1 when it is not or cannot be reached.

    Raises:
        ConfigError: The URL is none, the file does not say where the port is, or the time is no length of time.
    """
    if url and config is not None:
        raise ConfigError("give it or --config, not both", where="--url")
    problem = url_problem(url) if url else ""
    if problem:
        raise ConfigError(problem, where="--url")
    if not 0 <= wait < math.inf:
        raise ConfigError("give a number of seconds from 0 on", where="--wait")
    admin = AdminListen() if url else _admin(config)
    target, context = (url or _url(admin)).rstrip("/") + "/readyz", _context(admin)
    deadline = time.monotonic() + wait
    while True:
        is_ready, said = _ask(target, context)
        if is_ready or time.monotonic() >= deadline:
            print(said, file=sys.stdout if is_ready else sys.stderr)
            return 0 if is_ready else 1
        time.sleep(PAUSE)


def _ask(target: str, context: ssl.SSLContext) -> tuple[bool, str]:
    """Whether it is ready, and what it or the system said."""
    try:
        answer = httpx.get(target, timeout=TIMEOUT, verify=context, trust_env=False)
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:  # of a host in the configuration, too
        return False, f"{target}: {error}"
    if answer.status_code not in (200, 503):
        return False, f"{target}: status {answer.status_code}, which the admin port of a guard does not answer here"
    return answer.status_code == 200, answer.text


def _context(admin: AdminListen) -> ssl.SSLContext:
    """
    How it is asked by HTTPS: the certificate is for the name that others use, and this never leaves the machine.

    Raises:
        ConfigError: The port wants to be shown a certificate, and the guard's own cannot be had.
    """
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if admin.tls is not None and admin.tls.client_ca is not None:
        try:
            context.load_cert_chain(admin.tls.cert, admin.tls.key)  # of those who may ask, the one that is at hand
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"{admin.tls.cert}: {error}", where="admin.tls") from error
    return context


def admin_url(config: Path | None = None) -> str:
    """
    Where the admin port is, by the configuration file and the variables.

    Raises:
        ConfigError: That file does not say.
    """
    return _url(_admin(config))


def _admin(config: Path | None) -> AdminListen:
    if config is not None:
        return _read(config)
    named = os.environ.get("GUARD_CONFIG")
    try:
        return _read(Path(named) if named else None)
    except ConfigError:
        return AdminListen()


def _read(path: Path | None) -> AdminListen:
    document = Document(read_text(path) if path is not None else "", str(path) if path is not None else None)
    apply(document, _Admin, os.environ)
    if document.data is None:
        document.data = {}
    admin = to_struct(document, _Admin).admin
    if not admin.port:
        document.fail("admin.port", "a free port is taken for 0; give --url, as the guard tells it")
    return admin


def _url(admin: AdminListen) -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(admin.host, admin.host)  # noqa: S104
    scheme = "http" if admin.tls is None else "https"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{admin.port}"
