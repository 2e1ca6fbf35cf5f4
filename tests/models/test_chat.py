"""Prompts and responses as tokens: one way to render, one end token, nothing lost."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken

from conftest import TEMPLATE, byte_tokenizer
from sparring.models.chat import Chat
from sparring.models.messages import as_messages, prompt_text, split_conversation

CHATML = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou help.<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPACED = (
    "{% for m in messages %}[{{ m['role'] }}]: {{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant]: {% endif %}"
)
THINKING = CHATML.replace("assistant\n{% endif %}", "assistant\n<think>\n{% endif %}")
ENDLESS = (
    "{% for m in messages %}### {{ m['role'] }}:\n{{ m['content'] }}\n\n{% endfor %}"
    "{% if add_generation_prompt %}### assistant:\n{% endif %}"
)
TEMPLATES = {
    "own": TEMPLATE,
    "chatml": CHATML,
    "spaced": SPACED,
    "thinking": THINKING,
    "endless": ENDLESS,
}
END = {"own": "<|end|>", "chatml": "<|im_end|>", "spaced": "<|end|>", "thinking": "<|im_end|>"}

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
SAID = TEXT.filter(lambda text: text.strip() != "")
TURNS = st.lists(SAID, min_size=1, max_size=4)


def make_chat(name: str, **options: Any) -> Chat:
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = TEMPLATES.get(name)
    return Chat(tokenizer, "plain" if name == "plain" else None, **options)


def _with(tokenizer: Any, template: str) -> Any:
    tokenizer.chat_template = template
    return tokenizer


CHATS = {name: make_chat(name) for name in (*TEMPLATES, "plain")}


def conversation(turns: list[str]) -> list[dict[str, str]]:
    """Turns that end with the user's."""
    roles = ("user", "assistant") if len(turns) % 2 else ("assistant", "user")
    messages = [{"role": roles[i % 2], "content": text} for i, text in enumerate(turns)]
    return messages[1:] if messages[0]["role"] == "assistant" else messages


@pytest.mark.parametrize("name", CHATS)
@given(turns=TURNS.filter(lambda turns: len(turns) != 2 or turns[1]), answer=SAID)
def test_prompt_and_response_are_the_rendered_conversation(name: str, turns: list[str], answer: str) -> None:
    chat = CHATS[name]
    messages = conversation(turns)
    prompt = chat.prompt_ids(messages)
    assert prompt == chat.prompt_ids([dict(m) for m in messages])
    whole = chat.tokenizer.apply_chat_template(
        [*messages, {"role": "assistant", "content": answer}],
        chat_template=chat.template,
        tokenize=False,
    )
    if name == "thinking":  # the header opens a thought that the conversation does not hold
        assert chat.tokenizer.decode(prompt).endswith("<|im_start|>assistant\n<think>\n")
        return
    ids = chat.tokenizer(whole, add_special_tokens=False)["input_ids"]
    assert ids[: len(prompt)] == prompt
    response = chat.response_ids(answer)
    end = 0 if name in ("endless", "plain") else 1  # the end of text is not written in these
    kept = response if end else response[:-1]
    assert ids[len(prompt) : len(prompt) + len(kept)] == kept


@pytest.mark.parametrize("name", CHATS)
@given(answer=TEXT)
def test_a_response_has_one_end_token_and_decodes_to_its_text(name: str, answer: str) -> None:
    chat = CHATS[name]
    response = chat.response_ids(answer)
    assert [i for i, token in enumerate(response) if token in chat.end_ids()] == [len(response) - 1]
    assert chat.decode(response) == answer
    assert chat.decode(response[:-1]) == answer


@pytest.mark.parametrize("answer", ["a <|end|> b", "<|im_end|>", "<|user|>Hi", " , . n't  "])
def test_special_tokens_spelt_out_in_a_response_stay_text(answer: str) -> None:
    chat = CHATS["chatml"]
    response = chat.response_ids(answer)
    assert sum(token in chat.end_ids() for token in response) == 1
    assert chat.decode(response) == answer


@pytest.mark.parametrize("name", CHATS)
def test_the_end_token_is_the_template_s_or_else_eos(name: str) -> None:
    chat = CHATS[name]
    assert chat.tokenizer.convert_ids_to_tokens(chat.end_id) == END.get(name, chat.tokenizer.eos_token)
    assert chat.end_ids() >= {chat.end_id, chat.tokenizer.eos_token_id}


def test_an_end_token_that_the_special_tokens_map_lacks_is_found() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens([AddedToken("<|im_end|>", special=True)])
    assert Chat(_with(tokenizer, CHATML)).end_id == tokenizer.convert_tokens_to_ids("<|im_end|>")


def test_the_model_s_own_end_tokens_count() -> None:
    config = SimpleNamespace(eos_token_id=[7, 9])
    assert make_chat("own").end_ids(config) == {256, 7, 9}


def test_the_header_s_trailing_space_is_in_the_prompt() -> None:
    chat = CHATS["spaced"]
    ids = chat.prompt_ids([{"role": "user", "content": "Hi"}])
    assert chat.tokenizer.decode(ids) == "[user]: Hi<|end|>\n[assistant]: "


def test_plain_is_text_alone() -> None:
    chat = CHATS["plain"]
    assert chat.tokenizer.decode(chat.prompt_ids([{"role": "user", "content": "Once upon"}])) == "Once upon\n"


def test_a_default_system_prompt_is_rendered_once() -> None:
    text = CHATS["chatml"].tokenizer.decode(CHATS["chatml"].prompt_ids(as_messages("Hi")))
    assert text.count("system\nYou help.") == 1


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_system_option_comes_before_prompts_that_have_none(name: str) -> None:
    chat = make_chat(name, system="Be brief.")
    text = chat.tokenizer.decode(chat.prompt_ids(as_messages("Hi")))
    assert text.index("Be brief.") < text.index("Hi")
    own = [{"role": "system", "content": "Be long."}, {"role": "user", "content": "Hi"}]
    assert "Be brief." not in chat.tokenizer.decode(chat.prompt_ids(own))


def test_a_template_file(tmp_path: Path) -> None:
    path = tmp_path / "template.jinja"
    path.write_text(SPACED)
    assert Chat(byte_tokenizer(), str(path)).template == SPACED
    with pytest.raises(ValueError, match=r"model\.chat_template.*neither 'plain' nor a file"):
        Chat(byte_tokenizer(), str(tmp_path / "none.jinja"))


def test_no_template_and_no_end_are_refused() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = None
    with pytest.raises(ValueError, match=r"model\.chat_template.*'plain'"):
        Chat(tokenizer)
    tokenizer.eos_token = None
    with pytest.raises(ValueError, match="no EOS token"):
        Chat(tokenizer, "plain")


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ([], "list of messages"),
        (5, "got int"),
        ([{"role": "user"}], "'role' and 'content'"),
        ([{"role": "user", "content": " "}], "no text"),
        ([{"role": "user", "content": None}], "no text"),
        (
            [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}],
            "nothing left to answer",
        ),
    ],
)
def test_prompts_that_cannot_be_used(prompt: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        as_messages(prompt)


def test_conversations_are_split_before_the_answer() -> None:
    talk = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
    assert split_conversation(talk) == (talk[:1], "Ho")
    with pytest.raises(ValueError, match="does not end with an assistant"):
        split_conversation(talk[:1])


def test_what_an_oracle_reads() -> None:
    assert prompt_text(as_messages("Hi")) == "Hi"
    assert prompt_text([{"role": "system", "content": "S"}, {"role": "user", "content": "U"}]) == "system: S\n\nuser: U"
