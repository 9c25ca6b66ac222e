"""Every resource of every overlay is what Kubernetes, KEDA and the Prometheus Operator take."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from tests.k8s.rendered import KUBECTL, OVERLAYS, Resource, named, of_kind, rendered

pytestmark = KUBECTL
VERSIONS = ("1.30", "1.37")
"""The oldest that knows all we use, and the newest there is a schema for."""
CUSTOM = {
    "ScaledObject": "keda/keda.sh",
    "PodMonitor": "prometheus-operator/monitoring.coreos.com",
    "PrometheusRule": "prometheus-operator/monitoring.coreos.com",
}
MODELS = os.environ.get("KUBERNETES_MODELS", "")
"""Folder into which npm has installed both packages of models."""
NEEDS_MODELS = pytest.mark.skipif(
    not (MODELS and shutil.which("node")),
    reason="needs node, and $KUBERNETES_MODELS: a folder after npm install "
    "@kubernetes-models/keda@2 @kubernetes-models/prometheus-operator@6",
)
FREE = {"metadata", "labels", "annotations"}
"""Whose keys are anybody's."""
BORROWED = {"matchLabels", "behavior"}
"""Fields of Kubernetes itself, which the strict schemas check in the other overlays."""


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("version", VERSIONS)
def test_resources_keep_to_the_strict_schemas(overlay: str, version: str) -> None:
    known = [resource for resource in rendered(overlay) if resource["kind"] not in CUSTOM]
    assert known
    for resource in known:
        kubernetes_validate.validate(resource, version, strict=True)


def test_an_unknown_field_is_found() -> None:
    worker = deepcopy(named("production", "Deployment", "dispatcher-worker"))
    worker["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(worker, VERSIONS[0], strict=True)


def model_errors(resources: list[Resource]) -> list[str]:
    script = Path(__file__).with_name("check_models.mjs")
    process = subprocess.run(
        ["node", str(script), MODELS],
        input=json.dumps(resources),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return process.stdout.splitlines()


def keys(value: Any) -> Iterator[str]:
    """Every name of a field, however deep."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in BORROWED:
                continue
            yield key
            if key not in FREE:
                yield from keys(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from keys(inner)


def fields(kind: str) -> set[str]:
    """Every field that the package of a kind knows."""
    folder = Path(MODELS, "node_modules/@kubernetes-models", CUSTOM[kind])
    texts = [path.read_text() for path in folder.rglob("*.d.ts")]
    return {name for text in texts for name in re.findall(r'"(\w+)"\??:', text)}


@NEEDS_MODELS
def test_custom_resources_keep_to_their_models() -> None:
    resources = [item for overlay in ("keda", "production") for item in of_kind(overlay, *CUSTOM)]
    assert {resource["kind"] for resource in resources} == set(CUSTOM)
    assert model_errors(resources) == []
    for resource in resources:
        assert set(keys(resource)) <= fields(resource["kind"]) | {"apiVersion", "kind"}


@NEEDS_MODELS
def test_a_threshold_that_is_a_number_is_found() -> None:
    scaled = deepcopy(named("keda", "ScaledObject", "dispatcher-worker"))
    scaled["spec"]["triggers"][0]["metadata"]["threshold"] = 6000
    assert len(model_errors([scaled])) == 1
