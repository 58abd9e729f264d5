"""Doors as one: what `running_guard` refuses to open."""

from __future__ import annotations

from pathlib import Path

import pytest

from guard.config import AccessSettings, Listen, TlsSettings
from guard.errors import ConfigError
from tests.integration.server.conftest import guarded
from tests.unit.core.transcript import policy


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"access": AccessSettings(keys_file="/nowhere")}, "/nowhere: access.keys_file: cannot be read"),
        ({"access": AccessSettings(admin_token_file="/nowhere")}, "/nowhere: access.admin_token_file: cannot be read"),
        (
            {"access": AccessSettings(upstream_key_file="/nowhere")},
            "/nowhere: access.upstream_key_file: cannot be read",
        ),
        (
            {"listen": Listen(port=0, tls=TlsSettings(cert="/nowhere", key="/nowhere"))},
            "/nowhere: listen.tls: cannot be read: No such file",
        ),
    ],
)
async def test_a_file_that_cannot_be_read_stops_the_start(settings: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        async with guarded("http://127.0.0.1:9", policy=policy(), **settings):
            pass


async def test_an_empty_file_of_keys_lets_nobody_in(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("")
    access = AccessSettings(keys_file=str(path))
    async with (
        guarded("http://127.0.0.1:9", policy=policy(), access=access) as (running, client),
        client.get(running.url + "/v1/models") as answer,
    ):
        assert answer.status == 401
