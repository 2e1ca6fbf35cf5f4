"""The cluster file of docs/how-to/cluster is one that `ray up` takes: what it does before it reaches any machine."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from sparring.fleet.join import has_ray

pytestmark = [
    pytest.mark.skipif(not has_ray(), reason="needs the extra: pip install 'sparring[ray]'"),
    pytest.mark.filterwarnings("default"),  # Ray's own
]
FILE = Path(__file__).parents[2] / "docs/how-to/cluster/ray-up.yaml"


def test_ray_takes_the_file() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config  # type: ignore[reportMissingImports]

    config = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    ready = prepare_config(config)
    validate_config(ready)
    (workers,) = ready["available_node_types"].values()
    assert workers["min_workers"] == workers["max_workers"] == len(config["provider"]["worker_ips"])
    for name in ("head_start_ray_commands", "worker_start_ray_commands"):
        assert ready[name] == config[name]  # not Ray's own
    with pytest.raises(Exception, match="head_start_commands"):
        validate_config({**ready, "head_start_commands": []})
