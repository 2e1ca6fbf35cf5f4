"""A language model in this process as the judge: the wordings and the reading of `llm_judge`, without a server.

Pairwise styles are asked in both orders. The verdict is soft, since the log-probabilities are at hand; what cannot be
read has failed. For a one-letter verdict of a model too weak to keep to the form, `pair_model` with `format: instruct`
reads the letters' odds directly. Leaves out: how the model is run (`local_chat.py`).

    oracle: {name: local_judge, model: org/model, style: mt_bench}
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from sparring.endpoints.local import LocalChat
from sparring.oracles.llm_judge import (
    LanguageJudge,
    Logprobs,
    MaxTokens,
    RepliesFile,
    Scale,
    StyleName,
    Temperature,
    check_style,
    reply_options,
)


class LocalJudge(LanguageJudge):
    """Asks the model in a folder, on the hub, or in a package."""

    title = "local_judge"
    about = (
        "A language model in this process as the judge: the wordings and the reading of `llm_judge`, without a server."
    )

    def __init__(
        self,
        model: Annotated[str, Field(description="a folder, a hub name or pypi:PACKAGE")],
        style: StyleName = "mt_bench",
        temperature: Temperature = 0.0,
        max_tokens: MaxTokens = None,
        logprobs: Logprobs = True,
        scale: Scale = 1.0,
        batch_size: Annotated[int, Field(ge=1, description="questions run together: memory and speed")] = 8,
        precision: Annotated[Literal["bfloat16", "float32"], Field(description="of the weights")] = "bfloat16",
        replies: RepliesFile = None,
    ) -> None:
        chosen = check_style(style, temperature, max_tokens, scale)
        chat = LocalChat(model, replies, batch_size, precision)
        options = reply_options(chosen, temperature, max_tokens, logprobs)
        super().__init__(chat, f"local_judge({chat.digest}", chosen, options, scale)
