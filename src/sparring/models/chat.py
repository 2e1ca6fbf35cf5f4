"""The only place that renders a policy's chat template or tokenises for it.

Sampling, judging, training and evaluation all see a prompt through `Chat`: rendered once with the tokenizer's own
template, tokenised without adding special tokens (so at most the template's one BOS; those spelt out in a message are
text), and from then on tokens. A response is tokens too, with exactly one end token when it ended by itself; prompt and
response are never re-tokenised together, so the boundary cannot move. Leaves out: tool calls and images.

    chat = Chat(tokenizer); ids = chat.prompt_ids([{"role": "user", "content": "Hi"}])
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from transformers import PreTrainedTokenizerBase

from sparring.models.template import Message, Template

PLAIN = "{% for m in messages %}{{ m['content'] }}\n{% endfor %}"
_TURN = re.compile(r"(?:\A|\n\n)(Human|Assistant):[ \n]?")
_SENTINEL = "sparringsentinel"
_GUARD = "\ue000"
"""a private character, which no tokenizer merges with what follows"""
SPACES = ("▁", "Ġ")
"""how vocabularies write a space"""


def as_messages(value: Any) -> list[Message]:
    """A prompt as messages: a string becomes one user message, a list of messages is checked.

    Raises:
        ValueError: not a non-empty string or list of {role, content}; or the last turn is the assistant's.
    """
    if isinstance(value, str):
        if not value.strip():
            raise ValueError("the prompt is empty")
        return [{"role": "user", "content": value}]
    messages = conversation(value)
    if messages[-1]["role"] == "assistant":
        raise ValueError("the prompt ends with an assistant message, so there is nothing left to answer")
    return messages


def conversation(value: Any) -> list[Message]:
    """Checked messages, without fields other than role and content.

    Raises:
        ValueError: not a non-empty list of {role, content} with text in each.
    """
    if not isinstance(value, list | tuple):
        raise ValueError(f"expected text or a list of messages, got {type(value).__name__}")
    if not value:
        raise ValueError("the list of messages is empty")
    messages: list[Message] = []
    for item in value:
        if not isinstance(item, dict) or not {"role", "content"} <= item.keys():
            raise ValueError("a message needs 'role' and 'content'")
        if not isinstance(item["content"], str) or not item["content"].strip():
            raise ValueError(f"the {item['role']} message has no text")
        messages.append({"role": str(item["role"]), "content": item["content"]})
    return messages


def split_conversation(value: Any) -> tuple[list[Message], str]:
    """A whole conversation as (prompt messages, last assistant text)."""
    messages = conversation(value)
    if messages[-1]["role"] != "assistant":
        raise ValueError("the conversation does not end with an assistant message")
    return messages[:-1], messages[-1]["content"]


def read_transcript(text: str) -> list[Message] | None:
    """A transcript of `Human:` and `Assistant:` turns as messages (HH-RLHF, Nectar); None for other texts.

    An empty last turn (`Assistant:`) is left out: it is where the answer goes.
    """
    parts = _TURN.split(text)
    if len(parts) < 3 or parts[0].strip() or parts[1] != "Human":
        return None
    turns = list(zip(parts[1::2], (content.strip() for content in parts[2::2]), strict=True))
    if turns[-1] == ("Assistant", ""):
        turns.pop()
    return [{"role": "user" if who == "Human" else "assistant", "content": content} for who, content in turns]


def answer_text(value: Any) -> str:
    """A response: plain text, or the last assistant message of a conversation."""
    text = value if isinstance(value, str) else split_conversation(value)[1]
    if not text.strip():
        raise ValueError("the response is empty")
    return text


def prompt_text(messages: Sequence[Message]) -> str:
    """A prompt as oracles read it: the text of a single turn, otherwise the turns with their roles."""
    if len(messages) == 1:
        return messages[0]["content"]
    return "\n\n".join(f"{m['role']}: {m['content']}" for m in messages)


class PromptText(str):
    """A prompt's text, and the turns that it was made of, for oracles that have a chat template of their own."""

    messages: list[Message]

    def __new__(cls, messages: Sequence[Message]) -> Self:
        """The text of `prompt_text(messages)`."""
        text = super().__new__(cls, prompt_text(messages))
        text.messages = list(messages)
        return text

    def __getnewargs__(self) -> tuple[list[Message]]:  # type: ignore[override]
        """The arguments from which copies and pickles are made."""
        return (self.messages,)


def turns(prompt: str) -> list[Message]:
    """The turns of a prompt that an oracle is asked about; plain text is one user turn."""
    return prompt.messages if isinstance(prompt, PromptText) else [{"role": "user", "content": prompt}]


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except ValueError:
        raise
    except Exception as error:  # a template is somebody's program: on odd rows it fails in any way
        raise ValueError(f"model.chat_template: the template refuses the conversation: {error}") from error


class Chat:
    """A tokenizer and the way it renders conversations."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, template: str | None = None, system: str | None = None
    ) -> None:
        """`template`: None for the tokenizer's own, "plain" for text alone, or a Jinja file.

        Raises:
            ValueError: no template, an unusable one, one without a place for `system`, or no end token.
        """
        self.tokenizer = tokenizer
        self.system = system
        self.template = self._choose(template)
        self._template = Template(tokenizer, self.template)
        self.end_id = self._end_id()
        if system is not None:
            self._check_system()
        self._check_bos()

    @cached_property
    def identity(self) -> str:
        """Hash of the tokenizer, the template's text and the system message: tokens depend on nothing else."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        # A call with padding or truncation leaves its settings in the tokenizer.
        stored = {} if backend is None else {**json.loads(backend.to_str()), "padding": None, "truncation": None}
        rules = stored or sorted(self.tokenizer.get_vocab().items())
        plain = json.dumps([type(self.tokenizer).__name__, rules, self.template, self.system])
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
        if bos is not None and self.prompt_ids(as_messages("a"))[:2] == [bos, bos]:
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
            ValueError: the template refuses it (an unknown role, or turns out of order), or it spells out a special
                token that the tokenizer cannot read as text.
        """
        if self.system is not None and messages[0]["role"] != "system":
            messages = [{"role": "system", "content": self.system}, *messages]
        with _refusals():
            return self._template.ids(messages, generate=True)

    @cached_property
    def opens_thought(self) -> bool:
        """Whether the template begins every answer inside a thought (DeepSeek-R1 and its kind)."""
        return self._render(as_messages("a"), True).rstrip().endswith("<think>")

    def response_ids(self, text: str) -> list[int]:
        """A response's text as tokens, with the end token; special tokens spelt out are text."""
        return [*self._text_ids(text), self.end_id]

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

    def decode(self, ids: Sequence[int]) -> str:
        """A response's text, special tokens left out."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))
