"""A server of pairs to vote on, for `voters.py`; when it stops (Ctrl-C) it says what a vote took, and checks the votes.

python tests/load/serve.py /tmp/contest --items 60000 --port 8799
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections import Counter
from pathlib import Path

from sparring.runtime.layout import VOTES
from sparring.serve.site import open_site
from sparring.serve.starting import serve
from sparring.votes.ballot import Ballot
from sparring.votes.database import open_database
from sparring.votes.items import make_item
from sparring.votes.records import read_records

ANSWER = "A paragraph of an answer, with **marks** and a list:\n\n- one\n- two\n\n" * 6


def main() -> None:
    """Fill the folder, serve it, and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--port", type=int, default=8799)
    arguments = parser.parse_args()
    if not (arguments.folder / VOTES).exists():
        (arguments.folder / VOTES).parent.mkdir(parents=True)
        ballot = Ballot(open_database(arguments.folder / VOTES))
        asked = ([{"role": "user", "content": f"question {i}"}] for i in range(arguments.items))
        items = [make_item("Which is better?", q, f"{i} {ANSWER}", f"{i}, {ANSWER}")[0] for i, q in enumerate(asked)]
        ballot.ask(items, wanted=1, skips=3)
        ballot.database.close()
    site = open_site([arguments.folder], None, tokens=False)
    before, cpu = len(read_records(open_database(arguments.folder / VOTES))), time.process_time()
    with contextlib.suppress(KeyboardInterrupt):
        serve(site, None, arguments.port, print)
    cpu = time.process_time() - cpu
    records = read_records(open_database(arguments.folder / VOTES))
    twice = Counter((record.item, record.voter, record.repeat) for record in records if not record.undone)
    votes = len(records) - before
    print(f"{votes} votes, {sum(n > 1 for n in twice.values())} twice, {1000 * cpu / max(votes, 1):.1f} ms CPU a vote")


if __name__ == "__main__":
    main()
