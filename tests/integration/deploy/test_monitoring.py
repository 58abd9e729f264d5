"""Rules and dashboard against a guard that runs: their tests pass, and they name only what it really tells."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from guard.observe.metrics import NAMES
from tests.integration.server.conftest import guarded
from tests.integration.server.scripted import OK_SSE, backend
from tests.unit.core.transcript import BAD, DONE, FULL, chunk, policy

DEPLOY = Path(__file__).parents[3] / "deploy"
RULES = DEPLOY / "prometheus" / "guard.rules.yaml"
BOARD: dict[str, Any] = json.loads((DEPLOY / "grafana" / "dashboards" / "guard.json").read_text(encoding="utf-8"))
PANELS = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def expressions() -> list[str]:
    """Every expression of rules and dashboard, with Grafana's variables filled in."""
    found = [rule["expr"] for rule in rules()]
    found += [target["expr"] for panel in PANELS for target in panel["targets"]]
    found += [note["expr"] for note in BOARD["annotations"]["list"] if "expr" in note]
    for name, value in (("$__rate_interval", "5m"), ("$__range", "1h"), ("$job", ".*"), ("$instance", ".*")):
        found = [expression.replace(name, value) for expression in found]
    return found


def names() -> set[str]:
    return {name for expression in expressions() for name in re.findall(r"\bguard_[a-z0-9_]+", expression)}


@pytest.mark.parametrize("command", [["check", "rules", RULES.name], ["test", "rules", "guard.test.yaml"]])
def test_promtool_is_content(command: list[str]) -> None:
    done = subprocess.run(["promtool", *command], cwd=RULES.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_test_and_a_page() -> None:
    tests = yaml.safe_load((RULES.parent / "guard.test.yaml").read_text(encoding="utf-8"))["tests"]
    fired = {one["alertname"] for test in tests for one in test.get("alert_rule_test", []) if one.get("exp_alerts")}
    quiet = {one["alertname"] for test in tests for one in test.get("alert_rule_test", []) if "exp_alerts" not in one}
    page = (RULES.parent / "README.md").read_text(encoding="utf-8")
    for rule in rules():
        if "alert" in rule:
            assert rule["alert"] in fired & quiet
            assert f"### {rule['alert']}\n" in page
            assert rule["annotations"]["runbook"] == f"deploy/prometheus/README.md#{rule['alert'].lower()}"


def test_every_expression_of_the_dashboard_is_one(tmp_path: Path) -> None:
    file = tmp_path / "all.yaml"
    group = {"name": "all", "rules": [{"record": f"x:{n}", "expr": e} for n, e in enumerate(expressions())]}
    file.write_text(yaml.safe_dump({"groups": [group]}), encoding="utf-8")
    done = subprocess.run(["promtool", "check", "rules", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


async def test_everything_named_is_in_a_scrape_of_a_running_guard() -> None:
    def script(n: int) -> list[bytes | float | None]:
        return [OK_SSE, chunk(BAD), None] if n == 1 else [OK_SSE, chunk("Fine", finish="stop"), DONE]

    async with backend(script) as upstream, guarded(upstream.url, policy=policy(hold=FULL)) as (running, client):
        async with client.post(running.url + "/v1/chat/completions", json=CHAT) as response:
            await response.read()
        async with client.get(running.admin_url + "/metrics") as response:
            scrape = await response.text()
    done = subprocess.run(["promtool", "check", "metrics"], input=scrape, capture_output=True, text=True, check=False)
    complaints = [line for line in done.stderr.splitlines() if "guard_" in line]
    assert complaints == []
    families = dict(re.findall(r"^# TYPE (\S+) (\S+)$", scrape, re.MULTILINE))
    told = set(families)
    for name, kind in families.items():
        if kind == "histogram":
            told |= {f"{name}_bucket", f"{name}_sum", f"{name}_count"}
    assert names() <= told
    # And the other way round: nothing is told that NAMES does not document.
    assert {name.removesuffix("_total") for name in families if name.startswith("guard_")} <= set(NAMES)


def test_labels_that_are_named_exist() -> None:
    known = {"outcome", "mode", "kind", "action", "fault", "result", "replica", "model", "live", "shadow", "le"}
    # What Prometheus itself adds.
    known |= {"job", "instance", "cause", "standing", "version"}
    for expression in expressions():
        used = re.findall(r"[{,]\s*([a-z_]+)\s*(?:=|!=|=~|!~)", expression)
        used += [name for group in re.findall(r"\bby \(([^)]*)\)", expression) for name in re.split(r",\s*", group)]
        assert set(used) <= known, expression


def test_the_dashboard_is_laid_out_and_provisioned() -> None:
    assert (BOARD["uid"], BOARD["title"]) == ("specdec-guard", "Guard")
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
    for panel in PANELS:
        assert panel["title"]
        assert panel["description"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["datasource"]["uid"] == "${datasource}"
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    provider = yaml.safe_load((DEPLOY / "grafana" / "dashboards" / "provider.yaml").read_text(encoding="utf-8"))
    assert provider["providers"][0]["options"]["path"].startswith("/etc/grafana/provisioning")
    source = yaml.safe_load((DEPLOY / "grafana" / "datasources" / "prometheus.yaml").read_text(encoding="utf-8"))
    assert source["datasources"][0]["type"] == "prometheus"
