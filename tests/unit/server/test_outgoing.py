"""Whose key a backend sees."""

from __future__ import annotations

from pathlib import Path

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from guard.config import AccessSettings, UpstreamTlsSettings
from guard.errors import ConfigError, RequestError
from guard.server.outgoing import Outgoing

CLIENTS = {"Authorization": "Bearer c", "X-Api-Key": "c", "Accept": "x"}


@pytest.mark.parametrize(
    ("access", "seen"),
    [
        (AccessSettings(), CLIENTS),
        (AccessSettings(keys_file="k"), {"Accept": "x"}),
        (AccessSettings(keys_file="k", forward=True), CLIENTS),
        (AccessSettings(keys_file="k", upstream_key="o"), {"Accept": "x", "Authorization": "Bearer o"}),
        (AccessSettings(upstream_key="o"), {"Accept": "x", "Authorization": "Bearer o"}),
    ],
)
def test_the_clients_key_and_the_guards_own(access: AccessSettings, seen: dict[str, str]) -> None:
    signed = Outgoing(access).sign(CIMultiDict(CLIENTS))
    del signed["Via"]
    assert signed == CIMultiDict(seen)


def test_it_knows_what_it_has_sent_itself() -> None:
    one, other = Outgoing(), Outgoing()
    there = one.sign(CIMultiDict({"Via": "1.1 nginx"}))
    back = CIMultiDictProxy(other.sign(there.copy()))
    assert there.getall("Via")[0] == "1.1 nginx"
    for sender in (one, other):
        with pytest.raises(RequestError) as caught:
            sender.check_loop(back)
        assert caught.value.status == 508
    Outgoing().check_loop(back)
    one.check_loop(CIMultiDictProxy(CIMultiDict({"Accept": "x"})))


def test_a_key_is_read_again_and_kept_when_its_file_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("one")
    outgoing = Outgoing(AccessSettings(upstream_key_file=str(path)))
    path.write_text("two")
    outgoing.reload_key()
    assert outgoing.own["Authorization"] == "Bearer two"
    path.write_text("")
    with pytest.raises(ConfigError):
        outgoing.reload_key()
    assert outgoing.own["Authorization"] == "Bearer two"


def test_by_default_the_systems_authorities_decide() -> None:
    assert Outgoing().ssl is True
    with pytest.raises(ConfigError, match=r"/nowhere: upstream_tls.ca: cannot be read"):
        Outgoing(tls=UpstreamTlsSettings(ca="/nowhere"))
