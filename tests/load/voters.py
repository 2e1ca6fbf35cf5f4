"""Voters for Locust (PyPI), each with a session of its own, who vote as the page does: the pair after it fetched ahead.

    python -m venv /tmp/locust && /tmp/locust/bin/pip install locust
    python tests/load/serve.py /tmp/contest --items 60000        # in one terminal: the server, and its CPU at the end
    /tmp/locust/bin/locust -f tests/load/voters.py --headless -u 50 -r 10 -t 5m --host http://127.0.0.1:8799 \\
        --only-summary --csv /tmp/voters

Each votes about every `EVERY` seconds. "POST /vote" in the summary is the time of a vote. A refused vote is a failure.
"""

from __future__ import annotations

import itertools
import re
import secrets

from locust import HttpUser, between, task

EVERY = 2.0
"""seconds a vote: keys work a second after a pair appears, and nobody is quicker for five minutes"""
HIDDEN = re.compile(r'<input type="hidden" name="(\w+)" value="([^"]*)">')
PART = {"x-part": "1"}
NUMBERS = itertools.count()


class Voter(HttpUser):
    """A person with a browser."""

    wait_time = between(0.5 * EVERY, 1.5 * EVERY)  # Locust's constant pacing has all voters press in one instant

    def on_start(self) -> None:
        fields = dict(HIDDEN.findall(self.client.get("/vote").text))
        name = f"voter {next(NUMBERS)} {secrets.token_hex(2)}"
        self.fields = dict(HIDDEN.findall(self.client.post("/name", data={**fields, "name": name}).text))

    @task
    def vote(self) -> None:
        following = self.client.get(
            "/vote/next", params={"after": self.fields["showing"]}, headers=PART, name="/vote/next"
        )
        ahead = dict(HIDDEN.findall(following.text))
        said = {**self.fields, "verdict": "left", "seconds": "2", "ahead": ahead.get("showing", "")}
        with self.client.post("/vote", data=said, headers=PART, catch_response=True) as answer:
            if answer.status_code != 200 or "Not stored" in answer.text:
                answer.failure(answer.text[:200])
            elif "showing" in (shown := dict(HIDDEN.findall(answer.text))):
                self.fields = shown
            elif ahead:
                self.fields = {**self.fields, **ahead}
            else:
                answer.failure("there is nothing to vote on any more: give --items")
