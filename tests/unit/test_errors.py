"""Errors name the place and keep their parts."""

from __future__ import annotations

import errno
import socket
import ssl

import pytest

from guard.errors import ConfigError, ProtocolError, RequestError, UpstreamError, system_words


def test_config_error_reads_as_file_line_setting_message() -> None:
    assert str(ConfigError("no", path="p.yaml", line=3, where="a.b")) == "p.yaml:3: a.b: no"
    assert str(ConfigError("no")) == "no"


def test_what_the_system_says_has_no_addresses_of_backends() -> None:
    loops = OSError(errno.ECONNREFUSED, "Connect call failed ('10.0.0.7', 8000)")
    assert system_words(loops) == "Connection refused"
    assert system_words(OSError("Multiple exceptions")) == "Multiple exceptions"
    assert system_words(socket.gaierror(socket.EAI_NONAME, "Name or service not known")) == "Name or service not known"
    with pytest.raises(ssl.SSLError) as caught:
        ssl.create_default_context(cadata="no certificate")
    assert "Operation" not in system_words(caught.value)


def test_protocol_error_names_where() -> None:
    assert str(ProtocolError("bad", where="event 4")) == "event 4: bad"
    assert str(ProtocolError("bad")) == "bad"


def test_request_error_defaults_to_400() -> None:
    assert RequestError("x").status == 400


def test_upstream_error_takes_only_known_kinds() -> None:
    assert str(UpstreamError("reset", "gone")) == "reset: gone"
    with pytest.raises(ValueError, match="unknown upstream fault"):
        UpstreamError("mood", "x")
