"""As whom the guard goes to the backends."""

from __future__ import annotations

import secrets
import ssl
from collections.abc import Mapping
from typing import Literal

from multidict import CIMultiDict, CIMultiDictProxy

from guard.config import AccessSettings, UpstreamTlsSettings
from guard.errors import RequestError
from guard.server.keys import read_secret
from guard.server.tls import client_context, load_pair

#: Headers in which clients send their keys.
CREDENTIALS = ("Authorization", "x-api-key")


class Outgoing:
    """
    The credentials of requests to backends.

    A client's key goes on when the guard asks for none itself, or when told to; the guard's own key replaces it.

    Args:
        access: Keys.
        tls: Certificates.

    Raises:
        ConfigError: A file is wrong.
    """

    def __init__(self, access: AccessSettings | None = None, tls: UpstreamTlsSettings | None = None) -> None:
        self._access = access or AccessSettings()
        self._tls = tls or UpstreamTlsSettings()
        #: How https:// backends are checked; True means by the system's authorities.
        self.ssl: ssl.SSLContext | Literal[True] = client_context(self._tls) or True
        #: Headers of the guard's own questions to backends.
        self.own: CIMultiDict[str] = CIMultiDict()
        #: Stands in every request that this process passes on (RFC 9110 section 7.6.3).
        self._via = f"1.1 guard-{secrets.token_hex(8)}"
        self._strips = bool(self._access.keys or self._access.keys_file) and not self._access.forward
        self.reload_key()

    def reload_key(self) -> None:
        """Read the key again. Raises ConfigError, and keeps what there was."""
        key = read_secret(self._access.upstream_key, self._access.upstream_key_file, "access.upstream_key")
        if key is not None:
            self.own["Authorization"] = f"Bearer {key}"

    def reload_certificate(self) -> None:
        """Read the certificate again. Raises ConfigError, and keeps what there was."""
        if self._tls.cert is not None and self._tls.key is not None and self.ssl is not True:
            load_pair(self.ssl, self._tls.cert, self._tls.key, "upstream_tls")

    def sign(self, headers: CIMultiDict[str]) -> CIMultiDict[str]:
        """Take the client's key out of headers where it must not go on, and put the guard's own and its mark in."""
        if self._strips or self.own:
            for name in CREDENTIALS:
                headers.popall(name, None)
            headers.update(self.own)
        headers.add("Via", self._via)
        return headers

    def keys_of(self, headers: Mapping[str, str]) -> dict[str, str]:
        """The client's key, where it is by it that its request went on; the guard's own stands in its session."""
        if self._strips or self.own:
            return {}
        return {name: headers[name] for name in CREDENTIALS if name in headers}

    def check_loop(self, headers: CIMultiDictProxy[str]) -> None:
        """
        See that a request does not come from this very process, if in a roundabout way.

        Passed on, it would come again, and where it is retried on the way, several times.

        Raises:
            RequestError: 508.
        """
        if "Via" in headers and any(self._via in value for value in headers.getall("Via")):
            raise RequestError("this guard is its own backend: see `upstreams`", status=508, code="loop")
