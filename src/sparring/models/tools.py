"""Tools and calls of them in a conversation, as two more kinds of message, so that a message stays a role and a text.

    {"role": "tools", "content": '[{"type": "function", "function": {"name": "weather", ...}}]'}      first, if at all
    {"role": "tool_calls", "content": '{"said": "Let me look.", "calls": [{"name": "weather", "arguments": {...}}]}'}

The second is an assistant's turn; results are plain messages of the role `tool`. Chat templates and served models get
both as their interface has them (`as_sent`). Leaves out: how a model writes a call (`chat.py`, by its template).

    messages, tools = as_sent([tools_message(tools), {"role": "user", "content": "Rain in Rome?"}])
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

Message = dict[str, str]
TOOLS, CALLS = "tools", "tool_calls"
"""roles of the two kinds"""
NOTHING = ("", "[]", "{}", "null", "None")
"""texts of a cell that holds nothing"""


class Calls(str):
    """A given answer that calls tools: the content of a message of the role CALLS, and not what a model writes."""


def tools_message(value: Any) -> Message:
    """A row's tools, as a list or as JSON text, as a message.

    Raises:
        ValueError: they are no list of functions with a name each, or a name is one that templates break on.
    """
    tools = _plain(value, "the tools")
    if not isinstance(tools, list) or not tools:
        raise ValueError("the tools are no list of functions")
    return {"role": TOOLS, "content": _text([_tool(one) for one in tools])}


def _tool(value: Any) -> dict[str, Any]:
    function = value.get("function", value) if isinstance(value, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str) or not function["name"].strip():
        raise ValueError("a tool has no name")
    _refuse_escaped(function["name"])
    return {"type": "function", "function": {key: one for key, one in function.items() if key != "type"}}


def _refuse_escaped(name: str) -> None:
    """Raise ValueError for a name that JSON writes otherwise: templates write it bare, and the model would read two."""
    if _text(name) != f'"{name}"':
        raise ValueError("a tool's name holds a quotation mark, a backslash or a control character: rename it")


def calls_message(said: str, calls: Any) -> Message:
    """An assistant's turn that calls tools, from its text and the field `tool_calls`.

    Raises:
        ValueError: a call has no name or one that templates break on, or arguments that are no object.
    """
    calls = _plain(calls, "the tool calls")
    if not isinstance(calls, list) or not calls:
        raise ValueError("the tool calls are no list")
    return {"role": CALLS, "content": _text({"said": said, "calls": [_call(one) for one in calls]})}


def _call(value: Any) -> dict[str, Any]:
    function = value.get("function", value) if isinstance(value, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise ValueError("a tool call has no name")
    _refuse_escaped(function["name"])
    arguments = function.get("arguments", {})
    arguments = _plain(arguments, "a tool call's arguments") if isinstance(arguments, str) else arguments
    if not isinstance(arguments, Mapping):
        raise ValueError("a tool call's arguments are no object")
    return {"name": function["name"], "arguments": arguments}


def result_text(value: Any) -> str:
    """A tool's result that is data and no text, as JSON, as templates write it.

    Raises:
        ValueError: JSON cannot hold it.
    """
    return _text(_without_nulls(value))


def checked_message(role: str, content: Any) -> Message:
    """A message of one of the two roles that a file holds, or that was made here.

    Raises:
        ValueError: its content is not what it must be.
    """
    if role == TOOLS:
        return tools_message(content)
    turn = _plain(content, "the tool calls")
    if not isinstance(turn, Mapping) or not isinstance(turn.get("said"), str):
        raise ValueError("a message of the role tool_calls is not {said, calls}")
    return calls_message(turn["said"], _text(turn.get("calls")))


def as_sent(messages: Sequence[Message]) -> tuple[list[dict[str, Any]], list[Any] | None]:
    """Messages as chat templates take them, and the tools that may be called; None where there are none.

    Results name their calls by ids of ours, in the order of the calls.
    """
    tools: list[Any] | None = None
    sent: list[dict[str, Any]] = []
    waiting: list[str] = []  # ids of the last turn's calls without a result yet
    for message in messages:
        if message["role"] == TOOLS:
            tools = json.loads(message["content"])
        elif message["role"] == CALLS:
            turn, calls, waiting = json.loads(message["content"]), [], []
            for number, call in enumerate(turn["calls"]):
                waiting.append(f"call{len(sent) % 1000:03d}{number % 100:02d}")  # nine characters, as Mistral has them
                calls.append({"type": "function", "id": waiting[-1], "function": call})
            sent.append({"role": "assistant", "content": turn["said"], "tool_calls": calls})
        elif message["role"] == "tool" and waiting:
            sent.append({**message, "tool_call_id": waiting.pop(0)})
        else:
            sent.append(dict(message))
    return sent, tools


def as_requested(messages: Sequence[Message]) -> tuple[list[dict[str, Any]], list[Any] | None]:
    """As `as_sent`, for a server, which wants arguments as text."""
    sent, tools = as_sent(messages)
    for call in (call for message in sent for call in message.get("tool_calls", ())):
        call["function"] = {**call["function"], "arguments": _text(call["function"]["arguments"])}
    return sent, tools


def must_show(message: Message) -> list[str]:
    """What a template must write of a message: its text, or the names of its tools or calls and what was said."""
    if message["role"] == TOOLS:
        return [tool["function"]["name"] for tool in json.loads(message["content"])]
    if message["role"] == CALLS:
        turn = json.loads(message["content"])
        return [*(call["name"] for call in turn["calls"]), turn["said"]]
    return [message["content"]]


def marked(role: str, mark: str) -> Message:
    """A message of a role whose only text is the mark."""
    if role == TOOLS:
        parameters = {"type": "object", "properties": {}}
        return tools_message([{"name": mark, "description": mark, "parameters": parameters}])
    return calls_message("", [{"name": mark}]) if role == CALLS else {"role": role, "content": mark}


def _plain(value: Any, what: str) -> Any:
    """What JSON text holds, or the value without the nulls that Parquet fills in."""
    if not isinstance(value, str):
        return _without_nulls(value)
    try:
        return json.loads(value or "{}", parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{what} are text that is not JSON") from error


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def is_nothing(value: Any) -> bool:
    """Whether a cell or a field holds no tools or calls; what holds something else is checked."""
    return value is None or value in ([], {}) or (isinstance(value, str) and value.strip() in NOTHING)


def in_call_order(calls: Any, results: Sequence[Mapping[str, Any]], messages: Sequence[Message]) -> list[Message]:
    """The messages of a turn's results in the order of its calls, where `tool_call_id` says which is whose.

    Raises:
        ValueError: a result names no call of the turn, or two name the same, or a call before theirs has none.
    """
    given = [result.get("tool_call_id") for result in results]
    calls = calls if isinstance(calls, list | tuple) else []
    ids = [call.get("id") if isinstance(call, Mapping) else None for call in calls]
    if None in ids or None in given:
        return [*messages]
    if {*given} != {*ids[: len(given)]}:
        raise ValueError("a tool's result names no call before it, or a call before its own has no result")
    return [messages[given.index(one)] for one in ids[: len(given)]]


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nulls(one) for key, one in value.items() if one is not None}
    return [_without_nulls(one) for one in value] if isinstance(value, list | tuple) else value


def _text(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:  # a column of Parquet may hold dates, bytes and NaN
        raise ValueError("tools, calls or a result hold a value that JSON cannot hold: write it as text") from error
