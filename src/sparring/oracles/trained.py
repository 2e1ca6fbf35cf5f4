"""An oracle from the folder that `sparring oracle train` made. Leaves out: training it (`train.py`).

oracle: {name: trained, folder: runs/my-oracle}
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from jaxtyping import Float
from pydantic import Field

from sparring.oracles.abilities import PositionSensitive
from sparring.oracles.build import build_oracle
from sparring.oracles.oracle import Comparison
from sparring.oracles.wrapper import Wrapper
from sparring.runtime.files import check_object, read_object

CARD = "oracle.json"


class Trained(Wrapper):
    """Reads `folder`/oracle.json and is the oracle that it describes."""

    title = "trained"
    about = "An oracle from the folder that `sparring oracle train` made."

    def __init__(
        self,
        folder: Annotated[str, Field(description="what `sparring oracle train` wrote")],
        temperature: Annotated[
            float, Field(gt=0, description="divides the log-odds: above 1 softer, below 1 harder")
        ] = 1.0,
    ) -> None:
        path = Path(folder).expanduser() / CARD
        if not path.is_file():
            raise ValueError(f"oracle.folder: {folder!r} holds no {CARD}. Make one with `sparring oracle train`.")
        self.card = read_object(path, "oracle", "fit", "train_prompts")
        check_object(path, self.card["oracle"], ("name",), "its oracle")
        section = {**self.card["oracle"], "model": str(path.parent), "temperature": temperature}
        super().__init__(build_oracle(section, ""))
        self.title = f"trained ({path.parent.name})"
        if isinstance(self.oracle, PositionSensitive):
            self.first_shown = self.oracle.first_shown

    @property
    def identity(self) -> str:
        """The oracle's own: the folder does not matter."""
        return self.oracle.identity

    @property
    def train_prompts(self) -> frozenset[str]:
        """Digests of the prompts that it was trained on (`train.digest`)."""
        return frozenset(self.card["train_prompts"])

    def judge(self, comparisons: Sequence[Comparison]) -> Float[np.ndarray, " N"]:
        """P(a beats b)."""
        return self.oracle.judge(comparisons)
