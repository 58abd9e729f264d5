"""What stands before both ports: certificates and the admin token, read again when their files change."""

from __future__ import annotations

import ssl

from aiohttp import web
from multidict import CIMultiDict

from guard.config import Config, Listen
from guard.server.admin_access import AdminAccess
from guard.server.gate import Gate
from guard.server.outgoing import Outgoing
from guard.server.tls import load_pair, server_context
from guard.server.watched import Watched


class Doors:
    """
    The outer parts of one guard.

    Args:
        config: Validated configuration.
        gate: Of the client port.
        outgoing: Credentials for the backends.

    Raises:
        ConfigError: A file is wrong.
    """

    def __init__(self, config: Config, gate: Gate, outgoing: Outgoing) -> None:
        self._config = config
        self._gate = gate
        self._outgoing = outgoing
        self._access = AdminAccess(config.access)
        self.watched = Watched()
        #: By section of the configuration; None for plain HTTP.
        self.contexts = {name: self._context(listen, name) for name, listen in self._ports()}

    def admin(self, app: web.Application) -> web.Application:
        """The admin application with its access checked."""
        app.middlewares.append(self._access.middleware())
        return app

    def watch(self, session_headers: CIMultiDict[str]) -> None:
        """
        Read files again when they change.

        Args:
            session_headers: Sent with the guard's own questions to the backends.
        """
        access, tls, outgoing = self._config.access, self._config.upstream_tls, self._outgoing

        def reload_key() -> None:
            outgoing.reload_key()
            session_headers.update(outgoing.own)

        self.watched.add([access.keys_file], self._gate.keys.reload, "access.keys_file")
        self.watched.add([access.admin_token_file], self._access.reload, "access.admin_token_file")
        self.watched.add([access.upstream_key_file], reload_key, "access.upstream_key_file")
        self.watched.add([tls.cert, tls.key], outgoing.reload_certificate, "upstream_tls")

    def _ports(self) -> tuple[tuple[str, Listen], ...]:
        return (("listen", self._config.listen), ("admin", self._config.admin))

    def _context(self, listen: Listen, name: str) -> ssl.SSLContext | None:
        settings = listen.tls
        if settings is None:
            return None
        context = server_context(settings, name)

        def reload() -> None:
            load_pair(context, settings.cert, settings.key, f"{name}.tls")

        self.watched.add([settings.cert, settings.key], reload, f"{name}.tls")
        return context
