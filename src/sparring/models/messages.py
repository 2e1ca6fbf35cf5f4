"""Prompts and answers as people write them down: text, lists of messages, transcripts, JSON text of any of these.

Every reader of rows goes through here, so that a row means the same to a run, an audit and an oracle's training. What
a message holds beside its text - thoughts, images - is never left out in silence: such a message is refused. Calls of
tools become messages of a kind of their own (`tools.py`). Leaves out: rows and their columns (`data/examples.py`),
templates and tokens (`chat.py`).

    as_messages('[{"role": "user", "content": "Hi"}]')  ->  [{"role": "user", "content": "Hi"}]
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Self

from sparring.models.tools import (
    CALLS,
    TOOLS,
    Calls,
    Message,
    calls_message,
    checked_message,
    in_call_order,
    is_nothing,
    result_text,
)

_TURN = re.compile(r"(?:\A|\n\n)(Human|Assistant):[ \n]?")
_LIST_OF_MESSAGES = re.compile(
    r"""\s*\[\s*\{\s*(?=['"]\w+['"]\s*:)(?s:.*)['"](role|from)['"]\s*:\s*['"](system|developer|user|human|assistant|gpt|tool)['"]"""
)
_SAYS_MORE = re.compile(r"tool|function|reasoning|think|thought|image|audio|video|media|document|attachment|refusal")
"""fields of a message that are part of what it says"""
_SHAREGPT = {"human": "user", "gpt": "assistant"} | {role: role for role in ("system", "user", "assistant")}
"""roles by what ShareGPT's turns, {from, value}, call them"""


def as_messages(value: Any) -> list[Message]:
    """A prompt as messages: a string becomes one user message, a list of messages is checked.

    Raises:
        ValueError: not a non-empty string or list of {role, content}; or the last turn is the assistant's.
    """
    messages = prompt_turns(value)
    if messages[-1]["role"] in ("assistant", CALLS):
        raise ValueError("the prompt ends with an assistant message, so there is nothing left to answer")
    return messages


def prompt_turns(value: Any) -> list[Message]:
    """As `as_messages`, but the answer that comes after them may stand after an assistant's turn."""
    value = decoded(value)
    if not isinstance(value, str):
        return conversation(value)
    if not value.strip():
        raise ValueError("the prompt is empty")
    return [{"role": "user", "content": value}]


def conversation(value: Any) -> list[Message]:
    """Checked messages, without fields other than role and content.

    Raises:
        ValueError: not a non-empty list of {role, content} with text in each, or one says more than its text.
    """
    value = decoded(value)
    if isinstance(value, Mapping) and ({"role", "content"} <= value.keys() or {"from", "value"} <= value.keys()):
        value = [value]
    if not isinstance(value, list | tuple):
        raise ValueError(f"expected text or a list of messages, got {type(value).__name__}")
    if not value:
        raise ValueError("the list of messages is empty")
    messages = _with_results_in_order(value, [_message(item) for item in value])
    if any(message["role"] == TOOLS for message in messages[1:]):
        raise ValueError("tools stand behind the first message")
    return messages


def _with_results_in_order(items: Sequence[Any], messages: list[Message]) -> list[Message]:
    """The messages, results of tools in the order of the calls that they name."""
    for at, message in enumerate(messages):
        if message["role"] == CALLS:
            end = next((k for k in range(at + 1, len(messages)) if messages[k]["role"] != "tool"), len(messages))
            part = slice(at + 1, end)
            messages[part] = in_call_order(items[at].get(CALLS), items[part], messages[part])
    return messages


def _message(item: Any) -> Message:
    if isinstance(item, Mapping) and {"from", "value"} <= item.keys() and "role" not in item:
        if item["from"] not in _SHAREGPT:
            raise ValueError(f"a turn is from {item['from']!r}, which is none of {', '.join(_SHAREGPT)}")
        beside = {name: inside for name, inside in item.items() if name not in ("from", "value")}
        item = {**beside, "role": _SHAREGPT[item["from"]], "content": item["value"]}
    if isinstance(item, Mapping) and item.get("role") in (TOOLS, CALLS) and "content" in item:
        return checked_message(str(item["role"]), item["content"])
    calls = item.get(CALLS) if isinstance(item, Mapping) and item.get("role") == "assistant" else None
    calls = None if is_nothing(calls) else calls
    if not isinstance(item, Mapping) or "role" not in item or (calls is None and "content" not in item):
        raise ValueError("a message needs 'role' and 'content'")
    for field, inside in item.items():
        known = field == "tool_call_id" or (field == CALLS and calls is not None)
        if _SAYS_MORE.search(field.lower()) and not known and not is_empty(inside):
            raise ValueError(f"the {item['role']} message holds {field!r} beside its text")
    text = _text(item["role"], item.get("content"))
    if calls is not None:
        return calls_message(text, calls)
    if not text.strip() and (item["role"] != "tool" or item["content"] is None):  # a tool may return nothing
        raise ValueError(f"the {item['role']} message has no text")
    return {"role": str(item["role"]), "content": text}


def _text(role: Any, content: Any) -> str:
    """The text of a message; parts of text are joined, and a tool's result that is data is JSON, as templates do."""
    if content is None or isinstance(content, str):
        return content or ""
    parts = content if isinstance(content, list | tuple) else [content]
    objects = [part for part in parts if isinstance(part, Mapping)]
    if role == "tool" and not (objects and all(_is_part(part) or isinstance(part, str) for part in parts)):
        return result_text(content)
    if parts is not content and not _is_part(content):
        raise ValueError(f"the {role} message's 'content' is {_part_kind(content)}: write it as text")
    texts: list[str] = []
    for part in parts:
        plain, kind = isinstance(part, str), _part_kind(part)
        text = part if plain else part.get("text") if kind == "text" else None
        beside = {} if plain or not isinstance(part, Mapping) else {k: v for k, v in part.items() if k not in _PART}
        if not isinstance(text, str) or any(not is_empty(value) for value in beside.values()):
            raise ValueError(f"the {role} message has a part that is no text ({kind})")
        texts.append(text)
    return "".join(texts)


def _is_part(value: Any) -> bool:
    """Whether a value is an object that is a part of a message, as texts and images are, and no data: text alone."""
    if not isinstance(value, Mapping) or not _PART_KIND.fullmatch(kind := _part_kind(value)):
        return False
    return kind != "text" or all(key in _PART or inside is None for key, inside in value.items())


def _part_kind(part: Any) -> str:
    if isinstance(part, Mapping):
        return str(part.get("type", "text" if "text" in part else KINDS[dict]))
    return "text" if isinstance(part, str) else KINDS.get(type(part), type(part).__name__)


_PART_KIND = re.compile(
    r"(input_|output_)?(text|image|audio|video|file|document|media|refusal|thinking|tool_\w+)(_url)?"
)
KINDS = {dict: "an object", bool: "a truth value", int: "a number", float: "a number"}
"""of values that are neither text nor messages, in words"""
_PART = ("type", "text", "index", "cache_control", "annotations")
"""fields of a part that is text alone"""


def is_empty(value: Any) -> bool:
    """Whether a cell or a field holds nothing: null, blank text, numbers and truth values, or only such inside.

    Parquet fills the fields that other rows have with nulls, CSV with empty text or that of an empty list.
    """
    if isinstance(value, Mapping):
        return all(map(is_empty, value.values()))
    if isinstance(value, list | tuple):
        return all(map(is_empty, value))
    if isinstance(value, str):
        return value.strip() in ("", "[]", "{}", "null", "None")
    return value is None or isinstance(value, bool | int | float)


def decoded(value: Any) -> Any:
    """Messages that are written as JSON text, as CSV cells and text columns hold them; every other value as it is.

    Raises:
        ValueError: a text that looks like messages, but is not JSON.
    """
    if not isinstance(value, str) or not _LIST_OF_MESSAGES.match(value):
        return value
    try:
        plain = json.loads(value)
    except (ValueError, RecursionError) as error:
        raise ValueError("text that looks like messages, but is not JSON") from error
    return plain if all(isinstance(item, dict) and bool({"role", "from"} & item.keys()) for item in plain) else value


def split_conversation(value: Any) -> tuple[list[Message], str]:
    """A whole conversation as (prompt messages, last assistant text).

    Raises:
        ValueError: as `conversation`; or its last message is not the assistant's, or has weight 0.
    """
    value = decoded(value)
    messages = conversation(value)
    *before, last = messages
    if last["role"] not in ("assistant", CALLS):
        raise ValueError("the conversation does not end with an assistant message")
    if isinstance(value, list | tuple) and value[-1].get("weight") == 0:
        raise ValueError("the response has weight 0: it is not to be learned from")
    return before, Calls(last["content"]) if last["role"] == CALLS else last["content"]


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
    value = decoded(value)
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
