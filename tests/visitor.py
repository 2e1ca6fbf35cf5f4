"""A browser without a script, for servers in this process."""

from __future__ import annotations

import re
from typing import Any

from starlette.testclient import TestClient

from sparring.serve.app import make_app
from sparring.serve.generating import Generator
from sparring.serve.site import Site

LOCAL = "http://127.0.0.1:8765"


class Visitor(TestClient):
    """A browser without a script: it has one session, and posts what the forms of a page hold."""

    def __init__(self, site: Site, url: str = LOCAL, generator: Generator | None = None) -> None:
        super().__init__(make_app(site, generator=generator), base_url=url, raise_server_exceptions=False)

    def fields(self, page: str = "/vote") -> dict[str, str]:
        """Hidden fields of a page's forms."""
        return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', self.get(page).text))

    def begin(self, name: str = "Ada") -> None:
        answer = self.post("/name", data={**self.fields(), "name": name})
        assert answer.status_code == 200, answer.text

    def vote(self, verdict: str, **changed: str) -> Any:
        return self.post("/vote", data={**self.fields(), "verdict": verdict, "seconds": "2", **changed})
