"""People as the judge: comparisons wait in a database of votes until people have judged them in the browser.

    P(a beats b) = mean over the first `votes` votes on the pair, each 1, 1/2 (tie) or 0

`sparring serve RUN` shows the pairs, blind. `judge` returns when every pair has its votes, so that the judge stage
waits for people, wave by wave, and may be killed meanwhile: the votes stay. A pair that voters skip, or call both bad
where `both_bad` is `drop`, has no preference and is no failure. Two answers that look alike tie and an empty one
loses, without a vote. Leaves out: pages (`serve/`), tables (`votes/`), agreement (`evaluation/agreement.py`).

    oracle: {name: people, votes_each: 1, both_bad: drop}
"""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from jaxtyping import Float
from pydantic import Field

from sparring.models.messages import turns
from sparring.oracles.oracle import Comparison
from sparring.oracles.preferences import by_rule
from sparring.runtime.errors import OracleError
from sparring.runtime.imports import needs
from sparring.runtime.layout import VOTES
from sparring.runtime.words import counted

if TYPE_CHECKING:
    from sparring.votes.ballot import Ballot
    from sparring.votes.counting import Tally
    from sparring.votes.items import Item

QUESTION = "Which answer is better?"
POLL_SECONDS = 1.0
"""between two looks at the votes"""
SAY_SECONDS = 600.0
"""between two lines that say how many are missing"""
GRACE_SECONDS = 10.0
"""after the last vote of a wave, in which its voter may take it back"""
DOWN_SECONDS = 300.0
"""that a database may be away before the run stops"""
LOG = logging.getLogger("sparring")


class People:
    """Asks people, and waits for them; see the module."""

    title = "people"
    about = "People judge pairs of answers in the browser, without seeing whose they are."

    def __init__(
        self,
        votes_each: Annotated[int, Field(ge=1, description="votes on a pair, by different people")] = 1,
        both_bad: Annotated[
            Literal["drop", "tie"], Field(description="what `both bad` means: no preference, or a tie")
        ] = "drop",
        skips: Annotated[int, Field(ge=1, description="skips after which a pair is left without a preference")] = 3,
        question: Annotated[str, Field(min_length=1, description="what voters are asked")] = QUESTION,
        team: Annotated[str, Field(min_length=1, description="who votes; another team is another judge")] = "people",
        database: Annotated[
            str | None, Field(description="file, or postgresql://USER@HOST/NAME; null: beside the run's verdicts")
        ] = None,
    ) -> None:
        self.votes_each, self.both_bad, self.skips = votes_each, both_bad, skips
        self.question, self.team, self.database = question, team, database
        self._ballot: Ballot | None = None
        self._outcomes: dict[str, str] = {}

    @property
    def identity(self) -> str:
        """Who is asked what, and how votes count; not where they are kept."""
        rules = f"votes={self.votes_each};both_bad={self.both_bad};skips={self.skips}"
        return f"people({self.team};{rules};{self.question!r})"

    # ---- what an oracle that asks people offers (`abilities.AsksPeople`) -----------------------

    def try_database(self) -> None:
        """Open a database that the recipe names, before any work.

        Raises:
            ValueError: it is none, or of another version; or the packages of the extra are missing.
            OracleError: it does not answer.
        """
        needs("sqlalchemy", extra="serve")
        if self.database is not None:
            self._open(self.database)

    def keep_votes_in(self, folder: Path) -> None:
        """Where votes are kept if the recipe does not say: beside the verdicts."""
        if self.database is None:
            self._open(folder / Path(VOTES).name)

    def expect(self, comparisons: Sequence[Comparison]) -> None:
        """Show these to voters now: they will be asked for, whatever is judged before."""
        items = [item for item, _ in filter(None, map(self._item, comparisons))]
        self.ballot.ask(items, self.votes_each, self.skips)

    def declined(self, comparison: Comparison) -> str:
        """Why voters gave no preference; empty where they gave one, or have yet to."""
        if (asked := self._item(comparison)) is None:
            return ""
        return self._why(self.ballot.tallies([asked[0].id])[asked[0].id])

    # ---- the oracle ----------------------------------------------------------------------------

    @property
    def ballot(self) -> Ballot:
        """The votes.

        Raises:
            ValueError: no database was named, and no folder that could hold one.
        """
        if self._ballot is None and self.database is not None:
            self._open(self.database)
        if self._ballot is None:
            raise ValueError("oracle.database: missing; here is no run's folder to keep votes in. Give a file or URL.")
        return self._ballot

    def judge(self, comparisons: Sequence[Comparison]) -> Float[np.ndarray, " N"]:
        """P(a beats b), NaN where voters declined; waits until all votes are there.

        Raises:
            OracleError: the database was away for minutes.
        """
        asked = [self._item(comparison) for comparison in comparisons]
        items = {item.id: item for item, _ in filter(None, asked)}
        tallies = self._waited(items) if items else {}
        answers = [
            _ruled(comparison) if one is None else self._preference(tallies[one[0].id], one[1])
            for comparison, one in zip(comparisons, asked, strict=True)
        ]
        return np.array(answers, dtype=np.float64)

    def counts(self) -> dict[str, object]:
        """Pairs that this process asked for, by what came of them."""
        return dict(Counter(self._outcomes.values()))

    def _open(self, place: str | Path) -> None:
        from sparring.votes.ballot import Ballot  # here and above: the packages of the extra are needed here only
        from sparring.votes.database import Unavailable, open_database

        try:
            self._ballot = Ballot(open_database(place))
        except Unavailable as error:
            raise OracleError(f"oracle.database: {error}. Start it, and give the same command.") from error

    def _item(self, comparison: Comparison) -> tuple[Item, int] | None:
        """The item that people judge, and the place of `a` in it; None where a rule decides."""
        from sparring.votes.items import make_item

        a, b = comparison.a.strip(), comparison.b.strip()
        if by_rule(a, b) is not None:
            return None
        return make_item(self.question, turns(comparison.prompt), a, b)

    def _waited(self, items: Mapping[str, Item]) -> dict[str, Tally]:
        """The final votes on these items."""
        from sparring.votes.database import Unavailable

        ids, down, said, asked = list(items), 0.0, 0.0, False
        while True:
            try:
                if not asked:
                    self.ballot.ask(items.values(), self.votes_each, self.skips, urgent=True)
                    asked = True
                if (missing := self.ballot.missing(ids)) == 0:
                    if (final := self.ballot.close(ids, GRACE_SECONDS)) is not None:
                        break
                elif time.monotonic() - said > SAY_SECONDS or not said:
                    said = time.monotonic()
                    LOG.warning("people  %s to vote on: `sparring serve` and this folder", counted(missing, "pair"))
                down = 0.0
            except Unavailable as error:
                down = down or time.monotonic()
                if time.monotonic() - down > DOWN_SECONDS:
                    raise OracleError(f"{error}. All votes are kept; start it, and give the same command.") from error
            time.sleep(POLL_SECONDS)
        self._outcomes |= {id_: self._why(tally) or "pairs judged by people" for id_, tally in final.items()}
        return final

    def _preference(self, tally: Tally, place: int) -> float:
        """P(the answer at this place beats the other)."""
        values = [0.5 if isinstance(vote, str) else float(vote == place) for vote in self._used(tally)]
        return sum(values) / len(values) if values else math.nan

    def _used(self, tally: Tally) -> list[int | str]:
        first = tally.votes[: self.votes_each]
        return [vote for vote in first if vote != "both_bad" or self.both_bad == "tie"]

    def _why(self, tally: Tally) -> str:
        if self._used(tally):
            return ""
        return "both bad" if tally.votes else "skipped" if tally.skips >= self.skips else ""


def _ruled(comparison: Comparison) -> float:
    ruled = by_rule(comparison.a.strip(), comparison.b.strip())
    assert ruled is not None
    return ruled[0]
