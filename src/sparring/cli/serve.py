"""`sparring serve`: pages that watch runs, and on which people vote."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sparring.cli.result import say, terminal

PORT = 8765


def command(
    folders: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Run folders, or folders of `evaluate head-to-head`.")
    ],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Where the server listens; 0 takes a free one.")] = PORT,
    host: Annotated[
        str | None, typer.Option(help="Let others in, each by a link of their own: an address, or 0.0.0.0 for all.")
    ] = None,
    votes: Annotated[
        str | None, typer.Option(help="Database of votes, a file or URL. Default: the recipe's, else in the run.")
    ] = None,
    certificate: Annotated[Path | None, typer.Option(help="With --host: certificate for HTTPS (PEM).")] = None,
    key: Annotated[Path | None, typer.Option(help="With --host: the certificate's key.")] = None,
) -> None:
    """Watch runs in the browser while they go on, talk to their policies, and vote where a run asks people.

    Only this machine reaches the server unless --host is given; then everybody needs a link with a token, and the
    owner's is printed once. Runs are read, never written: votes alone are stored.
    """
    from sparring.runtime.imports import needs

    needs("starlette", "uvicorn", "sqlalchemy", "markdown_it", "nh3", "itsdangerous", extra="serve")
    from sparring.serve.site import open_site
    from sparring.serve.starting import serve

    if (certificate is None) != (key is None):
        raise ValueError("--certificate and --key belong together: give both, or none.")
    if certificate is not None and host is None:
        raise ValueError("--certificate is for --host; without it only this machine reaches the server.")
    for path in filter(None, (certificate, key)):
        if not path.is_file():
            raise ValueError(f"{path} is not a file.")
    screen = terminal()
    tls = (certificate, key) if certificate and key else None
    serve(open_site(folders, votes, host is not None), host, port, lambda line: say(screen, line), tls)
