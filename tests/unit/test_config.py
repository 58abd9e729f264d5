"""The sidecar's configuration file: defaults, strictness, messages."""

from __future__ import annotations

from pathlib import Path

import pytest

from guard.config import AuditSettings, Config, load_config
from guard.config_rules import url_problem
from guard.errors import ConfigError
from guard.retry.budget import Budget


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "guard.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_one_upstream_is_enough(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, "upstreams: [{url: http://127.0.0.1:8080}]\n"))
    assert config.policy == "default"
    assert config.listen.port == 8000
    assert config.admin.host == "127.0.0.1"
    assert config.upstreams[0].engine == "auto"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("upstreams: []\n", "guard.yaml:1: upstreams: name at least one upstream"),
        ("policy: default\n", "guard.yaml: upstreams: name at least one upstream"),
        ("", "guard.yaml: upstreams: name at least one upstream"),
        ("upstreams: [{name: a}]\n", "guard.yaml:1: upstreams[0]: this must be given: 'url'"),
        ("upstreams:\n  - url: localhost:80\n", "guard.yaml:2: upstreams[0].url: 'localhost:80' is not a base URL"),
        ("upstreams: [{url: http://h}]\nlisten: {port: 99999}\n", "guard.yaml:2: listen.port"),
        (
            "upstreams: [{url: http://h}]\nlisten: {port: '80'}\n",
            "guard.yaml:2: listen.port: expected a whole number, got text",
        ),
        (
            "upstreams: [{url: http://h, engine: vlm}]\n",
            "upstreams[0].engine: 'vlm' is not known here; did you mean 'vllm'?",
        ),
        (
            "upstreams: [{url: http://h}]\npool: {quality: {kinds: [garbled, garble]}}\n",
            "pool.quality.kinds[1]: 'garble' is no kind of verdict; one of garbled, rare_chars, repetition",
        ),
        ("upstreams: [{url: http://h}]\nlisten: {port: 8001}\n", "admin.port: 8001 is the client port already"),
        ("upstreams: [{url: http://h}]\npolcy: x\n", "did you mean 'policy'"),
        # Never a name that would be refused there, too.
        (
            "upstreams: [{url: http://h, api_key: x}]\n",
            "setting 'api_key'; one of engine, exact_stops, name, num_speculative_tokens, profile, resolve, url",
        ),
        ("upstreams: [{url: http://h}]\nkey_fil: x\n", "did you mean 'store.tls.key_file'"),
        ("upstreams: [{url: http://h}]\ntimeouts: {idle: 0}\n", "timeouts.idle"),
        (
            "upstreams:\n  - url: http://h\n  - url: http://h/\n",
            "guard.yaml:3: upstreams[1].url: 'http://h' is upstreams[0]",
        ),
        (
            "upstreams:\n  - {url: http://h, name: a}\n  - {url: http://i, name: a}\n",
            "upstreams[1].name: 'a' is upstreams[0]",
        ),
        ("upstreams: [{url: https://h, resolve: host}]\n", "upstreams[0].url: resolve works with http only"),
        ("upstreams: [{url: http://h:80, resolve: srv}]\n", "SRV records have the ports"),
        ("upstreams: [{url: http://h, resolve: dns}]\n", "upstreams[0].resolve"),
        (
            "upstreams: [{url: http://h}]\npool:\n  ejection: {time: 5}\n",
            "guard.yaml:3: pool.ejection.time: must not be",
        ),
        (
            "upstreams: [{url: http://h}]\npool: {dns: {nameservers: [ns1]}}\n",
            "pool.dns.nameservers[0]: 'ns1' is no address",
        ),
        ("upstreams: [{url: http://h}]\npool: {panick: 0.5}\n", "did you mean 'panic'"),
        ("upstreams: [{url: http://h}]\npool: {health: {path: health}}\n", "pool.health.path"),
        (
            "upstreams: [{url: http://h}]\nretry_budget: {share: 120%}\n",
            "guard.yaml:2: retry_budget.share: '120%' is no",
        ),
        ("upstreams: [{url: http://h}]\nretry_budget: {share: 7}\n", "retry_budget.share: 7.0 is no share"),
        ("upstreams: [{url: http://h}]\nretry_budget: {flor: 7}\n", "did you mean 'floor'"),
        (
            "upstreams: [{url: http://h}]\nstore:\n  url: localhost\n",
            "guard.yaml:3: store.url: 'localhost' is not a store",
        ),
        ("upstreams: [{url: http://h}]\nstore: {url: 'redis://h', lease: 1}\n", "store.lease"),
        ("upstreams: [{url: http://h}]\nstore: {url: 'redis://h', pasword_env: X}\n", "did you mean 'password_env'"),
    ],
)
def test_refusals_name_the_place(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, text))
    assert says in str(caught.value)


def test_a_store_and_a_budget(tmp_path: Path) -> None:
    text = "upstreams: [{url: http://h}]\nretry_budget: {share: 12.5%, floor: 10}\nstore: {url: 'redis://h:1/2'}\n"
    config = load_config(write(tmp_path, text))
    assert config.retry_budget.budget() == Budget(share=1_250, floor=10)
    assert config.store is not None
    assert config.store.deadline == 0.05


def test_a_password_in_the_stores_url_is_refused_and_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="password_env") as caught:
        load_config(write(tmp_path, "upstreams: [{url: http://h}]\nstore: {url: 'redis://guard:s3cret@h'}\n"))
    assert "s3cret" not in str(caught.value)


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "none.yaml")


def test_a_file_that_is_not_utf8_says_so(tmp_path: Path) -> None:
    path = tmp_path / "guard.yaml"
    path.write_bytes(b"policy: \xff\n")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_config(path)


@pytest.mark.parametrize("url", ["http://h", "https://h:1/base/", "http://[::1]:8"])
def test_good_urls(url: str) -> None:
    assert url_problem(url) == ""


@pytest.mark.parametrize(
    "url", ["", "h", "ftp://h", "http://", "http://h:0", "http://h:x", "http://h?a=1", "http://[::1"]
)
def test_bad_urls(url: str) -> None:
    assert url_problem(url)


def test_the_configuration_is_frozen() -> None:
    config = Config(upstreams=[])
    with pytest.raises(AttributeError):
        config.policy = "x"  # type: ignore[misc]


def test_an_audit_has_bounds_and_defaults(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, "upstreams: [{url: http://h}]\naudit: {share: 0.5}\n"))
    assert config.audit == AuditSettings(share=0.5)
    assert config.capabilities == "prove"
    for setting in ("share: 2", "suspicion: 0", "prefill_per_second: 0", "calibrate: 0", "max_in_flight: 0"):
        with pytest.raises(ConfigError, match=f"audit.{setting.partition(':')[0]}"):
            load_config(write(tmp_path, f"upstreams: [{{url: http://h}}]\naudit: {{{setting}}}\n"))
