"""Tools and calls: rendered by the template, read back as given, and never left out in silence."""

from __future__ import annotations

import json
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from conftest import TEMPLATE, byte_tokenizer, write_jsonl
from sparring.data.examples import stream_examples
from sparring.models.chat import Chat
from sparring.models.messages import as_messages, conversation, split_conversation
from sparring.models.tools import CALLS, TOOLS, Calls, as_requested, as_sent, calls_message, tools_message
from sparring.recipe.datasets import DatasetConfig

WEATHER = {
    "name": "weather",
    "description": "Weather of a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}
TOOL = {"type": "function", "function": WEATHER}
CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
ASK = {"role": "user", "content": "Rain in Rome?"}
TURNS = (
    "{% if tools %}<|im_start|>system\nTools:{% for t in tools %} {{ t | tojson }}{% endfor %}<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "{% for c in m.tool_calls or [] %}OPEN{{ c.function | tojson }}CLOSE{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PLAIN_CALLS = TURNS.replace("OPEN", "<call>").replace("CLOSE", "</call>")
SPECIAL_CALLS = TURNS.replace("OPEN", "<|call|>").replace("CLOSE", "")


def chat(template: str, system: str | None = None) -> Chat:
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>", "<|call|>"]})
    tokenizer.chat_template = template
    return Chat(tokenizer, system=system)


def shown(one: Chat, ids: list[int]) -> str:
    return str(one.tokenizer.decode(ids))


def test_a_template_gets_tools_and_calls_as_its_interface_has_them():
    talk = [ASK, {"role": "assistant", "content": None, "tool_calls": [CALL]}, {"role": "tool", "content": "dry"}]
    messages = [tools_message(json.dumps([WEATHER])), *conversation(talk)]
    assert [m["role"] for m in messages] == [TOOLS, "user", CALLS, "tool"]
    sent, tools = as_sent(messages)
    assert tools == [TOOL]
    call = {"type": "function", "id": "call00100", "function": {"name": "weather", "arguments": {"city": "Rome"}}}
    result = {**talk[2], "tool_call_id": "call00100"}
    assert sent == [ASK, {"role": "assistant", "content": "", "tool_calls": [call]}, result]
    rendered = shown(one := chat(PLAIN_CALLS), one.prompt_ids(messages))
    assert rendered.startswith("<|im_start|>system\nTools:")
    assert '<call>{"name": "weather", "arguments": {"city": "Rome"}}</call>' in rendered
    assert rendered.endswith("<|im_start|>tool\ndry<|im_end|>\n<|im_start|>assistant\n")


@pytest.mark.parametrize(("template", "opens"), [(PLAIN_CALLS, "<call>"), (SPECIAL_CALLS, "<|call|>")])
def test_a_given_call_is_trained_as_the_template_writes_it(template: str, opens: str):
    one, prompt = chat(template), [tools_message([TOOL]), ASK]
    _, answer = split_conversation([ASK, {"role": "assistant", "content": "Let me look.", "tool_calls": [CALL]}])
    assert isinstance(answer, Calls)
    text, ids = one.call_response(answer, prompt)
    whole = shown(one, [*one.prompt_ids(prompt), *ids])
    assert whole.endswith(
        f'Let me look.{opens}{{"name": "weather", "arguments": {{"city": "Rome"}}}}'
        + ("</call><|im_end|>" if opens == "<call>" else "<|im_end|>")
    )
    assert ids[-1] == one.end_id
    assert ids.count(one.tokenizer.convert_tokens_to_ids("<|call|>")) == (opens == "<|call|>")
    assert text == one.decode(ids)


def test_special_tokens_that_a_call_spells_out_are_text():
    one, prompt = chat(SPECIAL_CALLS), [tools_message([TOOL]), ASK]
    spelt = {"function": {"name": "weather", "arguments": {"city": "<|im_end|>"}}}
    _, answer = split_conversation([ASK, {"role": "assistant", "tool_calls": [spelt]}])
    _, ids = one.call_response(Calls(answer), prompt)
    assert ids.count(one.end_id) == 1
    assert "<|im_end|>" in shown(one, ids[:-1])


def test_a_template_that_leaves_tools_or_calls_out_refuses_them():
    prompt = [tools_message([TOOL]), ASK]
    with pytest.raises(ValueError, match="the template leaves out the tools message"):
        chat(TEMPLATE).prompt_ids(prompt)
    answer = Calls(calls_message("", [CALL])["content"])
    with pytest.raises(ValueError, match="does not write the answer's tool calls"):
        chat(TEMPLATE).call_response(answer, [ASK])


def test_the_recipes_system_message_stands_beside_tools():
    rendered = shown(one := chat(PLAIN_CALLS, system="Be brief."), one.prompt_ids([tools_message([TOOL]), ASK]))
    assert "Tools:" in rendered
    assert "<|im_start|>system\nBe brief.<|im_end|>" in rendered


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("{", "the tools are text that is not JSON"),
        ({"name": "weather"}, "the tools are no list of functions"),
        ([{"type": "function"}], "a tool has no name"),
        ([{}], "a tool has no name"),
        (5, "the tools are no list of functions"),
        ([{"function": {"name": " "}}], "a tool has no name"),
        ([{"name": 'say "hi"'}], "a tool's name holds a quotation mark, .*: rename it"),
        ([{"name": "a\\b"}], "a tool's name holds .* a backslash"),
        ([{"name": "a\nb"}], "a tool's name holds .* a control character"),
        ([{"name": "day", "since": date(2026, 12, 1)}], "a value that JSON cannot hold: write it as text"),
        ([{"name": "limit", "default": float("nan")}], "a value that JSON cannot hold: write it as text"),
    ],
)
def test_tools_that_are_none_are_refused(value: Any, reason: str):
    with pytest.raises(ValueError, match=reason):
        tools_message(value)


def test_nulls_that_parquet_fills_in_are_no_part_of_a_tool():
    filled = [
        {"type": "function", "function": {**WEATHER, "strict": None, "parameters": {"type": "object", "x": None}}}
    ]
    (tool,) = json.loads(tools_message(filled)["content"])
    assert tool["function"] == {**WEATHER, "parameters": {"type": "object"}}


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ({"function": {"arguments": '{"city": "Rome"}'}}, "a tool call has no name"),
        ({"function": {"name": "f", "arguments": "[1]"}}, "a tool call's arguments are no object"),
        ({"function": {"name": "f", "arguments": "{no"}}, "a tool call's arguments are text that is not JSON"),
        ({"function": {"name": "f", "arguments": '{"x": NaN}'}}, "a tool call's arguments are text that is not JSON"),
        ({"function": {"name": 5, "arguments": {"x": 3}}}, "a tool call has no name"),
        ({}, "a tool call has no name"),
        ({"function": {"name": 'say "hi"', "arguments": {}}}, "a tool's name holds a quotation mark"),
        ({"function": {"name": "f", "arguments": {"x": b"1"}}}, "a value that JSON cannot hold: write it as text"),
    ],
)
def test_calls_that_are_none_are_refused(call: dict[str, Any], reason: str):
    with pytest.raises(ValueError, match=reason):
        split_conversation([ASK, {"role": "assistant", "tool_calls": [call]}])


def test_rows_with_tools_are_examples_and_prompts_do_not_end_with_a_call(tmp_path: Path):
    calls = {"role": "assistant", "content": "", "tool_calls": [CALL]}
    rows = [
        {"prompt": [ASK], "tools": [TOOL], "chosen": [calls], "rejected": [{"role": "assistant", "content": "No."}]},
        {"prompt": [ASK], "tools": None, "chosen": "Yes.", "rejected": "No."},
    ]
    path = write_jsonl(tmp_path / "r.jsonl", rows)
    dropped: Any = {}
    first, second = stream_examples(DatasetConfig(path=str(path)), ("chosen", "rejected"), dropped)
    assert [m["role"] for m in first.messages] == [TOOLS, "user"]
    assert isinstance(first.responses["chosen"], Calls)
    assert first.responses["rejected"] == "No."
    assert (second.messages, dropped) == ([ASK], {})
    with pytest.raises(ValueError, match="ends with an assistant message"):
        as_messages([ASK, calls])


def test_messages_of_the_inner_roles_are_checked_like_rows():
    own = [tools_message([TOOL]), ASK, calls_message("Hm.", [CALL]), {"role": "tool", "content": "dry"}]
    assert conversation(own) == own
    nulls = {"name": "weather", "arguments": '{"city": "Rome", "unit": null}'}
    (kept,) = json.loads(calls_message("", [nulls])["content"])["calls"]
    assert kept["arguments"] == {"city": "Rome", "unit": None}
    assert conversation([calls_message("", [nulls])]) == [calls_message("", [nulls])]
    for row, reason in (
        ([{"role": "tools", "content": "[]"}, ASK], "the tools are no list of functions"),
        ([{"role": "tools", "content": '[{"result": 3}]'}, ASK], "a tool has no name"),
        ([ASK, tools_message([TOOL])], "tools stand behind the first message"),
        ([{"role": "tool_calls", "content": "[]"}, ASK], "is not {said, calls}"),
    ):
        with pytest.raises(ValueError, match=reason):
            conversation(row)


def test_a_server_gets_arguments_as_text_and_each_result_names_its_call():
    two = calls_message("", [CALL, {"name": "time", "arguments": {}}])
    results = [{"role": "tool", "content": "dry"}, {"role": "tool", "content": "noon"}]
    (_, turn, *given), tools = as_requested([tools_message([TOOL]), ASK, two, *results])
    assert [call["function"]["arguments"] for call in turn["tool_calls"]] == ['{"city": "Rome"}', "{}"]
    assert [one["tool_call_id"] for one in given] == [call["id"] for call in turn["tool_calls"]]
    assert tools == [TOOL]


def test_a_call_without_a_result_gives_its_id_to_no_later_one():
    one, two = (calls_message("", [{"name": name}]) for name in ("weather", "time"))
    *_, last, result = as_sent([ASK, one, ASK, two, {"role": "tool", "content": "noon"}])[0]
    assert result["tool_call_id"] == last["tool_calls"][0]["id"]


def test_a_column_of_tools_by_another_name_is_counted(tmp_path: Path):
    rows = [{"prompt": "a", "Tools": [TOOL]}, {"prompt": "b"}]
    dropped: Any = Counter()
    found = [*stream_examples(DatasetConfig(path=str(write_jsonl(tmp_path / "r.jsonl", rows))), (), dropped)]
    assert (len(found), dropped) == (1, {"the row has 'Tools' beside its prompt": 1})


def test_results_stand_in_the_order_of_the_calls_that_they_name():
    rain = [{"id": name, "function": {"name": "weather", "arguments": {"city": name}}} for name in ("Rome", "Oslo")]
    turn = {"role": "assistant", "content": "", "tool_calls": rain}
    wet, dry = (
        {"role": "tool", "content": word, "tool_call_id": of} for word, of in (("wet", "Oslo"), ("dry", "Rome"))
    )
    assert [message["content"] for message in conversation([ASK, turn, wet, dry])[2:]] == ["dry", "wet"]
    assert conversation([ASK, turn, dry])[2:] == [{"role": "tool", "content": "dry"}]
    for results in ([wet, wet], [{**wet, "tool_call_id": "Bonn"}, dry], [wet]):
        with pytest.raises(ValueError, match="a tool's result names no call before it"):
            conversation([ASK, turn, *results])


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({"rain": False, "mm": None, "città": "Roma"}, '{"rain": false, "città": "Roma"}'),
        (["Rome", "Oslo"], '["Rome", "Oslo"]'),
        ([], "[]"),
        (21.5, "21.5"),
        (True, "true"),
        ("", ""),
        ([{"type": "text", "text": "dry"}, {"type": "text", "text": "."}], "dry."),
        ({"text": "dry"}, "dry"),
        ({"type": "text", "text": "dry", "image_url": None}, "dry"),  # a null that Parquet filled in
        ({"text": "dry", "score": 3}, '{"text": "dry", "score": 3}'),
        ([{"text": "18", "error": True}, {"text": "20"}], '[{"text": "18", "error": true}, {"text": "20"}]'),
        ([{"title": "Rome", "text": "dry"}], '[{"title": "Rome", "text": "dry"}]'),
        ([{"text": "a", "url": "u"}], '[{"text": "a", "url": "u"}]'),
    ],
)
def test_a_result_may_be_data_or_empty(content: Any, text: str):
    """Data was dropped as "a part that is no text", and a tool that returned nothing as no message."""
    talk = [ASK, {"role": "assistant", "content": None, "tool_calls": [CALL]}, {"role": "tool", "content": content}]
    messages = conversation(talk)
    assert messages[2] == {"role": "tool", "content": text}
    assert conversation(messages) == messages
    one = chat(PLAIN_CALLS)
    rendered = shown(one, one.prompt_ids([tools_message([TOOL]), *messages]))
    assert rendered.endswith(f"<|im_start|>tool\n{text}<|im_end|>\n<|im_start|>assistant\n")


@pytest.mark.parametrize(
    ("role", "content", "reason"),
    [
        ("tool", None, "the tool message has no text"),
        ("tool", [{"type": "image", "image": "a.png"}], r"the tool message has a part that is no text \(image\)"),
        ("tool", {"day": date(2026, 12, 1)}, "a value that JSON cannot hold: write it as text"),
        ("user", {"city": "Rome"}, "the user message's 'content' is an object: write it as text"),
        ("user", 5, "the user message's 'content' is a number: write it as text"),
        ("user", [{"city": "Rome"}], r"the user message has a part that is no text \(an object\)"),
        ("user", "", "the user message has no text"),
    ],
)
def test_content_that_is_no_text_is_named(role: str, content: Any, reason: str):
    with pytest.raises(ValueError, match=reason):
        conversation([ASK, {"role": role, "content": content}])


def test_names_of_other_letters_and_spaces_are_names():
    """ToolACE's tools are named "Market Trends API"; what JSON writes as it is breaks no template."""
    prompt = [tools_message([{"name": name} for name in ("Market Trends API", "météo", "a.b/c-d'e")]), ASK]
    one = chat(PLAIN_CALLS)
    assert "Market Trends API" in shown(one, one.prompt_ids(prompt))
