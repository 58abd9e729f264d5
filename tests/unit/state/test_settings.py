"""How a store is named in the configuration, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from guard.errors import ConfigError
from guard.state.settings import (
    Address,
    StoreSettings,
    TlsSettings,
    address_of,
    check_files,
    host_port,
    password_of,
    problems,
)

FILE = {"password_file": "/f"}


@pytest.mark.parametrize(
    "settings",
    [
        StoreSettings(url="redis://h"),
        StoreSettings(url="rediss://10.0.0.5:6380/3", tls=TlsSettings(ca_file="/ca")),
        StoreSettings(url="unix:///run/redis.sock"),
        StoreSettings(url="redis://[::1]:6379/0", username="guard", **FILE),
        StoreSettings(url="redis://h", cluster=True, nodes=["h2:6379", "[::1]:1"]),
        StoreSettings(
            url="redis://mymaster/1", sentinels=["h:26379"], sentinel_username="u", sentinel_password_env="E"
        ),
    ],
)
def test_good_settings(settings: StoreSettings) -> None:
    assert list(problems(settings)) == []


@pytest.mark.parametrize(
    ("settings", "where", "says"),
    [
        (StoreSettings(url="http://h"), "url", "write it like redis://"),
        (StoreSettings(url="redis://h:x"), "url", "not a URL"),
        (StoreSettings(url="redis://h/one"), "url", "'one' is not the number"),
        (StoreSettings(url="redis://h?db=1"), "url", "nothing may follow"),
        (StoreSettings(url="redis://:s3cret@h"), "url", "password_file"),
        (StoreSettings(url="redis://h/1", cluster=True), "url", "only database 0"),
        (StoreSettings(url="unix:///s", cluster=True), "url", "takes no cluster"),
        (StoreSettings(url="unix://"), "url", "needs a path"),
        (StoreSettings(url="redis://h", sentinels=["h"]), "sentinels[0]", "host:port"),
        (StoreSettings(url="redis://h", cluster=True, sentinels=["h:1"]), "sentinels", "leave either"),
        (StoreSettings(url="redis://h", nodes=["h:1"]), "nodes", "cluster: true"),
        (StoreSettings(url="redis://h", namespace="a{b}"), "namespace", "letters, digits"),
        (StoreSettings(url="redis://h", username="u"), "username", "needs password_env"),
        (StoreSettings(url="redis://h", password_env="E", **FILE), "password_file", "either"),
        (StoreSettings(url="redis://h", sentinel_password_env="E"), "sentinel_password_env", "no sentinels"),
        (StoreSettings(url="redis://h", tls=TlsSettings(ca_file="/ca")), "tls", "rediss://"),
        (StoreSettings(url="rediss://h", tls=TlsSettings(key_file="/k")), "tls.key_file", "cert_file"),
    ],
)
def test_what_is_wrong_is_named(settings: StoreSettings, where: str, says: str) -> None:
    found = dict(problems(settings))
    assert says in found[where]
    assert "s3cret" not in found[where]


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://h", Address("h", 6379, 0, tls=False, path="")),
        ("rediss://h:1/2", Address("h", 1, 2, tls=True, path="")),
        ("unix:///run/re%20dis.sock", Address("", 0, 0, tls=False, path="/run/re dis.sock")),
    ],
)
def test_addresses(url: str, address: Address) -> None:
    assert address_of(StoreSettings(url=url)) == address


@pytest.mark.parametrize("text", ["", "h", "h:", "h:0", "h:x", ":1", "h:1/2", "u@h:1", "[::1"])
def test_what_is_no_address(text: str) -> None:
    assert host_port(text) is None


def test_the_password_comes_from_a_variable_or_a_file(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("s3 cret\n")
    assert password_of(StoreSettings(url="redis://h", password_env="P"), environ={"P": "x"}) == "x"
    assert password_of(StoreSettings(url="redis://h", password_file=str(file))) == "s3 cret"
    assert password_of(StoreSettings(url="redis://h")) is None
    by_sentinel = StoreSettings(url="redis://h", sentinels=["h:1"], sentinel_password_file=str(file))
    assert password_of(by_sentinel, "sentinel_") == "s3 cret"


def test_a_password_that_is_not_there_is_named(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.write_text("\n")
    with pytest.raises(ConfigError, match=r"store.password_env: .* P is not set"):
        password_of(StoreSettings(url="redis://h", password_env="P"), environ={})
    with pytest.raises(ConfigError, match=r"store.password_file: .*empty is empty"):
        password_of(StoreSettings(url="redis://h", password_file=str(empty)))
    with pytest.raises(ConfigError, match=r"store.password_file: .*cannot be read"):
        password_of(StoreSettings(url="redis://h", password_file=str(tmp_path / "none")))


@pytest.mark.parametrize("name", ["ca_file", "cert_file", "key_file"])
def test_a_certificate_that_is_not_there_is_named_before_anything_connects(tmp_path: Path, name: str) -> None:
    there, missing = tmp_path / "there", tmp_path / "missing"
    there.write_text("a certificate")
    files = dict.fromkeys(("ca_file", "cert_file", "key_file"), str(there))
    check_files(StoreSettings(url="rediss://h", tls=TlsSettings(**files)))
    files[name] = str(missing)
    with pytest.raises(ConfigError, match=rf"missing: store\.tls\.{name}: cannot be read: No such file"):
        check_files(StoreSettings(url="rediss://h", tls=TlsSettings(**files)))


def test_a_sentinels_password_is_looked_for_too() -> None:
    settings = StoreSettings(url="redis://m", sentinels=["h:1"], sentinel_password_env="P")
    check_files(settings, {"P": "secret"})
    with pytest.raises(ConfigError, match=r"store\.sentinel_password_env: .* P is not set"):
        check_files(settings, {})
