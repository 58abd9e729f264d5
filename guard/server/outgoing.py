"""As whom the guard goes to the backends."""

from __future__ import annotations

import ssl
from typing import Literal

from multidict import CIMultiDict

from guard.config import AccessSettings, UpstreamTlsSettings
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
        """Take the client's key out of headers where it must not go on, and put the guard's own in."""
        if self._strips or self.own:
            for name in CREDENTIALS:
                headers.popall(name, None)
            headers.update(self.own)
        return headers
