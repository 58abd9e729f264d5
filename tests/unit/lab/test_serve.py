"""From arguments to a configuration."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from guard.errors import ConfigError
from guard.lab.draft import DEFAULT_DRAFT
from guard.lab.serve import baselines_of, configured


def arguments(**given: object) -> argparse.Namespace:
    values: dict[str, object] = {
        "config": None, "upstream": [], "policy": None, "host": None, "port": None, "admin_port": None,
        "log_level": None, "admin_host": None, "backend": None, **given,
    }  # fmt: skip
    return argparse.Namespace(**values)


def test_upstreams_and_overrides() -> None:
    config = configured(
        arguments(upstream=["http://a", "http://b"], policy="observe", port=1, admin_port=2, host="::1")
    )
    assert [u.url for u in config.upstreams] == ["http://a", "http://b"]
    assert (config.policy, config.listen.port, config.admin.port, config.listen.host) == ("observe", 1, 2, "::1")


def test_the_command_line_overrides_the_file(tmp_path: Path) -> None:
    path = tmp_path / "g.yaml"
    path.write_text("upstreams: [{url: http://file}]\npolicy: observe\nlisten: {port: 5}\n")
    config = configured(arguments(config=path, policy="default"))
    assert config.policy == "default"
    assert configured(arguments(config=path, policy=["default"])).policy == "default"
    assert configured(arguments(config=path, policy=["mine.yaml", "default"])).policy == ["mine.yaml", "default"]
    assert config.listen.port == 5
    assert config.upstreams[0].url == "http://file"


def test_no_backend_is_refused() -> None:
    with pytest.raises(ConfigError, match="name a backend"):
        configured(arguments())


def test_profiles_become_baselines(tmp_path: Path) -> None:
    path = tmp_path / "g.yaml"
    path.write_text(
        f"upstreams:\n  - {{url: http://a, profile: {DEFAULT_DRAFT}, num_speculative_tokens: 3}}\n  - {{url: http://b}}\n"
    )
    baselines = baselines_of(configured(arguments(config=path)))
    assert list(baselines) == ["http://a"]
    assert baselines["http://a"].k == 3


def test_a_replica_named_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="give each replica once") as caught:
        configured(arguments(upstream=["http://a", "http://a/"]))
    assert str(caught.value).startswith("--upstream: upstreams[1].url")
