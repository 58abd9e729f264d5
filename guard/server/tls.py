"""Certificates: of the guard's own ports, and of the backends."""

from __future__ import annotations

import ssl

from guard.config import TlsSettings, UpstreamTlsSettings
from guard.data import unreadable
from guard.errors import ConfigError


def server_context(settings: TlsSettings, setting: str) -> ssl.SSLContext:
    """
    What a port shows to who connects.

    Args:
        settings: Files.
        setting: The port's section, for messages.

    Raises:
        ConfigError: A file cannot be read, or key and certificate do not fit.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    load_pair(context, settings.cert, settings.key, f"{setting}.tls")
    if settings.client_ca is not None:
        _trust(context, settings.client_ca, f"{setting}.tls.client_ca")
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(settings: UpstreamTlsSettings) -> ssl.SSLContext | None:
    """
    How backends are checked; None where nothing is set, which means the system's authorities.

    Raises:
        ConfigError: As for `server_context`.
    """
    if settings == UpstreamTlsSettings():
        return None
    context = ssl.create_default_context()
    if settings.ca is not None:
        # Only this one: the system's authorities have no say about the backends then.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        _trust(context, settings.ca, "upstream_tls.ca")
    if settings.cert is not None and settings.key is not None:
        load_pair(context, settings.cert, settings.key, "upstream_tls")
    return context


def load_pair(context: ssl.SSLContext, cert: str, key: str, setting: str) -> None:
    """
    Put a certificate and its key into a context; connections made from then on use them.

    Raises:
        ConfigError: They cannot be read or do not fit; the context is as it was.
    """
    try:
        # Tried apart, so that half a renewed pair never comes into use.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password="")
        context.load_cert_chain(cert, key, password="")
    except (OSError, ssl.SSLError, ValueError) as error:
        for path in (cert, key):
            _see_that_it_is_there(path, setting)
        raise ConfigError(f"{cert} and {key} are no certificate and its key: {_why(error)}", where=setting) from error


def _trust(context: ssl.SSLContext, path: str, setting: str) -> None:
    try:
        context.load_verify_locations(path)
    except (OSError, ssl.SSLError) as error:
        _see_that_it_is_there(path, setting)
        raise ConfigError(f"{path} holds no certificates: {_why(error)}", where=setting) from error


def _see_that_it_is_there(path: str, setting: str) -> None:
    """Raise ConfigError for a file that cannot be opened: OpenSSL does not say which of two it means."""
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise unreadable(path, error, setting) from error


def _why(error: Exception) -> str:
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
    return str(reason).replace("_", " ").lower()
