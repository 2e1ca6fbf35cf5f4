"""The campaign of `make test-fleet`: hosts without a common folder, one of which is lost in every stage."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from sparring.fleet.join import has_ray
from sparring.recipe.reading import parse_recipe
from sparring.rounds.run import run
from sparring.runtime.progress import Progress

pytestmark = [
    pytest.mark.skipif(not os.environ.get("SPARRING_TEST_HOSTS"), reason="run by `make test-fleet`, as root"),
    pytest.mark.skipif(not has_ray(), reason="needs the extra: pip install 'sparring[ray]'"),
]


@pytest.mark.parametrize("when", ["boundary", "inside"])
def test_hosts_are_lost_in_every_stage(when: str, tiny_recipe: dict[str, Any], tmp_path: Path) -> None:
    from fleet.hosts import PORT, address, hosts
    from fleet.test_cluster import check_same, several_shards

    plain = several_shards(tiny_recipe)
    visible = tmp_path / "visible"
    visible.mkdir()
    recipe = visible / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(plain))
    run(parse_recipe(plain), visible / "one", Progress(quiet=True))
    began = time.monotonic()
    hidden = [visible, Path(plain["model"]["path"])]
    with hosts(3, hidden) as machines:
        words = [sys.executable, str(Path(__file__).with_name("campaign.py")), str(recipe), str(visible / "lossy")]
        process = subprocess.Popen(
            machines.command(1, [*words, f"{address(1)}:{PORT}", when]),
            env=machines.environment(1),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        lost = {}
        for line in process.stdout:
            said = json.loads(line)
            if "kill" in said:
                number = int(said["kill"].rpartition(".")[2]) - 1
                machines.kill(number)
                machines.start(number)
                process.stdin.write("done\n")
                process.stdin.flush()
            lost = said.get("lost", lost)
        assert process.wait() == 0
    assert set(lost) == {"sample", "judge", "anchor", "fit", "KL"}
    assert machines.kills == 5
    check_same(visible / "one", visible / "lossy")
    print(f"{when}: {machines.kills} hosts lost, {time.monotonic() - began:.0f} s with their starts")
