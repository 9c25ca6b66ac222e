"""The overlays as `kubectl kustomize` renders them, and containers as plain processes see them."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

ROOT = Path(__file__).parents[2]
OVERLAYS = ("dev", "production", "keda", "hpa")
KUBECTL = pytest.mark.skipif(
    shutil.which("kubectl") is None, reason="needs kubectl, which renders the overlays"
)
SECRETS = {"ACME_TOKEN": "acme", "ONCALL_TOKEN": "oncall", "TWILIO_AUTH_TOKEN": "0" * 32}
"""The Secret dispatcher-secrets of a cluster."""
STORE_SECRET = {"username": "dispatcher", "password": "secret", "ca.crt": "a certificate"}
"""The Secret dispatcher-store."""
PROGRAM = (sys.executable, "-m", "dispatcher")
"""What the image's entry point runs."""

Resource = dict[str, Any]


@functools.cache
def rendered(overlay: str) -> tuple[Resource, ...]:
    """Every resource of an overlay."""
    process = subprocess.run(
        ["kubectl", "kustomize", str(ROOT / "k8s/overlays" / overlay)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert process.returncode == 0 and not process.stderr, process.stderr
    return tuple(yaml.safe_load_all(process.stdout))


def of_kind(overlay: str, *kinds: str) -> list[Resource]:
    return [resource for resource in rendered(overlay) if resource["kind"] in kinds]


def named(overlay: str, kind: str, name: str) -> Resource:
    (found,) = [item for item in of_kind(overlay, kind) if item["metadata"]["name"] == name]
    return found


def pods(overlay: str) -> Iterator[tuple[str, Resource]]:
    """The name and pod template of everything that has one."""
    for resource in of_kind(overlay, "Deployment", "StatefulSet"):
        yield resource["metadata"]["name"], resource["spec"]["template"]


class Started(NamedTuple):
    """A container as a process: its command, environment, and what its volumes hold."""

    command: list[str]
    env: dict[str, str]
    user: int
    grace: float
    container: Resource

    def port(self, name: str) -> int:
        (port,) = [item for item in self.container["ports"] if item["name"] == name]
        return int(port["containerPort"])


def as_process(overlay: str, deployment: str, folder: Path) -> Started:
    """The only container of a Deployment. Its volumes are folders below `folder`, and the
    environment names those in place of the paths in the pod."""
    pod = named(overlay, "Deployment", deployment)["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    paths = dict(_mounted(overlay, pod, container, folder))
    env = {
        item["name"]: _translated(item["value"], paths)
        for item in container.get("env", ())
        if "value" in item
    }
    if container.get("envFrom"):
        env = SECRETS | env
    return Started(
        [*PROGRAM, *container["args"]],
        env,
        pod["securityContext"]["runAsUser"],
        pod["terminationGracePeriodSeconds"],
        container,
    )


def _mounted(
    overlay: str, pod: Resource, container: Resource, folder: Path
) -> Iterator[tuple[str, str]]:
    """Path in the pod and folder on this machine of each volume, filled."""
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    for mount in container["volumeMounts"]:
        here = folder / mount["name"]
        here.mkdir(exist_ok=True)
        for name, text in _content(overlay, volumes[mount["name"]]).items():
            (here / name).write_text(text)
        yield mount["mountPath"], str(here)


def _content(overlay: str, volume: Resource) -> Mapping[str, str]:
    if "configMap" in volume:
        found: Mapping[str, str] = named(overlay, "ConfigMap", volume["configMap"]["name"])["data"]
        return found
    if "secret" in volume:
        assert volume["secret"]["secretName"] == "dispatcher-store"
        return STORE_SECRET
    assert "emptyDir" in volume
    return {}


def _translated(value: str, paths: Mapping[str, str]) -> str:
    pattern = "|".join(re.escape(path) for path in paths)
    return re.sub(rf"({pattern})(?=/)", lambda found: paths[found[0]], value)
