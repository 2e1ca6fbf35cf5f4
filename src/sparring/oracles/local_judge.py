"""A language model in this process as the judge, with the wordings of `llm_judge` and without a server.

Pairwise styles are asked in both orders. The verdict is soft, since the log-probabilities are at hand; a reply that
cannot be read has failed. For a model too weak to keep to the form, `pair_model` with `format: instruct` reads the odds
of the letters directly. Leaves out: how the model is run (`endpoints/local.py`).

    oracle: {name: local_judge, model: org/model, style: mt_bench}
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sparring.endpoints.local import LocalChat
from sparring.oracles.judge_prompts import STYLES
from sparring.oracles.llm_judge import (
    LanguageJudge,
    Logprobs,
    MaxTokens,
    RepliesFile,
    Scale,
    StyleName,
    Temperature,
    reply_options,
)
from sparring.recipe.sections import Frozen


class LocalJudgeConfig(Frozen):
    """The fields of `local_judge`: the model, how it is asked and how its replies are read."""

    model: str
    """a folder, a hub name or pypi:PACKAGE"""
    style: StyleName = "mt_bench"
    temperature: Temperature = 0.0
    max_tokens: MaxTokens = None
    logprobs: Logprobs = True
    scale: Scale = 1.0
    batch_size: int = Field(default=8, ge=1)
    """questions run together: memory and speed"""
    precision: Literal["bfloat16", "float32"] = "bfloat16"
    """of the weights"""
    replies: RepliesFile = None


class LocalJudge(LanguageJudge):
    """Asks the model in a folder, on the hub, or in a package."""

    title = "local_judge"
    about = "A language model in this process as the judge, with the wordings of `llm_judge` and without a server."

    def __init__(self, config: LocalJudgeConfig) -> None:
        style = STYLES[config.style]
        chat = LocalChat(config.model, config.replies, config.batch_size, config.precision)
        options = reply_options(style, config.temperature, config.max_tokens, config.logprobs)
        super().__init__(chat, f"local_judge({chat.digest}", style, options, config.scale)
