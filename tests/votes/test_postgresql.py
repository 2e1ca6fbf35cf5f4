"""The same votes in PostgreSQL: a real server of Debian's package, started for these tests alone."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa

from sparring.votes.ballot import Ballot
from sparring.votes.counting import Standing, hold, lacks, settle
from sparring.votes.database import Unavailable, open_database
from sparring.votes.items import make_item
from sparring.votes.people import add_voter, by_token
from sparring.votes.records import read_records
from sparring.votes.tables import ITEMS, VOTES
from vote_fakes import TO_VERSION_1, item, vote_all, voter

PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
pytestmark = [
    pytest.mark.more,
    pytest.mark.skipif(not PROGRAMS, reason="PostgreSQL is not installed (Debian: postgresql)"),
]


def _as_user(folder: Path) -> list[str]:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return []
    if shutil.which("runuser") is None:
        pytest.skip("PostgreSQL does not run as root, and there is no runuser")
    subprocess.run(["chown", "-R", "postgres", folder], check=True)
    return ["runuser", "-u", "postgres", "--"]


class Server:
    """A cluster in a folder of its own, on a free port."""

    def __init__(self, folder: Path) -> None:
        self.data, self.user = folder / "data", _as_user(folder)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        made = ["initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "--no-sync"]
        self._run(*map(str, made))
        self.start()

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories=''"
        self._run("pg_ctl", "-D", str(self.data), "-w", "-o", options, "-l", str(self.data / "log"), "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-D", str(self.data), "-m", "fast", "-w", "stop")

    def database(self, name: str) -> str:
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", name)
        return f"postgresql://postgres@127.0.0.1:{self.port}/{name}"

    def _run(self, program: str, *arguments: str) -> None:
        path = PROGRAMS[-1].parent / program
        subprocess.run([*self.user, str(path), *arguments], check=True, stdout=subprocess.DEVNULL, cwd="/")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    folder = Path(tempfile.mkdtemp())  # pytest's own folders are closed to the user postgres
    started = Server(folder)
    yield started
    started.stop()
    shutil.rmtree(folder)


@pytest.fixture
def ballot(server: Server, request: pytest.FixtureRequest) -> Iterator[Callable[[], Ballot]]:
    url = server.database(request.node.name[:60].lower())
    opened: list[Ballot] = []

    def connect() -> Ballot:
        opened.append(Ballot(open_database(url)))
        return opened[-1]

    yield connect
    for one in opened:
        one.database.close()


def test_voters_of_several_processes_lose_and_double_nothing(ballot: Callable[[], Ballot]):
    first = ballot()
    first.ask([item(i) for i in range(60)], wanted=2, skips=3)
    counts: list[int] = []
    people = [(ballot(), voter(first.database, f"voter {i}")) for i in range(5)]
    threads = [threading.Thread(target=lambda b=b, w=w: counts.append(vote_all(b, w))) for b, w in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    records = read_records(first.database)
    assert len(records) == sum(counts)
    assert len({(r.item, r.voter, r.repeat) for r in records}) == len(records)
    assert first.standing().open == 0
    with first.database.read() as connection:
        assert {tuple(row) for row in connection.execute(sa.select(ITEMS.c.lacks, lacks()))} == {(0, 0)}
    assert first.close([item(i).id for i in range(60)]) is not None


def test_asking_again_waits_for_a_vote_that_is_being_stored(ballot: Callable[[], Ballot]):
    one, other = ballot(), ballot()
    one.ask([item(0)], wanted=1, skips=3)
    ada = voter(one.database)
    showing = one.next_showing(ada)
    assert showing is not None
    with one.database.write() as voting:
        hold(voting, [item(0).id])
        asking = threading.Thread(target=other.ask, args=([item(0)], 1, 3))
        asking.start()
        asking.join(0.3)
        assert asking.is_alive(), "it waits"
        said = {"item": item(0).id, "voter": ada, "repeat": False, "left": 0, "verdict": "left", "voted_at": 0.0}
        voting.execute(VOTES.insert().values(showing=showing.id, **said))
        settle(voting, [item(0).id])
    asking.join()
    with one.database.read() as connection:
        assert tuple(connection.execute(sa.select(ITEMS.c.lacks, lacks())).one()) in {(0, 0), (1, 1)}


def test_a_database_of_version_1_is_completed(ballot: Callable[[], Ballot]):
    one = ballot()
    one.ask([item(i) for i in range(5)], wanted=1, skips=3)
    vote_all(one, voter(one.database), most=2)
    with one.database.write() as connection:
        for change in TO_VERSION_1:
            connection.exec_driver_sql(change)
    with ThreadPoolExecutor(2) as both:  # a server and a run that are started at once
        for opened in [both.submit(ballot) for _ in range(2)]:
            assert opened.result().standing() == Standing(wanted=5, open=3, votes=2)


def test_odd_texts_undo_and_tokens(ballot: Callable[[], Ballot]):
    one, odd = ballot(), "NUL \x00, half a pair \ud83d"
    one.ask([make_item("?", [{"role": "user", "content": odd}], odd, "plain")[0]], 1, 3)
    ada = voter(one.database)
    showing = one.next_showing(ada)
    assert showing is not None
    assert {showing.left, showing.right} == {odd, "plain"}
    one.vote(ada, showing.id, "left")
    one.vote(ada, one.undo(ada).id, "right")
    assert [(r.verdict, r.undone) for r in read_records(one.database)] == [("left", True), ("right", False)]
    token = add_voter(one.database, "Bob", "voter")
    assert by_token(one.database, token) is not None


def test_a_server_that_is_down_is_said_and_votes_before_it_stay(server: Server, ballot: Callable[[], Ballot]):
    one = ballot()
    one.ask([item(0), item(1)], wanted=1, skips=3)
    ada = voter(one.database)
    showing = one.next_showing(ada)
    assert showing is not None
    one.vote(ada, showing.id, "left")
    server.stop()
    try:
        with pytest.raises(Unavailable, match=r"does not answer|went away"):
            one.next_showing(ada)
    finally:
        server.start()
    second = one.next_showing(ada)
    assert second is not None
    assert second.id != showing.id
    assert [record.verdict for record in read_records(one.database)] == ["left"]
