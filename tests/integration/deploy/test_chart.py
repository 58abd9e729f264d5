"""The Helm chart: rendered by Helm's own engine, held against Kubernetes' schemas, its guard.yaml read by the guard."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import helm_python as helm
import kubernetes_validate
import pytest
import yaml

from guard.config import Config, load
from guard.environment import strangers

DEPLOY = Path(__file__).parents[3] / "deploy"
CHART = DEPLOY / "helm/specdec-guard"
UPSTREAMS = {"config": {"upstreams": [{"url": "http://vllm:8000", "engine": "vllm"}]}}
BACKEND = {
    "name": "vllm",
    "image": "vllm/vllm-openai",
    "args": ["--port=8080"],
    "resources": {"limits": {"nvidia.com/gpu": 1}},
}
VALUES: dict[str, dict[str, Any]] = {
    "standalone": UPSTREAMS,
    "everything": {
        **UPSTREAMS,
        "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "autoscaling": {"enabled": True, "targetInFlight": 200},
        "recordings": {"enabled": True},
        "secrets": ["client-keys"],
        "policies": {"mine.yaml": "version: 1\nname: mine\nextends: default\n"},
        "env": [{"name": "GUARD_LOG_HEALTHY", "value": "0.1"}],
        "networkPolicy": {
            "clients": [{"namespaceSelector": {"matchLabels": {"name": "apps"}}}],
            "monitoring": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}],
            "egress": [{"to": [{"podSelector": {"matchLabels": {"app": "vllm"}}}], "ports": [{"port": 8000}]}],
        },
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}
        ],
    },
    "sidecar": {"mode": "sidecar", "sidecar": {"backend": BACKEND, "engine": "vllm", "backendPort": 8080}},
    "bare": {
        **UPSTREAMS, "networkPolicy": {"enabled": False}, "podDisruptionBudget": {"enabled": False},
        "serviceAccount": {"create": False}, "adminToken": {"existingSecret": "mine"},
    },
}  # fmt: skip
VERSIONS = ("1.29", "1.33", "1.37")


def render(values: dict[str, Any], name: str = "guard") -> list[dict[str, Any]]:
    with helm.Chart.load(str(CHART)) as chart:
        texts = chart.render(values, name=name, namespace="guard")
    documents = [text for path, text in sorted(texts.items()) if path.endswith(".yaml")]
    return [document for text in documents for document in yaml.safe_load_all(text) if document]


def of(kind: str, documents: list[dict[str, Any]]) -> dict[str, Any]:
    return next(document for document in documents if document["kind"] == kind)


@pytest.mark.parametrize("case", VALUES)
@pytest.mark.parametrize("version", VERSIONS)
def test_what_it_renders_is_what_kubernetes_knows(case: str, version: str) -> None:
    for document in render(VALUES[case]):
        if document["apiVersion"].startswith("monitoring.coreos.com/"):
            continue  # of Prometheus' operator
        kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.parametrize("case", VALUES)
def test_its_guard_yaml_is_one_that_the_guard_starts_with(case: str, tmp_path: Path) -> None:
    documents = render(VALUES[case])
    path = tmp_path / "guard.yaml"
    path.write_text(of("ConfigMap", documents)["data"]["guard.yaml"])
    container = of("Deployment", documents)["spec"]["template"]["spec"]["containers"][0]
    variables = {one["name"]: one["value"] for one in container.get("env", [])}
    assert strangers(Config, variables) == []
    config = load(path, variables).config
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"http": config.listen.port, "admin": config.admin.port}
    mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
    assert config.access.admin_token_file is not None
    assert str(Path(config.access.admin_token_file).parent) in mounts


@pytest.mark.parametrize("case", VALUES)
def test_the_guard_has_no_rights_and_time_to_drain(case: str, tmp_path: Path) -> None:
    documents = render(VALUES[case])
    pod = of("Deployment", documents)["spec"]["template"]["spec"]
    container = pod["containers"][0]
    secure = container["securityContext"]
    assert secure["runAsNonRoot"]
    assert secure["readOnlyRootFilesystem"]
    assert not secure["allowPrivilegeEscalation"]
    assert secure["capabilities"] == {"drop": ["ALL"]}
    assert not pod["automountServiceAccountToken"]
    path = tmp_path / "guard.yaml"
    path.write_text(of("ConfigMap", documents)["data"]["guard.yaml"])
    waits = int(container["lifecycle"]["preStop"]["exec"]["command"][1]) + load(path, {}).config.timeouts.drain
    assert pod["terminationGracePeriodSeconds"] > waits


def test_beside_a_backend_the_guard_connects_to_loopback_and_stops_first() -> None:
    documents = render(VALUES["sidecar"])
    pod = of("Deployment", documents)["spec"]["template"]["spec"]
    (backend,) = pod["initContainers"]
    assert (backend["name"], backend["restartPolicy"]) == ("vllm", "Always")
    config = yaml.safe_load(of("ConfigMap", documents)["data"]["guard.yaml"])
    assert config["upstreams"] == [{"url": "http://127.0.0.1:8080", "name": "local", "engine": "vllm"}]
    assert [port["port"] for port in of("NetworkPolicy", documents)["spec"]["ingress"][0]["ports"]] == ["http"]


def test_the_selectors_find_the_pods() -> None:
    documents = render(VALUES["everything"])
    labels = of("Deployment", documents)["spec"]["template"]["metadata"]["labels"]
    for kind, path in (
        ("Service", ["selector"]),
        ("Deployment", ["selector", "matchLabels"]),
        ("PodDisruptionBudget", ["selector", "matchLabels"]),
        ("NetworkPolicy", ["podSelector", "matchLabels"]),
        ("PodMonitor", ["selector", "matchLabels"]),
    ):
        selector = of(kind, documents)["spec"]
        for step in path:
            selector = selector[step]
        assert selector.items() <= labels.items(), kind


def test_prometheus_is_given_the_token_that_the_guard_asks_for() -> None:
    documents = render(VALUES["everything"])
    secret = of("Secret", documents)
    assert len(base64.b64decode(secret["data"]["token"])) == 40
    (endpoint,) = of("PodMonitor", documents)["spec"]["podMetricsEndpoints"]
    asked = endpoint["authorization"]["credentials"]
    assert asked == {"name": secret["metadata"]["name"], "key": "token"}
    volumes = of("Deployment", documents)["spec"]["template"]["spec"]["volumes"]
    assert {"secretName": asked["name"], "defaultMode": 0o440} in [volume.get("secret") for volume in volumes]


def test_a_changed_configuration_rolls_the_pods() -> None:
    def checksum(policy: str) -> str:
        values = {"config": {**UPSTREAMS["config"], "policy": policy}}
        metadata = of("Deployment", render(values))["spec"]["template"]["metadata"]
        return str(metadata["annotations"]["checksum/config"])

    assert checksum("observe") != checksum("default")


@pytest.mark.parametrize(
    "values",
    [
        {"mode": "both"},
        {"replicas": "two"},
        {"image": {"repository": ""}},
        {"config": {"upstreams": [{"url": "vllm:8000"}]}},
        {"mode": "sidecar"},
        {"mode": "sidecar", "sidecar": {"backend": {"name": "x"}}},
        {"podMonitor": {"interval": "often"}},
        {"autoscalling": {"enabled": True}},
        {"secrets": ["A B"]},
    ],
)
def test_wrong_values_are_refused_by_their_schema(values: dict[str, Any]) -> None:
    with helm.Chart.load(str(CHART)) as chart, pytest.raises(helm.HelmError):
        chart.validate_schema({**UPSTREAMS, **values})


def test_helm_finds_nothing_to_complain_of() -> None:
    found = helm.lint(str(CHART), values=UPSTREAMS)
    assert found["errors"] == []
    assert [message["error"] for message in found["messages"]] == ["icon is recommended"]


def test_without_a_backend_it_says_what_is_missing() -> None:
    with helm.Chart.load(str(CHART)) as chart, pytest.raises(helm.HelmError, match=r"name at least one backend"):
        chart.render({}, name="guard", namespace="guard")


def test_the_plain_manifests_are_what_the_chart_renders() -> None:
    values = yaml.safe_load((DEPLOY / "kubernetes/values.yaml").read_text())
    plain = [one for one in yaml.safe_load_all((DEPLOY / "kubernetes/guard.yaml").read_text()) if one]

    def key(document: dict[str, Any]) -> str:
        return f"{document['kind']}/{document['metadata']['name']}"

    assert sorted(plain, key=key) == sorted(render(values), key=key)
