"""Errors name the place and keep their parts."""

from __future__ import annotations

import pytest

from guard.errors import ConfigError, ProtocolError, RequestError, UpstreamError


def test_config_error_reads_as_file_line_setting_message() -> None:
    assert str(ConfigError("no", path="p.yaml", line=3, where="a.b")) == "p.yaml:3: a.b: no"
    assert str(ConfigError("no")) == "no"


def test_protocol_error_names_where() -> None:
    assert str(ProtocolError("bad", where="event 4")) == "event 4: bad"
    assert str(ProtocolError("bad")) == "bad"


def test_request_error_defaults_to_400() -> None:
    assert RequestError("x").status == 400


def test_upstream_error_takes_only_known_kinds() -> None:
    assert str(UpstreamError("reset", "gone")) == "reset: gone"
    with pytest.raises(ValueError, match="unknown upstream fault"):
        UpstreamError("mood", "x")
