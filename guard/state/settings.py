"""How the shared store is reached, as the configuration has it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated
from urllib.parse import unquote, urlsplit

import msgspec
from msgspec import Meta

from guard.data import read_text
from guard.errors import ConfigError

Seconds = Annotated[float, Meta(gt=0)]

_NAMESPACE = re.compile(r"[A-Za-z0-9._:-]{1,64}")


class TlsSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    For `rediss://`.

    Args:
        ca_file: Certificates that are trusted; the system's if not given.
        cert_file: The guard's own certificate, where the server asks for one.
        key_file: Its key.
        check_hostname: Whether the server's certificate must carry its name.
    """

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    check_hostname: bool = True


class StoreSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    A Redis that several guards share.

    Args:
        url: redis://host:port/db, rediss:// for TLS, or unix:///path. With `sentinels`, the host is the name
            of the master (redis://mymaster/0). No password in it.
        cluster: Whether it is a Redis Cluster; the URL and `nodes` are where it is entered.
        nodes: More nodes of a cluster, host:port each, in case the URL's own is down.
        sentinels: Sentinels that know the master, host:port each.
        username: ACL user; Redis' default user if not given.
        password_env: Name of the environment variable that holds the password.
        password_file: File that holds it.
        sentinel_username: ACL user on the sentinels.
        sentinel_password_env: Like password_env, for the sentinels.
        sentinel_password_file: Like password_file, for the sentinels.
        tls: Certificates for rediss://.
        namespace: Before all keys. Guards with the same namespace are one fleet.
        deadline: Longest that a request waits for the store. Unit: seconds.
        lease: Silence after which a guard counts as gone, and its retries with it. Unit: seconds.
        failures: Calls in a row that must fail before requests no longer wait for the store.
    """

    url: str
    cluster: bool = False
    nodes: list[str] = []
    sentinels: list[str] = []
    username: str | None = None
    password_env: str | None = None
    password_file: str | None = None
    sentinel_username: str | None = None
    sentinel_password_env: str | None = None
    sentinel_password_file: str | None = None
    tls: TlsSettings = TlsSettings()
    namespace: str = "specdec-guard"
    deadline: Annotated[float, Meta(gt=0, le=5)] = 0.05
    lease: Annotated[float, Meta(ge=2, le=300)] = 5.0
    failures: Annotated[int, Meta(ge=1, le=100)] = 3


def problems(settings: StoreSettings) -> Iterator[tuple[str, str]]:
    """
    What is wrong with the settings beyond their types.

    Yields:
        Setting's name inside the section, and what is wrong with it.
    """
    wrong = _url_problem(settings)
    if wrong:
        yield "url", wrong
    for name in ("nodes", "sentinels"):
        for index, node in enumerate(getattr(settings, name)):
            if host_port(node) is None:
                yield f"{name}[{index}]", f"{node!r} is no address; write host:port"
    if settings.cluster and settings.sentinels:
        yield "sentinels", "a cluster looks after its own masters; leave either `cluster` or `sentinels` out"
    if settings.nodes and not settings.cluster:
        yield "nodes", "only a cluster has more nodes; set `cluster: true`"
    if not _NAMESPACE.fullmatch(settings.namespace):
        yield "namespace", f"{settings.namespace!r} must be 1 to 64 letters, digits, or any of . _ : -"
    for prefix in ("", "sentinel_"):
        yield from _password_problems(settings, prefix)
    if settings.tls != TlsSettings() and not settings.url.startswith("rediss:"):
        yield "tls", "certificates are only used with a rediss:// URL"
    if settings.tls.key_file and not settings.tls.cert_file:
        yield "tls.key_file", "a key needs its certificate (cert_file)"


def _url_problem(settings: StoreSettings) -> str:
    try:
        parts = urlsplit(settings.url)
        port = parts.port
    except ValueError as error:
        return f"this is not a URL: {error}"
    if parts.password is not None or parts.username is not None:
        # The URL is not quoted: it holds the password.
        return "no user or password in the URL; use username and password_env, or password_file"
    if parts.scheme == "unix":
        remote = settings.cluster or settings.sentinels
        return "" if parts.path and not remote else "a unix:// URL needs a path, and takes no cluster or sentinels"
    if parts.scheme not in ("redis", "rediss") or not parts.hostname or port == 0:
        return f"{settings.url!r} is not a store; write it like redis://10.0.0.5:6379/0"
    if parts.query or parts.fragment:
        return f"{settings.url!r}: nothing may follow the database's number; other settings have names of their own"
    database = parts.path.strip("/")
    if database and not database.isdecimal():
        return f"{settings.url!r}: {database!r} is not the number of a database"
    if settings.cluster and database not in ("", "0"):
        return f"{settings.url!r}: a cluster has only database 0"
    return ""


def _password_problems(settings: StoreSettings, prefix: str) -> Iterator[tuple[str, str]]:
    variable, file = getattr(settings, f"{prefix}password_env"), getattr(settings, f"{prefix}password_file")
    if variable and file:
        yield f"{prefix}password_file", f"give either {prefix}password_env or {prefix}password_file"
    if getattr(settings, f"{prefix}username") and not (variable or file):
        yield f"{prefix}username", f"a user needs {prefix}password_env or {prefix}password_file"
    if prefix and (variable or file) and not settings.sentinels:
        yield f"{prefix}password_env" if variable else f"{prefix}password_file", "there are no sentinels"


def host_port(text: str) -> tuple[str, int] | None:
    """The parts of "host:port" (IPv6 in brackets), None when it is none."""
    try:
        parts = urlsplit(f"//{text}")
        port = parts.port
    except ValueError:
        return None
    if not parts.hostname or not port or parts.path or parts.query or parts.username is not None:
        return None
    return parts.hostname, port


class Address(msgspec.Struct, frozen=True):
    """A store's URL, taken apart. `path` is that of a Unix socket, or empty."""

    host: str
    port: int
    database: int
    tls: bool
    path: str


def address_of(settings: StoreSettings) -> Address:
    """Where the store is; the settings must have no `problems`."""
    parts = urlsplit(settings.url)
    if parts.scheme == "unix":
        return Address("", 0, 0, tls=False, path=unquote(parts.path))
    database = int(parts.path.strip("/") or 0)
    return Address(parts.hostname or "", parts.port or 6379, database, tls=parts.scheme == "rediss", path="")


def password_of(settings: StoreSettings, prefix: str = "", environ: Mapping[str, str] = os.environ) -> str | None:
    """
    The password, from its variable or file; None when none is configured.

    Args:
        settings: Checked settings.
        prefix: "" for the store's, "sentinel_" for the sentinels'.
        environ: Where variables are looked up.

    Raises:
        ConfigError: The variable is not set, the file cannot be read, or either is empty.
    """
    variable, file = getattr(settings, f"{prefix}password_env"), getattr(settings, f"{prefix}password_file")
    if variable:
        password = environ.get(variable, "")
        if not password:
            raise ConfigError(f"the environment variable {variable} is not set", where=f"store.{prefix}password_env")
        return password
    if file:
        where = f"store.{prefix}password_file"
        password = read_text(Path(file), where).rstrip("\n")
        if not password:
            raise ConfigError(f"{file} is empty", where=where)
        return password
    return None


def check_files(settings: StoreSettings, environ: Mapping[str, str] = os.environ) -> None:
    """
    See that all that is needed to reach the store can be read.

    Args:
        settings: Checked settings.
        environ: Where variables are looked up.

    Raises:
        ConfigError: A password or a certificate cannot be had.
    """
    for prefix in ("", "sentinel_"):
        password_of(settings, prefix, environ)
    for name in ("ca_file", "cert_file", "key_file"):
        file = getattr(settings.tls, name)
        if file is not None:
            read_text(Path(file), f"store.tls.{name}")
