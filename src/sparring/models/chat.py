"""The only place that renders a policy's chat template or tokenises for it.

Sampling, judging, training and evaluation all see a prompt through `Chat`: rendered once with the tokenizer's own
template, tokenised without adding special tokens (so at most the template's one BOS; those spelt out in a message are
text), and from then on tokens. A response is tokens too, with exactly one end token when it ended by itself; prompt and
response are never re-tokenised together, so the boundary cannot move. A given response is what the template writes
after that prompt (a channel, an empty thought, trimmed text); a prompt of which the template leaves something out is
refused. What a template does is found by rendering marked messages, not by its name. Tools and calls are what the
template makes of them (`tools.py`). Leaves out: images (`messages.py` refuses them).

    chat = Chat(tokenizer); ids = chat.prompt_ids([{"role": "user", "content": "Hi"}])
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from sparring.models.template import Template
from sparring.models.tools import CALLS, TOOLS, Calls, Message, marked, must_show

PLAIN = "{% for m in messages %}{{ m['content'] }}\n{% endfor %}"
_SENTINEL = "sparringsentinel"
_GUARD = "\ue000"
"""a private character, which no tokenizer merges with what follows"""
SPACES = ("▁", "Ġ")
"""how vocabularies write a space"""
_REQUEST: list[Message] = [{"role": "user", "content": "a"}]
_CLOSED = re.compile(r"</[^<>]+>\s*\Z")
_TAG_END = re.compile(r"</[^<>]+>")


@dataclass(frozen=True, slots=True)
class _Frame:
    """What a template writes around the messages of a prompt, as marked ones show; the same for all of these roles."""

    marked: list[Message]
    """every one with a mark of its own as its text"""
    left_out: str | None = None
    """the first role whose message the template leaves out"""
    opening: str = ""
    """after the last message, up to where the assistant begins"""
    given: str | None = None
    """after the last message, up to a given answer; None where the template shows none"""
    rest: str = ""
    """after a given answer"""

    @property
    def header(self) -> str | None:
        """What comes between opening and given answer; None where given answers are opened otherwise."""
        if self.given is None or not self.given.startswith(self.opening):
            return None
        return self.given.removeprefix(self.opening)


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except ValueError:
        raise
    except Exception as error:  # a template is somebody's program: on odd rows it fails in any way
        raise ValueError(f"model.chat_template: the template refuses the conversation: {error}") from error


def rules(tokenizer: PreTrainedTokenizerBase) -> Any:
    """How a tokenizer makes tokens of a text, as plain data."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return sorted(tokenizer.get_vocab().items())
    # A call with padding or truncation leaves its settings in the tokenizer.
    return {**json.loads(backend.to_str()), "padding": None, "truncation": None}


class Chat:
    """A tokenizer and the way it renders conversations."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        template: str | None = None,
        system: str | None = None,
        day: date | None = None,
    ) -> None:
        """`template`: None for the tokenizer's own, "plain" for text alone, or a Jinja file; `day`: what it takes for
        today, None for the day it is.

        Raises:
            ValueError: no template, an unusable one, one without a place for `system`, or no end token.
        """
        self.tokenizer = tokenizer
        self.system, self.day = system, day
        self.template = self._choose(template)
        self._template = Template(tokenizer, self.template, day)
        self._frames: dict[tuple[str, ...], _Frame] = {}
        self.end_id = self._end_id()
        if system is not None:
            self._check_system()
        if self._request.left_out == "user":
            raise ValueError("model.chat_template: the template leaves out the user message: nothing would be asked.")
        self._check_bos()

    @cached_property
    def identity(self) -> str:
        """Hash of the tokenizer, the template's text and the system message: with the day all that tokens depend on."""
        plain = json.dumps([type(self.tokenizer).__name__, rules(self.tokenizer), self.template, self.system])
        return hashlib.sha256(plain.encode()).hexdigest()

    def _choose(self, template: str | None) -> str:
        if template == "plain":
            return "{{ bos_token }}" + PLAIN if self._adds_bos() else PLAIN
        if template is not None:
            path = Path(template).expanduser()
            if not path.is_file():
                raise ValueError(f"model.chat_template: {template!r} is neither 'plain' nor a file.")
            try:
                return path.read_text(encoding="utf-8")
            except UnicodeDecodeError as error:
                raise ValueError(
                    f"model.chat_template: {template!r} is not UTF-8 (byte {error.start}). Convert it to UTF-8."
                ) from error
        own = self.tokenizer.chat_template
        if isinstance(own, dict):
            if "default" not in own:
                names = ", ".join(map(repr, sorted(own)))
                raise ValueError(
                    f"model.chat_template: the tokenizer has the templates {names} and no 'default'. Save the one "
                    "you want as a Jinja file and give that."
                )
            own = own["default"]
        if not isinstance(own, str):
            raise ValueError(
                "model.chat_template: the tokenizer has no chat template. Set model.chat_template to 'plain' "
                "for a base model, or to a Jinja file."
            )
        return own

    def _end_id(self) -> int:
        """The token that the template puts after an assistant turn; the EOS token where it puts none."""
        talk = [{"role": "user", "content": "a"}, {"role": "assistant", "content": _SENTINEL}]
        _, shown, after = self._render(talk, False).rpartition(_SENTINEL)
        tail = after if shown else ""
        # Some models end a turn with an added token that their list of special tokens lacks.
        added = {index for index, token in self.tokenizer.added_tokens_decoder.items() if token.special}
        special = {*self.tokenizer.all_special_ids, *added}
        for token in self.tokenizer(tail, add_special_tokens=False)["input_ids"]:
            if token in special:
                return int(token)
        if self.tokenizer.eos_token_id is None:
            raise ValueError("model: the tokenizer has no EOS token, so a response could never end.")
        return int(self.tokenizer.eos_token_id)  # type: ignore[arg-type]

    def _render(self, messages: Sequence[Message], generate: bool) -> str:
        with _refusals():
            return self._template.text(messages, generate)

    def _adds_bos(self) -> bool:
        """Whether the tokenizer by itself begins a text with its BOS token, as base models then expect."""
        bos = self.tokenizer.bos_token_id
        return bos is not None and self.tokenizer("a")["input_ids"][:1] == [bos]

    def _check_bos(self) -> None:
        """Raise ValueError where a prompt begins with two BOS tokens, after which models silently answer worse."""
        bos = self.tokenizer.bos_token_id
        if bos is not None and self.prompt_ids(_REQUEST)[:2] == [bos, bos]:
            raise ValueError(
                f"model.chat_template: prompts begin with {self.tokenizer.bos_token} twice. Give a Jinja file that "
                "writes it once."
            )

    def _check_system(self) -> None:
        """Raise ValueError where the template has no place for a system message."""
        try:
            talk = [{"role": "system", "content": _SENTINEL}, {"role": "user", "content": "a"}]
            reason = "" if _SENTINEL in self._render(talk, True) else "leaves it out"
        except ValueError as error:
            reason = f"refuses system messages ({error})"
        if reason:
            raise ValueError(
                f"model.system: the chat template {reason}. Remove model.system, or put it in the prompts."
            )

    def end_ids(self, model_config: Any = None) -> frozenset[int]:
        """Every token that ends a response: the template's, the tokenizer's, the model's own."""
        configured = getattr(model_config, "eos_token_id", None)
        listed: list[Any] = configured if isinstance(configured, list) else [configured]
        ids: list[Any] = [self.end_id, self.tokenizer.eos_token_id, *listed]
        return frozenset(int(token) for token in ids if token is not None)

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """The prompt as tokens, up to where the assistant begins.

        Raises:
            ValueError: the template refuses it (an unknown role, or turns out of order) or leaves something out, or it
                spells out a special token that the tokenizer cannot read as text.
        """
        messages = self._with_system(messages)
        text = self._render(messages, True)
        if (role := self._frame(messages).left_out) is not None:
            raise ValueError(f"the template leaves out the {role} message")
        for message in messages:
            parts = must_show(message)
            # Of earlier answers most templates of thinking models leave out the thought, and that is how they are used.
            parts = parts if message["role"] != "assistant" else [_TAG_END.split(message["content"])[-1]]
            if any(said.strip() not in text for said in parts):
                raise ValueError(f"the template leaves out or changes a part of the {message['role']} message")
        with _refusals():
            return self._template.ids(messages, generate=True, text=text)

    def _with_system(self, messages: Sequence[Message]) -> Sequence[Message]:
        asked = messages[1:] if messages[0]["role"] == TOOLS else messages
        if self.system is None or asked[0]["role"] == "system":
            return messages
        return [{"role": "system", "content": self.system}, *messages]

    @property
    def _request(self) -> _Frame:
        """Of a plain request, as most are."""
        return self._frame(self._with_system(_REQUEST))

    def _frame(self, messages: Sequence[Message]) -> _Frame:
        roles = tuple(message["role"] for message in messages)
        if roles not in self._frames:
            self._frames[roles] = self._framed([marked(role, _mark(i)) for i, role in enumerate(roles)])
        return self._frames[roles]

    def _framed(self, messages: list[Message]) -> _Frame:
        try:
            prompt = self._render(messages, True)
        except ValueError:  # the real messages were not refused: the template looks at their text
            return _Frame(messages)
        left_out = next((m["role"] for i, m in enumerate(messages) if _mark(i) not in prompt.lower()), None)
        opening = _after_marks(prompt, len(messages))
        try:
            whole = self._render([*messages, {"role": "assistant", "content": _SENTINEL}], False)
        except ValueError:
            return _Frame(messages, left_out, opening)
        given, shown, rest = _after_marks(whole, len(messages)).partition(_SENTINEL)
        return _Frame(messages, left_out, opening, given if shown else None, rest)

    @cached_property
    def opens_thought(self) -> bool:
        """Whether the template begins every answer inside a thought (DeepSeek-R1 and its kind)."""
        return self._request.opening.rstrip().endswith("<think>")

    @cached_property
    def writes_day(self) -> bool:
        """Whether the template writes the day into prompts."""
        days = (date(2001, 2, 3), date(2012, 11, 30))
        with _refusals():
            return len({Template(self.tokenizer, self.template, day).text(_REQUEST, True) for day in days}) > 1

    @cached_property
    def about_answers(self) -> str | None:
        """What a user should know of how given answers are trained under this template; None: nothing special."""
        frame = self._request
        header, given = frame.header, frame.given
        if self.opens_thought and not header:
            return (
                "note  the template opens every answer with <think>, so the data's answers are trained as thoughts "
                "unless they begin with the thought and hold </think>; see the troubleshooting page"
            )
        if header and header.strip():
            return f"note  the template writes {header!r} before given answers, and so the data's answers are trained"
        more = frame.opening.removeprefix(given or "")
        if header is not None or given is None or given.strip() == frame.opening.strip() or _CLOSED.search(more):
            return None
        return (
            f"note  the template opens answers with {_last(frame.opening)!r}, but writes {_last(given)!r} before given "
            "ones: the data's answers are trained right after what opens them; see the troubleshooting page"
        )

    def response_ids(self, text: str, prompt: Sequence[Message] = _REQUEST) -> list[int]:
        """A given response to `prompt` as tokens, as the template writes it, with the end token.

        Special tokens that the template writes are control tokens, those spelt out in `text` are text.
        """
        hidden, names = self._template.hidden(text)
        written = self._written(self._frame(self._with_system(prompt)), hidden)
        return [*self._template.pieces(written, names, self._text_ids), self.end_id]

    def answer(self, text: str, prompt: Sequence[Message]) -> tuple[str, list[int]]:
        """The text and the tokens of a given answer to `prompt`, which may be `Calls`.

        Raises:
            ValueError: it calls tools, and the template does not write calls.
        """
        return self.call_response(text, prompt) if isinstance(text, Calls) else (text, self.response_ids(text, prompt))

    def call_response(self, calls: Calls, prompt: Sequence[Message]) -> tuple[str, list[int]]:
        """A given answer to `prompt` that calls tools: its text as the template writes it, and its tokens.

        Raises:
            ValueError: the template writes no calls, or not after the prompt's end.
        """
        messages = self._with_system(prompt)
        hidden, names = self._template.hidden(calls)
        turn: Message = {"role": CALLS, "content": hidden}
        opened, whole = self._render(messages, True), self._render([*messages, turn], False)
        # Where the prompt spells out special tokens, both have them, so what follows is the turn alone.
        written, end = whole.removeprefix(opened), str(self.tokenizer.convert_ids_to_tokens(self.end_id))
        written, after = written.rsplit(end, 1) if end in written else (written, "")
        shown = whole.startswith(opened) and all(part.strip() in written for part in must_show(turn))
        if not shown or after.strip():
            raise ValueError("the template does not write the answer's tool calls")
        ids = self._template.pieces(written, names, self._text_ids)
        return self.decode(ids), [*ids, self.end_id]

    def _written(self, frame: _Frame, text: str) -> str:
        """What the template writes for an answer between the prompt's last token and the end token."""
        if frame.header is None:
            return text
        footer = self._footer(frame.rest)
        try:
            whole = self._render([*frame.marked, {"role": "assistant", "content": text}], False)
        except ValueError:
            whole = ""
        after = _after_marks(whole, len(frame.marked))
        written = after.removeprefix(frame.opening).removesuffix(frame.rest)
        if len(written) == len(after) - len(frame.opening) - len(frame.rest) and _packed(text) in _packed(written):
            return written + footer
        # The template refuses or changes this answer (leaves out its thought): it is trained as it was given.
        alike = frame.header.split()[:1] == text.replace(">", "> ").split()[:1]
        return ("" if alike else frame.header) + text + footer

    def _footer(self, rest: str) -> str:
        """What a template writes between answer and end token, if it can be seen."""
        before = rest.partition(str(self.tokenizer.convert_ids_to_tokens(self.end_id)))[0]
        return before if before.strip() and before != rest else ""

    def _text_ids(self, text: str) -> list[int]:
        """Tokens of a text in the middle of a conversation, without an added space.

        SentencePiece tokenizers (Llama 2, Mistral, Zephyr) add one before the first word of every text.
        """
        guard = self._tokens(_GUARD) if self._spaces_start else []
        ids = self._tokens(_GUARD + text if guard else text)
        assert ids[: len(guard)] == guard, f"{_GUARD!r} was merged with {text[:20]!r}"
        return ids[len(guard) :]

    @cached_property
    def _spaces_start(self) -> bool:
        """Whether the tokenizer puts a space before a text that has none."""
        return str(self.tokenizer.convert_ids_to_tokens(self._tokens("a")[0])).startswith(SPACES)

    def _tokens(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])

    @cached_property
    def _visible_header(self) -> list[int]:
        header = self._request.header or ""
        visible = header.strip() and not self.opens_thought
        return self._template.pieces(header, {}, self._text_ids) if visible else []

    def decode(self, ids: Sequence[int]) -> str:
        """A response's text, special tokens left out, and the header that the template writes before given answers."""
        begin = len(self._visible_header)
        ids = list(ids)[begin if list(ids[:begin]) == self._visible_header else 0 :]
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))


def _mark(index: int) -> str:
    return f"{_SENTINEL}{index}x"


def _after_marks(text: str, count: int) -> str:
    """What follows the last of so many marked messages."""
    ends = [at + len(mark) for mark in map(_mark, range(count)) if (at := text.rfind(mark)) >= 0]
    return text[max(ends, default=0) :]


def _packed(text: str) -> str:
    """A text without its space, which templates trim and add."""
    return "".join(text.split())


def _last(text: str) -> str:
    """The last line of a header that holds something."""
    return next((line for line in reversed(text.splitlines()) if line.strip()), text)
