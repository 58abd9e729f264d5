"""The compose example: what it names is there, and its settings are the guard's."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from guard.config import Config, load
from guard.environment import strangers

FOLDER = Path(__file__).parents[3] / "deploy/compose"
COMPOSE: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def test_every_file_that_is_mounted_is_there() -> None:
    named = [volume.split(":") for service in SERVICES.values() for volume in service.get("volumes", [])]
    mounted = [source for source, *_ in named if source.startswith(".")]
    assert len(mounted) >= 4
    for source in mounted:
        assert (FOLDER / source).exists(), source
    assert {source for source, *_ in named if not source.startswith(".")} == set(COMPOSE["volumes"])
    build = SERVICES["guard"]["build"]
    assert (FOLDER / build["context"] / build["dockerfile"]).is_file()


@pytest.mark.parametrize("name", SERVICES)
def test_services_name_networks_secrets_and_others_that_are_declared(name: str) -> None:
    service = SERVICES[name]
    assert set(service["networks"]) <= set(COMPOSE["networks"])
    assert set(service.get("secrets", [])) <= set(COMPOSE["secrets"])
    assert set(service.get("depends_on", {})) <= set(SERVICES)
    for port in service.get("ports", []):
        assert port.startswith("127.0.0.1:"), "nothing is open to the network until its owner says so"


def test_the_guard_starts_with_its_file_and_variables() -> None:
    variables = {name: value.replace("${GUARD_POLICY:-", "").rstrip("}") for name, value in
                 SERVICES["guard"]["environment"].items()}  # fmt: skip
    assert strangers(Config, variables) == []
    config = load(FOLDER / "guard.yaml", variables).config
    assert config.policy == "observe"
    assert f"/run/secrets/{SERVICES['guard']['secrets'][0]}" == config.access.admin_token_file
    assert config.recording is not None
    assert any(volume.endswith(config.recording.folder) for volume in SERVICES["guard"]["volumes"])
    port = config.upstreams[0].url.rsplit(":", 1)[1]
    assert f"--port={port}" in SERVICES["llama"]["command"]


def test_streams_have_time_to_end() -> None:
    config = load(FOLDER / "guard.yaml", {}).config
    assert int(SERVICES["guard"]["stop_grace_period"].removesuffix("s")) > config.timeouts.drain + 5


def test_prometheus_asks_with_the_token() -> None:
    scrape = yaml.safe_load((FOLDER / "prometheus.yml").read_text())["scrape_configs"][0]
    assert scrape["job_name"] == "guard"
    assert scrape["authorization"]["credentials_file"] == "/run/secrets/admin-token"
    assert "admin-token" in SERVICES["prometheus"]["secrets"]


def test_secrets_are_made_once_and_for_their_owner(tmp_path: Path) -> None:
    script = tmp_path / "secrets.sh"
    script.write_bytes((FOLDER / "secrets.sh").read_bytes())
    made = []
    for _ in range(2):
        subprocess.run(["sh", str(script)], check=True, capture_output=True)
        made.append([(tmp_path / "secrets" / name).read_text() for name in ("admin-token", "grafana-password")])
    assert made[0] == made[1]
    assert all(len(secret) > 30 and secret.isalnum() for secret in made[0])
    assert (tmp_path / "secrets").stat().st_mode & 0o077 == 0
