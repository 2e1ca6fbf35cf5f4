"""The base class of an oracle around another one.

class Loud(Wrapper): identity = property(lambda self: f"loud({self.oracle.identity})")
"""

from __future__ import annotations

from sparring.oracles.abilities import counts_of
from sparring.oracles.oracle import Oracle


class Wrapper:
    """Holds `oracle`; a subclass adds `identity` and `judge`."""

    def __init__(self, oracle: Oracle) -> None:
        self.oracle = oracle

    @property
    def inside(self) -> tuple[Oracle]:
        """The one oracle that is asked."""
        return (self.oracle,)

    def counts(self) -> dict[str, object]:
        """The counts of the oracle inside."""
        return counts_of(self.oracle)
