"""Starting the server: its address, which must be free, and what is said of it.

serve(site, host=None, port=8765, say=print)
"""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import uvicorn

from sparring.serve.app import make_app
from sparring.serve.site import Site
from sparring.votes.people import add_voter, all_voters

LOOPBACK = "127.0.0.1"
STOP_SECONDS = 5
"""that a request may still take when the server stops"""


def serve(
    site: Site, host: str | None, port: int, say: Callable[[str], None], tls: tuple[Path, Path] | None = None
) -> None:
    """Serve until Ctrl-C or SIGTERM. `tls`: files of a certificate and its key.

    Raises:
        ValueError: the port is taken, or the address is not this machine's.
    """
    listening = _bound(host or LOOPBACK, port)
    scheme, address = "https" if tls else "http", f"{host or LOOPBACK}:{listening.getsockname()[1]}"
    for line in welcome(site, f"{scheme}://{address}", tls is not None):
        say(line)
    app = make_app(site, cookie=f"sparring-{listening.getsockname()[1]}", secure=tls is not None)
    for watched in app.state.watched:  # what the first look loads takes seconds
        threading.Thread(target=watched.look, daemon=True).start()
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,  # paths hold tokens
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=STOP_SECONDS,
        ssl_certfile=tls and tls[0],
        ssl_keyfile=tls and tls[1],
    )
    uvicorn.Server(config).run(sockets=[listening])


def welcome(site: Site, address: str, encrypted: bool) -> list[str]:
    """What is said when the server starts; the first owner's link is made here, and shown this once."""
    if not site.tokens:
        return [
            f"open {address} (this machine only; from another one: ssh -L {address.rpartition(':')[2]}:"
            f"{address.partition('//')[2]} HOST)",
            *_kept_where(site),
        ]
    assert site.database is not None
    lines = [f"listening at {address}, for people with a link; votes are kept in {site.database.place}"]
    if not any(voter.role == "owner" and voter.has_link for voter in all_voters(site.database)):
        names = {voter.name for voter in all_voters(site.database)}
        name = next(name for name in ("owner", *(f"owner {i}" for i in range(2, 1000))) if name not in names)
        lines.append(f"your own link, shown only now: {address}/enter/{add_voter(site.database, name, 'owner')}")
    else:
        lines.append("links: sparring votes add RUN NAME; the owner's page makes them too")
    if not encrypted:
        lines.append("warning: without --certificate and --key everybody on the network can read links and votes")
    return lines


def _kept_where(site: Site) -> list[str]:
    if site.database is not None:
        return [f"votes are kept in {site.database.place}"]
    return [f"nothing is written until somebody gives a name in Try: then {site.place}"] if site.runs else []


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sends at once where the protocol is named; else an answer in two parts waits 40 ms for an acknowledgement.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(socket.SOMAXCONN)
    except (OSError, OverflowError) as error:
        listening.close()
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            raise ValueError(f"--port {port} is taken: another program listens there. Give another --port.") from error
        if isinstance(error, OSError) and error.errno == errno.EACCES:
            raise ValueError(f"--port {port} needs more rights. Give one above 1023.") from error
        raise ValueError(f"--host {host}: this machine has no such address ({error}).") from error
    return listening
