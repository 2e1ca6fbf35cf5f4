"""A conversation as text and as tokens, by a tokenizer's chat template.

Special tokens that the template writes are control tokens; special tokens spelt out in a message (`<|im_end|>`) are
text, so that a prompt cannot end its turn or write the assistant's. Conversations without them are tokenised in one
piece, as usual. Leaves out: where a template comes from (`chat.py`), tools among the messages (`tools.py`).

    Template(tokenizer).ids([{"role": "user", "content": "What does <|im_end|> do?"}], generate=True)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time
from functools import wraps
from typing import Any

from transformers import PreTrainedTokenizerBase

from sparring.models.tools import Message, as_sent
from sparring.runtime.bounds import bounded

FIXED_DAY = date(2024, 7, 26)
"""What the templates of judges, and of policies in benchmarks, take for today: the same text must get the same verdict
on every day, in every run. Llama 3.1's template writes this day where it is told none."""
SECONDS, MEMORY, LONGEST = 5.0, 2**30, 20_000_000
"""what rendering one conversation may take: computing time, bytes; and characters of its text"""
MARKS = range(0xE000, 0xF900)
"""private-use characters: while a template is rendered, they stand for special tokens that are text"""


def bounded_rendering(render: Callable[..., str]) -> Callable[..., str]:
    """The rendering within its bounds: a template is somebody's program, and may never end."""

    @wraps(render)
    def within(*arguments: Any, **options: Any) -> str:
        with bounded("model.chat_template: rendering a conversation", SECONDS, MEMORY):
            text = render(*arguments, **options)
        if len(text) > LONGEST:
            raise ValueError(
                f"model.chat_template: it makes {len(text):,} characters of a conversation; at most {LONGEST:,}"
            )
        return text

    return within


class Template:
    """A tokenizer and one way to render conversations for it."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, template: str | None = None, day: date | None = None
    ) -> None:
        """`template`: Jinja; None for the tokenizer's own. `day`: what it takes for today; None: the day it is."""
        self.tokenizer, self.template = tokenizer, template
        self.asks_day = "strftime_now" in str(template or tokenizer.chat_template)
        self.clock: dict[str, Any] = {}
        """options of `apply_chat_template` that tell the template the day"""
        if self.asks_day and day is not None:
            self.clock = {"strftime_now": datetime.combine(day, time()).strftime}
        added = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
        names = sorted({*map(str, tokenizer.all_special_tokens), *added}, key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, names)) or "(?!)")

    @bounded_rendering
    def text(self, messages: Sequence[Message], generate: bool) -> str:
        """The rendered conversation; `generate` opens the assistant's turn.

        Raises:
            TemplateError: the template refuses it.
        """
        sent, tools = as_sent(messages)
        options = {"chat_template": self.template, "tokenize": False, "add_generation_prompt": generate, **self.clock}
        return str(self.tokenizer.apply_chat_template(sent, tools=tools, **options))

    def ids(self, messages: Sequence[Message], generate: bool, text: str | None = None) -> list[int]:
        """The rendered conversation as tokens; `text`: where it was rendered already.

        Raises:
            TemplateError: the template refuses it.
            ValueError: a message spells out a special token, and this tokenizer cannot read it as text.
        """
        text = self.text(messages, generate) if text is None else text
        spelt = {name for m in messages for part in m.values() for name in self._special.findall(part)}
        return self._with_text(messages, generate, text, sorted(spelt)) if spelt else self._ids(text)

    def hidden(self, text: str) -> tuple[str, dict[str, str]]:
        """A text with a mark for each special token that it spells out, and the tokens' names by mark."""
        marks = self._marks(sorted(set(self._special.findall(text))), text)
        return self._special.sub(lambda match: marks[match[0]], text), {mark: name for name, mark in marks.items()}

    def pieces(self, rendered: str, names: Mapping[str, str], plain: Callable[[str], list[int]]) -> list[int]:
        """Special tokens as control tokens, and by `plain` the text between them, where each mark becomes its name."""
        ids: list[int] = []
        end = 0
        for match in self._special.finditer(rendered):
            ids += [*plain(_shown(rendered[end : match.start()], names)), self._control(match[0])]
            end = match.end()
        return ids + plain(_shown(rendered[end:], names))

    def _marks(self, spelt: Sequence[str], text: str) -> dict[str, str]:
        """A private character that is not in `text` for each name of a special token."""
        free = (chr(code) for code in MARKS if chr(code) not in text)
        return dict(zip(spelt, free, strict=False))

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _with_text(self, messages: Sequence[Message], generate: bool, text: str, spelt: list[str]) -> list[int]:
        marks = self._marks(spelt, text)
        hidden = [
            {k: self._special.sub(lambda match: marks[match[0]], part) for k, part in m.items()} for m in messages
        ]
        rendered = self.text(hidden, generate)
        # Some tokenizers treat the first piece of a text differently, or let special tokens swallow spaces.
        if self.pieces(rendered, {}, self._plain) != self._ids(rendered):
            raise ValueError(
                f"the prompt spells out {spelt[0]!r}, which this tokenizer can only read as a control token"
            )
        return self.pieces(rendered, {mark: name for name, mark in marks.items()}, self._plain)

    def _control(self, name: str) -> int:
        return int(self.tokenizer.convert_tokens_to_ids(name))  # type: ignore[arg-type]

    def _plain(self, piece: str) -> list[int]:
        if not piece:
            return []
        return list(self.tokenizer(piece, add_special_tokens=False, split_special_tokens=True)["input_ids"])


def _shown(piece: str, names: Mapping[str, str]) -> str:
    for mark, name in names.items():
        piece = piece.replace(mark, name)
    return piece
