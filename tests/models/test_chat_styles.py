"""Chat templates and tokenizers in the styles of well-known models: one BOS, a border that stays, the right end.

Names in brackets are the reports that the tests guard against: other trainers' issues.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chat_styles import ANSWER, CONVERSATION, STYLES, Style
from conftest import tiny_llama
from sparring.models.chat import Chat
from sparring.models.messages import as_messages
from sparring.recipe.sections import SamplingConfig
from sparring.sampling.engine import Request
from sparring.sampling.transformers_engine import TransformersEngine
from sparring.training.packing import Rollout
from sparring.training.scorer import PolicyScorer

few = settings(max_examples=20)
CHATS = {name: Chat(style.tokenizer()) for name, style in STYLES.items()}
WORDS = st.text(st.characters(codec="utf-8", exclude_characters="<|▁"), min_size=1, max_size=30)
SAID = WORDS.filter(lambda text: text.strip() == text and text != "boom")

every_style = pytest.mark.parametrize("style", STYLES.values(), ids=STYLES.keys())


def spelt(chat: Chat, ids: list[int]) -> str:
    """What the tokens say, special ones included."""
    return str(chat.tokenizer.decode(ids, skip_special_tokens=False))


def talk(turns: list[str]) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(turns)]


@every_style
def test_a_prompt_of_several_turns_is_what_the_style_writes(style: Style) -> None:
    chat = CHATS[style.name]
    assert spelt(chat, chat.prompt_ids(CONVERSATION)) == style.spoken


@every_style
@few
@given(turns=st.lists(SAID, min_size=1, max_size=5).filter(lambda t: len(t) % 2 == 1), answer=SAID)
def test_prompt_and_answer_spell_the_conversation(style: Style, turns: list[str], answer: str) -> None:
    # [trl#5213, #6105: prompt is no prefix; #2054: "[/INST] " merges; #1930: system prompt twice; #3522: <think>]
    chat = CHATS[style.name]
    prompt = chat.prompt_ids(talk(turns))
    rendered = str(chat.tokenizer.apply_chat_template(talk(turns), tokenize=False, add_generation_prompt=True))
    assert spelt(chat, [*prompt, *chat.response_ids(answer)]) == rendered + answer + style.end


@every_style
@few
@given(turns=st.lists(SAID, min_size=1, max_size=5).filter(lambda t: len(t) % 2 == 1))
def test_at_most_one_bos(style: Style, turns: list[str]) -> None:
    # [axolotl#1616, reward-bench#164: a doubled BOS]
    chat = CHATS[style.name]
    ids: list[Any] = chat.prompt_ids(talk(turns))
    assert ids.count(chat.tokenizer.bos_token_id) == style.spoken.count(style.bos or "no such token")
    assert chat.tokenizer.bos_token_id not in chat.response_ids(turns[0])


@every_style
@few
@given(answer=SAID)
def test_a_response_has_one_end_token_the_styles_own(style: Style, answer: str) -> None:
    # [trl#4481, #4908: a second EOS; unsloth#416: none]
    chat = CHATS[style.name]
    ids = chat.response_ids(answer)
    assert chat.tokenizer.convert_ids_to_tokens(ids[-1]) == style.end
    assert not chat.end_ids() & set(ids[:-1])
    assert chat.decode(ids) == answer


@every_style
def test_an_answer_is_tokenised_as_it_stands_after_the_header(style: Style) -> None:
    # SentencePiece puts a space before a text's first word; in the middle of a conversation there is none.
    chat = CHATS[style.name]
    stands_alone = chat.response_ids("Hi")[:-1]
    after_line_break = chat.tokenizer("a\nHi", add_special_tokens=False)["input_ids"][-len(stands_alone) :]
    assert stands_alone == after_line_break


@every_style
def test_a_thought_opened_by_the_header_is_opened_once(style: Style) -> None:
    # [trl#3522]
    chat = CHATS[style.name]
    thinks = style.spoken.count("<think>")
    assert chat.opens_thought == bool(thinks)
    assert spelt(chat, [*chat.prompt_ids(CONVERSATION), *chat.response_ids(ANSWER)]).count("<think>") == thinks


@every_style
def test_the_default_system_prompt_comes_once(style: Style) -> None:
    # [trl#1930]
    text = spelt(CHATS[style.name], CHATS[style.name].prompt_ids(CONVERSATION))
    assert text.count("You are helpful.") == (style.name == "qwen")


@every_style
def test_a_system_message_is_kept_or_refused_never_lost(style: Style) -> None:
    if style.system == "kept":
        chat = Chat(style.tokenizer(), system="Be brief.")
        text = spelt(chat, chat.prompt_ids(CONVERSATION))
        assert text.count("Be brief.") == 1
        assert "You are helpful." not in text
    else:
        reason = {"refused": "refuses", "ignored": "leaves it out"}[style.system]
        with pytest.raises(ValueError, match=rf"model\.system: the chat template {reason}"):
            Chat(style.tokenizer(), system="Be brief.")


@pytest.mark.parametrize("name", ["gemma", "mistral"])
def test_a_row_that_the_template_refuses_is_a_row_s_error(name: str) -> None:
    # [open-instruct#1800: the job died inside dataset.map]
    with pytest.raises(ValueError, match="the template refuses the conversation"):
        CHATS[name].prompt_ids([{"role": "system", "content": "Be brief."}, *CONVERSATION])


def test_a_template_that_fails_on_a_row_is_a_row_s_error() -> None:
    with pytest.raises(ValueError, match="the template refuses the conversation"):
        CHATS["hostile"].prompt_ids(as_messages("boom"))


@every_style
def test_without_a_template_the_choice_is_left_to_the_user(style: Style) -> None:
    tokenizer = style.tokenizer()
    tokenizer.chat_template = None
    with pytest.raises(ValueError, match=r"model\.chat_template.*'plain'"):
        Chat(tokenizer)
    chat = Chat(tokenizer, "plain")
    assert spelt(chat, chat.prompt_ids(as_messages("Why"))) == f"{style.bos or ''}Why\n"  # a base model saw its BOS
    assert chat.end_id == tokenizer.eos_token_id


def test_of_several_templates_the_default_is_taken() -> None:
    tokenizer = STYLES["chatml"].tokenizer()
    own = tokenizer.chat_template
    tokenizer.chat_template = {"tool_use": "{{ nothing }}", "default": own}
    assert Chat(tokenizer).template == own
    tokenizer.chat_template = {"tool_use": own, "rag": own}
    with pytest.raises(ValueError, match=r"model\.chat_template: .* 'rag', 'tool_use' and no 'default'"):
        Chat(tokenizer)


def test_a_template_that_shows_no_answer_ends_with_eos() -> None:
    tokenizer = STYLES["gemma"].tokenizer("{{ bos_token }}{{ messages[0].content }}\n")
    assert Chat(tokenizer).end_id == tokenizer.eos_token_id


def test_a_doubled_bos_is_refused() -> None:
    style = STYLES["llama3"]
    with pytest.raises(ValueError, match=r"model\.chat_template: .*<\|begin_of_text\|> twice"):
        Chat(style.tokenizer("{{ bos_token }}" + style.template))


@every_style
def test_the_end_is_looked_for_in_the_completion_alone(style: Style) -> None:
    # [trl#6802, #6805: prompts that hold end tokens; OpenRLHF#238: a forced end]
    chat = CHATS[style.name]
    model = tiny_llama()
    model.resize_token_embeddings(len(chat.tokenizer))
    prompt = chat.prompt_ids(CONVERSATION)
    engine = TransformersEngine([(model, 1.0)], SamplingConfig(max_new_tokens=3, precision="float32"), chat.end_ids())
    for response in engine.sample([Request(prompt, seed) for seed in range(4)]):
        ended = response.token_ids[-1] in chat.end_ids()
        assert response.finish_reason == ("stop" if ended else "length")
        assert ended or len(response.token_ids) == 3


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_the_end_token_is_trained_although_it_is_the_padding(layout: Any) -> None:
    # [unsloth#416, DeepSeek-Coder#163, trl#1623: masking padding masks the end]
    chat = CHATS["zephyr"]
    assert chat.tokenizer.pad_token_id == chat.tokenizer.eos_token_id
    model = tiny_llama()
    model.resize_token_embeddings(len(chat.tokenizer))
    model.config.pad_token_id = chat.end_id
    scorer = PolicyScorer(model, layout)
    prompt, answer = chat.prompt_ids(CONVERSATION), chat.response_ids(ANSWER)
    pack = scorer.pack([Rollout(prompt, [answer, answer[-1:]]), Rollout(prompt[:3], [answer[:4]])])
    assert pack.target_N.tolist() == [*answer, answer[-1], *answer[:4]]
    logps_N = scorer.token_logps(pack)
    model.set_attn_implementation("eager")
    logits = model(torch.tensor([[*prompt, *answer]])).logits[0, -2].log_softmax(-1)
    torch.testing.assert_close(logps_N[len(answer) - 1], logits[chat.end_id], rtol=1e-4, atol=1e-4)
