"""The files of docs/how-to/cluster: the page shows them as they are, and the manifest is one that Kubernetes takes.

The RayCluster itself is checked against a table of its fields (KubeRay's raycluster_types.go), the pods and the claim
against the schemas of Kubernetes in the package kubernetes-validate. The batch script is run by
tests/fleet/test_slurm.py.
"""

from __future__ import annotations

import copy
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs/how-to/cluster"
PAGE = (ROOT / "docs/how-to/several-machines.md").read_text(encoding="utf-8")
KUBERNETES = "1.33"
EXTRA = "pip install -e '.[dev]'"
STRINGS = {"additionalProperties": {"type": "string"}}
POD_TEMPLATE = {"type": "object"}
"""checked by `check_known`"""
GROUP = {"rayStartParams": {"type": "object", **STRINGS}, "template": POD_TEMPLATE}
COUNT = {"type": "integer", "minimum": 0}
RAY_CLUSTER = {
    "type": "object",
    "required": ["apiVersion", "kind", "metadata", "spec"],
    "additionalProperties": False,
    "properties": {
        "apiVersion": {"const": "ray.io/v1"},
        "kind": {"const": "RayCluster"},
        "metadata": {"type": "object", "required": ["name"]},
        "spec": {
            "type": "object",
            "required": ["headGroupSpec"],
            "additionalProperties": False,
            "properties": {
                "rayVersion": {"type": "string"},
                "enableInTreeAutoscaling": {"type": "boolean"},
                "suspend": {"type": "boolean"},
                "headGroupSpec": {
                    "type": "object",
                    "required": ["template"],
                    "additionalProperties": False,
                    "properties": {**GROUP, "serviceType": {"type": "string"}, "enableIngress": {"type": "boolean"}},
                },
                "workerGroupSpecs": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["groupName", "minReplicas", "maxReplicas", "template"],
                        "additionalProperties": False,
                        "properties": {
                            **GROUP,
                            "groupName": {"type": "string"},
                            **dict.fromkeys(("replicas", "minReplicas", "maxReplicas", "numOfHosts"), COUNT),
                            "idleTimeoutSeconds": COUNT,
                            "suspend": {"type": "boolean"},
                        },
                    },
                },
            },
        },
    },
}


@pytest.mark.parametrize("name", [path.name for path in sorted(FOLDER.iterdir())])
def test_the_page_shows_the_file(name: str) -> None:
    blocks = re.findall(r"^```\w+\n(.*?)^```", PAGE, re.DOTALL | re.M)
    assert (FOLDER / name).read_text(encoding="utf-8") in blocks, f"copy {name} into docs/how-to/several-machines.md"
    assert f"](cluster/{name})" in PAGE


def manifest() -> tuple[dict[str, Any], dict[str, Any]]:
    """The claim, and the cluster."""
    claim, cluster = yaml.safe_load_all((FOLDER / "kuberay.yaml").read_text(encoding="utf-8"))
    return claim, cluster


def check(cluster: dict[str, Any]) -> None:
    """Raise where Kubernetes with KubeRay would refuse a RayCluster."""
    jsonschema = pytest.importorskip("jsonschema", reason=EXTRA)
    jsonschema.validate(cluster, RAY_CLUSTER)
    for group in groups(cluster):
        template = group["template"]
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"} | template.get("metadata", {})}
        check_known({**pod, "spec": template["spec"]})


def check_known(thing: dict[str, Any]) -> None:
    """Raise where Kubernetes would refuse a thing of its own."""
    package = pytest.importorskip("kubernetes_validate", reason=EXTRA)
    package.validate(thing, KUBERNETES, strict=True)


def groups(cluster: dict[str, Any]) -> list[dict[str, Any]]:
    """Of the head and of the workers."""
    return [cluster["spec"]["headGroupSpec"], *cluster["spec"]["workerGroupSpecs"]]


def test_the_manifest_is_valid() -> None:
    claim, cluster = manifest()
    check_known(claim)
    check(cluster)
    for group in groups(cluster):
        spec = group["template"]["spec"]
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        (container,) = spec["containers"]
        assert {mount["name"] for mount in container["volumeMounts"]} == volumes.keys()
        assert {"name": "shm", "mountPath": "/dev/shm"} in container["volumeMounts"]  # Ray's objects lie there
        claims = [v["persistentVolumeClaim"]["claimName"] for v in volumes.values() if "persistentVolumeClaim" in v]
        assert claims in ([], [claim["metadata"]["name"]])
    (workers,) = cluster["spec"]["workerGroupSpecs"]
    assert workers["minReplicas"] <= workers["replicas"] <= workers["maxReplicas"]
    assert cluster["spec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("spec", "workerGroupSpecs", 0, "replica"), 8),
        (("spec", "workerGroupSpecs", 0, "minReplicas"), "8"),
        (("spec", "headGroupSpec", "rayStartParams", "num-cpus"), 0),
        (("spec", "headGroupSpec", "template", "spec", "container"), []),
        (("spec", "headGroupSpec", "template", "spec", "containers", 0, "volumeMounts", 0, "path"), "/runs"),
        (("apiVersion",), "ray.io/v2"),
    ],
)
def test_a_wrong_manifest_is_found(path: tuple[Any, ...], value: Any) -> None:
    wrong = copy.deepcopy(manifest()[1])
    *folders, name = path
    place: Any = wrong
    for folder in folders:
        place = place[folder]
    place[name] = value
    with pytest.raises(Exception, match=r"(?s)is not|not of type|was expected|were unexpected|was unexpected"):
        check(wrong)


def test_the_versions_of_ray_agree() -> None:
    """One version on the page, in the files and in the constraints."""
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    pinned = re.search(r"^ray==(\S+)", constraints, re.M)
    found = set(re.findall(r"\bray(?:\[default\])?==([\d.]+)|rayVersion: \"([\d.]+)\"", PAGE))
    assert {one or other for one, other in found} == {pinned.group(1) if pinned else version("ray")}
