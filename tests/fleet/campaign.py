"""The controller of the campaign: a run on the cluster, in which a host is lost in every stage.

python tests/fleet/campaign.py RECIPE OUT HEAD WHEN      # on the controller's host; prints what it lost, as JSON

WHEN is `boundary` (before a stage's first shard is asked for) or `inside` (when the first one has come). It asks for a
host's loss by a line on stdout and waits for an answer on stdin, as only its parent sees the hosts.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from sparring.fleet.cluster import RayFleet, nodes
from sparring.fleet.join import cluster
from sparring.fleet.work import Job, Listeners, Shards, Work, using
from sparring.recipe.reading import parse_recipe
from sparring.rounds.run import run
from sparring.runtime.progress import Progress


class Losing:
    """A fleet that loses a host once in every stage."""

    shares = True

    def __init__(self, fleet: RayFleet, when: str) -> None:
        self.fleet, self.when = fleet, when
        self.hit: dict[str, str] = {}

    @property
    def ranks(self) -> int:
        return self.fleet.ranks

    def results(self, work: Work, shards: Shards) -> Iterator[tuple[int, Any]]:
        stage = work.title.split()[0]
        if self.when == "boundary":
            self.lose(stage, -1)
        for result in self.fleet.results(work, shards):
            if self.when == "inside":
                self.lose(stage, -1)
            yield result

    def together(self, job: Job, listeners: Listeners) -> Any:
        if self.when == "boundary":
            self.lose("fit", 0)

        def report(row: dict[str, float]) -> None:
            if row["step"] == 2 and self.when == "inside":
                self.lose("fit", 0)
            listeners["report"](row)

        return self.fleet.together(job, {**listeners, "report": report})

    def lose(self, stage: str, place: int) -> None:
        """Have the parent kill the host of a worker, and start it again; wait until the cluster has it back."""
        if stage in self.hit:
            return
        member = self.fleet.members[place]
        before = {node["NodeID"] for node in nodes()}
        self.hit[stage] = member.address
        print(json.dumps({"kill": member.address}), flush=True)
        sys.stdin.readline()
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not {node["NodeID"] for node in nodes()} - before:
            time.sleep(0.2)


def main(recipe: Path, out: Path, head: str, when: str) -> None:
    with cluster(head, None) as fleet:
        losing = Losing(fleet, when)
        with using(losing):
            run(parse_recipe(yaml.safe_load(recipe.read_text())), out, Progress(quiet=True))
    print(json.dumps({"lost": losing.hit}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
