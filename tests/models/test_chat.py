"""Prompts and responses as tokens: one way to render, one end token, nothing lost."""

from __future__ import annotations

from datetime import date
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


KNOWN = (  # as those of many models: other roles are left out in silence
    "{% for m in messages %}{% if m.role in ['system', 'user', 'assistant'] %}<|im_start|>{{ m.role }}\n"
    "{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LAST = "{{ messages[-1].content }}\n"
MERGED = (  # system messages go into the next user turn
    "{% set ns = namespace(s='') %}{% for m in messages %}{% if m.role == 'system' %}{% set ns.s = m.content %}"
    "{% else %}<|{{ m.role }}|>{{ ns.s }}\n{{ m.content | trim }}<|end|>{% set ns.s = '' %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
SHORT = "{% for m in messages %}<|{{ m.role }}|>{{ m.content[:20] }}<|end|>{% endfor %}<|assistant|>"
CHANNEL = (
    "{% for m in messages %}{% if m.role == 'assistant' %}<|assistant|><|channel|>final<|message|>{{ m.content }}"
    "<|end|>{% else %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
THOUGHTS = (  # an empty thought before answers to the last request, and none in earlier turns
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}{% set c = m.content %}"
    "{% set t = '' %}{% if '</think>' in c %}{% set t = c.split('</think>')[0].split('<think>')[-1] | trim %}"
    "{% set c = c.split('</think>')[-1] | trim %}{% endif %}"
    "{% if loop.last %}<think>\n{{ t }}\n</think>\n\n{% endif %}{{ c }}{% else %}{{ m.content }}{% endif %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA2 = (
    "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% else %} {{ m.content | trim }} <|end|>{% endif %}{% endfor %}"
)


def chat_of(template: str, **options: Any) -> Chat:
    tokenizer = byte_tokenizer()
    tokens = ["<|im_start|>", "<|im_end|>", "<|channel|>", "<|message|>"]
    tokenizer.add_special_tokens({"additional_special_tokens": tokens})
    return Chat(_with(tokenizer, template), **options)


def message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def spelt(chat: Chat, ids: list[int]) -> str:
    return str(chat.tokenizer.decode(ids, skip_special_tokens=False))


@pytest.mark.parametrize(
    ("template", "roles", "left_out"),
    [
        (KNOWN, ["developer", "user"], "developer"),
        (KNOWN, ["human"], "human"),
        (KNOWN, ["user", "assistant", "tool", "user"], "tool"),
        (KNOWN, ["system", "user", "assistant", "user"], None),
        (LAST, ["user"], None),
        (LAST, ["user", "assistant", "user"], "user"),
        (MERGED, ["system", "user"], None),
        (MERGED, ["user", "system"], "system"),
        (CHATML, ["developer", "user"], None),
    ],
)
def test_a_prompt_of_which_the_template_leaves_a_message_out_is_refused(
    template: str, roles: list[str], left_out: str | None
) -> None:
    prompt = [message(role, "a") for role in roles]  # every prompt of the template's own words holds an a
    if left_out is None:
        assert chat_of(template).prompt_ids(prompt)
    else:
        with pytest.raises(ValueError, match=f"^the template leaves out the {left_out} message$"):
            chat_of(template).prompt_ids(prompt)


def test_a_template_that_cuts_a_request_refuses_it() -> None:
    chat = chat_of(SHORT)
    assert chat.prompt_ids(as_messages("Say ant"))
    with pytest.raises(ValueError, match="leaves out or changes a part of the user message"):
        chat.prompt_ids(as_messages("Say ant, and then say bee"))


def test_thoughts_of_earlier_answers_may_be_left_out_and_their_text_may_not() -> None:
    talk = [message("user", "Hi"), message("assistant", "<think>Hm.</think>Ho"), message("user", "Why?")]
    chat = chat_of(THOUGHTS)
    assert "Hm." not in spelt(chat, chat.prompt_ids(talk))
    with pytest.raises(ValueError, match="a part of the assistant message"):
        chat_of(SHORT).prompt_ids([message("user", "Hi"), message("assistant", "ant " * 9), message("user", "Why?")])


def test_a_template_that_leaves_out_every_request_is_refused() -> None:
    with pytest.raises(ValueError, match="the template leaves out the user message"):
        chat_of("{{ messages[0].role }} asks\n")


@pytest.mark.parametrize(
    ("template", "answer", "trained"),
    [
        (CHANNEL, "Ho", "<|channel|>final<|message|>Ho<|end|>"),
        (CHANNEL, "a <|channel|> b", "<|channel|>final<|message|>a <|channel|> b<|end|>"),
        (THOUGHTS, "Ho", "<think>\n\n</think>\n\nHo<|im_end|>"),
        (THOUGHTS, "<think>Hm.</think>Ho", "<think>\nHm.\n</think>\n\nHo<|im_end|>"),
        (THOUGHTS.replace("assistant\n{% endif", "assistant\n<think>\n{% endif"), "Ho", "\n</think>\n\nHo<|im_end|>"),
        (THOUGHTS.replace("assistant\n{% endif", "assistant\n<think>\n\n</think>\n\n{% endif"), "Ho", "Ho<|im_end|>"),
        (LLAMA2, "Ho", " Ho<|end|>"),
        (LLAMA2, " Ho \n", " Ho<|end|>"),
        (MERGED, "Ho\n", "Ho<|end|>"),
        (CHATML, " Ho\n", " Ho\n<|im_end|>"),
        (CHATML.replace("<|im_end|>", "</said><|im_end|>"), "Ho", "Ho</said><|im_end|>"),
    ],
)
@pytest.mark.parametrize("turns", [["Hi"], ["Hi", "Ho.", "Why?"]])
def test_a_given_answer_is_what_the_template_writes_after_the_prompt(
    template: str, answer: str, trained: str, turns: list[str]
) -> None:
    chat = chat_of(template)
    ids = chat.response_ids(answer, conversation(turns))
    assert spelt(chat, ids) == trained
    assert chat.response_ids(answer) == ids
    given = [*conversation(turns), message("assistant", answer)]
    whole = str(chat.tokenizer.apply_chat_template(given, tokenize=False))
    assert spelt(chat, [*chat.prompt_ids(conversation(turns)), *ids]).replace(" <|end|>", "<|end|>") in (
        whole.replace(" <|end|>", "<|end|>"),
        whole.rstrip("\n"),
    )


def test_special_tokens_of_the_header_are_control_tokens_and_those_of_the_answer_text() -> None:
    chat = chat_of(CHANNEL)
    channel = chat.tokenizer.convert_tokens_to_ids("<|channel|>")
    ids = chat.response_ids("a <|channel|> b")
    assert ids.count(channel) == 1
    assert ids[0] == channel
    assert chat.decode(ids) == "a <|channel|> b"
    assert chat.decode(chat.response_ids("Ho")[:-1]) == "Ho"


def test_an_answer_that_the_template_cuts_is_trained_as_it_was_given() -> None:
    cut = CHATML.replace("{{ m['content'] }}", "{{ m['content'].split('</think>')[-1] }}")
    chat = chat_of(cut)
    assert spelt(chat, chat.response_ids("<think>Hm.</think>Ho")) == "<think>Hm.</think>Ho<|im_end|>"
    fails = CHANNEL.replace("{% if", "{% if m.content == 'boom' %}{{ m.content + 1 }}{% endif %}{% if", 1)
    assert spelt(chat_of(fails), chat_of(fails).response_ids("boom")) == "<|channel|>final<|message|>boom<|end|>"


@pytest.mark.parametrize(
    ("template", "about"),
    [
        (CHATML, None),
        (LLAMA2, None),
        (THOUGHTS.replace("assistant\n{% endif", "assistant\n<think>\n\n</think>\n\n{% endif"), None),
        (CHANNEL, "writes '<|channel|>final<|message|>' before given answers, and so"),
        (THINKING, "opens every answer with <think>, so the data's answers are trained as thoughts"),
        (
            CHANNEL.replace("<|assistant|>{% endif", "<|assistant|><|channel|>analysis<|message|>{% endif"),
            "opens answers with '<|end|><|assistant|><|channel|>analysis<|message|>', but writes "
            "'<|end|><|assistant|><|channel|>final<|message|>' before given ones",
        ),
    ],
)
def test_what_is_said_of_given_answers(template: str, about: str | None) -> None:
    found = chat_of(template).about_answers
    assert found == about if about is None else about in (found or "")


def test_the_day_is_the_chat_s_and_not_the_clock_s() -> None:
    dated = "Today: {{ strftime_now('%d %b %Y') }}\n" + TEMPLATE
    chat = chat_of(dated, day=date(2024, 2, 29))
    assert spelt(chat, chat.prompt_ids(as_messages("Hi"))) == "Today: 29 Feb 2024\n<|user|>Hi<|end|><|assistant|>"
    assert chat.writes_day
    assert not chat_of(TEMPLATE).writes_day
    assert chat_of(dated, day=date(2025, 1, 1)).identity == chat.identity
