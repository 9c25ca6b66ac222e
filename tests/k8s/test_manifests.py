"""The manifests say what the code does: ports, probes, variables, metrics, labels, the drain."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser as promql
import pytest
import yaml

from benchmarks import sizing
from dispatcher.cli.main import root
from dispatcher.config import Config, load
from dispatcher.engine.runtime import FLUSH_SECONDS, create_providers
from dispatcher.web.app import Api
from dispatcher.web.gate import Gate
from dispatcher.web.health import READY_SECONDS, Checks, check_routes
from dispatcher.web.server import STOP_SECONDS
from k8s import prometheusrule
from tests.grafana.test_expressions import exported
from tests.k8s.rendered import (
    KUBECTL,
    OVERLAYS,
    ROOT,
    SECRETS,
    Resource,
    as_process,
    named,
    of_kind,
    pods,
    rendered,
)

pytestmark = KUBECTL
DEPLOYMENTS = ("dispatcher-api", "dispatcher-worker")
LEAVE_SECONDS = 5
"""For what the parts of a drain do not name."""
EACH = pytest.mark.parametrize("overlay", OVERLAYS)
ADAPTER = ROOT / "k8s/overlays/hpa/adapter-rules.yaml"


def effective(overlay: str, deployment: str, folder: Path) -> Config:
    """The configuration that a container ends up with."""
    started = as_process(overlay, deployment, folder)
    return load(Path(started.env["DISPATCHER_CONFIG"]), started.env)


@EACH
@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_the_configuration_loads(overlay: str, deployment: str, tmp_path: Path) -> None:
    config = effective(overlay, deployment, tmp_path)
    assert create_providers(config) and config.tenants and config.operators
    Api(config)
    port = as_process(overlay, deployment, tmp_path).container["ports"][0]["containerPort"]
    if deployment == "dispatcher-api":
        assert (config.api.host, config.api.port) == ("0.0.0.0", port)
    else:
        assert (config.worker.processes, config.worker.port) == (1, port)


@pytest.mark.parametrize("overlay", ["production", "keda", "hpa"])
def test_production_reaches_its_store_over_tls(overlay: str, tmp_path: Path) -> None:
    for deployment in DEPLOYMENTS:
        store = effective(overlay, deployment, tmp_path).store
        assert store.url.startswith("rediss")
        assert store.tls_ca is not None and Path(store.tls_ca).is_file()
        assert store.username is not None and store.password is not None
        assert store.password.reveal() == "secret"
    assert not of_kind(overlay, "Secret")


def references(value: Any) -> Iterator[tuple[str, str]]:
    """Kind and name of every ConfigMap and Secret that pods ask for."""
    kinds = {"configMap": "ConfigMap", "secretRef": "Secret", "secretKeyRef": "Secret"}
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in kinds:
                yield kinds[key], inner["name"]
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


@EACH
def test_what_pods_ask_for_is_there_or_brought_by_the_operator(overlay: str) -> None:
    there = {
        (item["kind"], item["metadata"]["name"]) for item in of_kind(overlay, "ConfigMap", "Secret")
    }
    asked = {found for _, pod in pods(overlay) for found in references(pod)}
    brought = set() if overlay == "dev" else {("Secret", "dispatcher-secrets")}
    assert asked == there | brought


def test_the_development_overlay_sends_nothing_to_anybody(tmp_path: Path) -> None:
    config = effective("dev", "dispatcher-worker", tmp_path)
    names = {item["metadata"]["name"] for item in of_kind("dev", "Service")}
    for provider in config.providers.values():
        assert re.fullmatch(r"http://([\w-]+):\d+", provider.base_url or "")
        assert (provider.base_url or "").split("/")[2].split(":")[0] in names
    (secret,) = of_kind("dev", "Secret")
    assert set(secret["data"]) == set(SECRETS)


@EACH
def test_commands_parse(overlay: str) -> None:
    for _, pod in pods(overlay):
        for container in pod["spec"]["containers"]:
            if not container["image"].startswith("valkey/"):
                name, *options = container["args"]
                command = root.get_command(root.make_context("dispatcher", [name]), name)
                assert command is not None
                command.make_context(name, list(options))


@EACH
@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_probes_ask_what_is_served(overlay: str, deployment: str, tmp_path: Path) -> None:
    served = {route.path for route in check_routes(Checks(Gate()))}
    started = as_process(overlay, deployment, tmp_path)
    for kind, path in (("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")):
        probe = started.container[kind]
        assert probe["httpGet"]["path"] == path
        assert path in served
        assert started.port(probe["httpGet"]["port"])
        assert probe["timeoutSeconds"] > READY_SECONDS


@EACH
def test_the_grace_period_has_room_for_every_part_of_the_drain(
    overlay: str, tmp_path: Path
) -> None:
    config = effective(overlay, "dispatcher-worker", tmp_path)
    answers = max(provider.timeout for provider in config.providers.values())
    parts = (FLUSH_SECONDS, answers, FLUSH_SECONDS, STOP_SECONDS, LEAVE_SECONDS)
    assert as_process(overlay, "dispatcher-worker", tmp_path).grace == sum(parts)
    api = as_process(overlay, "dispatcher-api", tmp_path)
    before = api.container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert api.grace == before + STOP_SECONDS + LEAVE_SECONDS


@EACH
def test_pods_are_restricted(overlay: str) -> None:
    for _, pod in pods(overlay):
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert {"cpu", "memory"} <= set(container["resources"]["requests"])
            assert set(container["resources"]["limits"]) == {"memory"}


def test_the_image_runs_as_the_user_of_the_pods() -> None:
    text = (ROOT / "Dockerfile").read_text()
    user = named("production", "Deployment", "dispatcher-worker")["spec"]["template"]["spec"][
        "securityContext"
    ]["runAsUser"]
    assert f"USER {user}:{user}\n" in text and f"--uid {user} " in text
    assert 'ENTRYPOINT ["dispatcher"]\n' in text
    assert "://" not in re.sub(r"http://127\.0\.0\.1:\d+/healthz", "", text)
    for line in re.findall(r"^COPY (?!--from)(.*)$", text, re.MULTILINE):
        assert all((ROOT / name).exists() for name in line.split()[:-1])


def selectors(resource: Resource) -> Iterator[dict[str, str]]:
    """The labels by which a resource means pods of its own overlay."""
    spec = resource.get("spec", {})
    for key in ("selector", "podSelector"):
        if found := spec.get(key):
            yield found.get("matchLabels", found)
    rules = [*spec.get("ingress", ()), *spec.get("egress", ())]
    for rule in rules if resource["kind"] == "NetworkPolicy" else ():
        for peer in [*rule.get("from", ()), *rule.get("to", ())]:
            if "podSelector" in peer:
                yield peer["podSelector"]["matchLabels"]


@EACH
def test_every_selector_finds_a_pod(overlay: str) -> None:
    labels = [pod["metadata"]["labels"] for _, pod in pods(overlay)]
    found = [(item, wanted) for item in rendered(overlay) for wanted in selectors(item)]
    assert {"Service", "Deployment", "PodDisruptionBudget", "NetworkPolicy"} <= {
        item["kind"] for item, _ in found
    }
    for item, wanted in found:
        assert any(wanted.items() <= have.items() for have in labels), item["metadata"]["name"]
    for _, pod in pods(overlay):
        for spread in pod["spec"].get("topologySpreadConstraints", ()):
            assert spread["labelSelector"]["matchLabels"] == pod["metadata"]["labels"]


@EACH
def test_ports_with_a_name_are_those_of_pods(overlay: str) -> None:
    specs = [pod["spec"] for _, pod in pods(overlay)]
    ports = {port["name"] for spec in specs for port in spec["containers"][0]["ports"]}
    services = [port for item in of_kind(overlay, "Service") for port in item["spec"]["ports"]]
    monitored = [item["spec"]["podMetricsEndpoints"] for item in of_kind(overlay, "PodMonitor")]
    wanted = {port.get("targetPort", port["name"]) for port in services}
    wanted |= {endpoint["port"] for endpoints in monitored for endpoint in endpoints}
    for policy in of_kind(overlay, "NetworkPolicy"):
        for rule in policy["spec"].get("ingress", ()):
            wanted |= {port["port"] for port in rule["ports"]}
    assert wanted == ports


def test_the_prometheus_rule_is_made_of_the_rules() -> None:
    assert prometheusrule.MANIFEST.read_text() == prometheusrule.manifest()
    files = [yaml.safe_load(path.read_text()) for path in prometheusrule.RULES.glob("*.yaml")]
    groups = named("production", "PrometheusRule", "dispatcher")["spec"]["groups"]
    assert len(groups) == 3
    for group in groups:
        assert any(group in file["groups"] for file in files)


def scaled() -> dict[str, Any]:
    found: dict[str, Any] = named("keda", "ScaledObject", "dispatcher-worker")["spec"]
    return found


def test_the_query_asks_for_what_is_exported_in_the_namespace() -> None:
    query = scaled()["triggers"][0]["metadata"]["query"]
    promql.parse(query)
    assert set(re.findall(r"dispatcher_\w+", query)) <= set(exported())
    namespace = named("keda", "Deployment", "dispatcher-worker")["metadata"]["namespace"]
    assert query.count(f'{{namespace="{namespace}"}}') == query.count("{")


def test_a_worker_is_asked_for_seven_tenths_of_what_it_can_do() -> None:
    threshold = float(scaled()["triggers"][0]["metadata"]["threshold"])
    cost = sizing.costs().sending["together"].worker
    assert threshold == pytest.approx(0.7 * 1e6 / cost, rel=0.1)
    fallback = named("production", "Deployment", "dispatcher-worker")["spec"]["replicas"]
    assert scaled()["fallback"]["replicas"] == fallback
    assert (fallback - 1) * threshold < sizing.PEAK <= fallback * threshold


def test_both_autoscalers_have_one_rule() -> None:
    hpa, keda = named("hpa", "HorizontalPodAutoscaler", "dispatcher-worker")["spec"], scaled()
    assert hpa["behavior"] == keda["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert hpa["minReplicas"] == keda["minReplicaCount"]
    assert hpa["maxReplicas"] == keda["maxReplicaCount"]
    (metric,), (trigger,) = hpa["metrics"], keda["triggers"]
    assert metric["external"]["target"] == {
        "type": trigger["metricType"],
        "averageValue": trigger["metadata"]["threshold"],
    }
    (rule,) = yaml.safe_load(ADAPTER.read_text())["externalRules"]
    assert rule["name"]["as"] == metric["external"]["metric"]["name"]
    asked = rule["metricsQuery"].replace("<<.LabelMatchers>>", 'namespace="dispatcher"')
    assert asked == trigger["metadata"]["query"]


@pytest.mark.parametrize("overlay", ["keda", "hpa"])
def test_an_autoscaler_alone_decides_how_many_workers_there_are(overlay: str) -> None:
    worker = named(overlay, "Deployment", "dispatcher-worker")
    assert "replicas" not in worker["spec"]
    target = of_kind(overlay, "ScaledObject", "HorizontalPodAutoscaler")[0]["spec"][
        "scaleTargetRef"
    ]
    assert target["name"] == worker["metadata"]["name"]
