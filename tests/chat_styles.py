"""Tokenizers and templates in the styles of well-known chat models, and one that is hostile.

Written here over vocabularies of a few hundred entries; `spoken` is what the style makes of `CONVERSATION`, spelt
out by hand. Both tokenizer families merge over the border of prompt and answer (" H", two line breaks).
"""

from __future__ import annotations

from typing import NamedTuple

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

CONVERSATION = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hm."},
    {"role": "user", "content": "Why?"},
]
ANSWER = "Hi, so."


class Style(NamedTuple):
    """One way of talking: the template, its special tokens, and what is expected of them."""

    name: str
    template: str
    family: str
    bos: str | None
    eos: str
    end: str
    special: tuple[str, ...]
    spoken: str
    system: str = "kept"
    """what the template does with a system message: kept, refused, ignored"""

    def tokenizer(self, template: str | None = None) -> PreTrainedTokenizerFast:
        """A fresh tokenizer of this style; it adds a BOS by itself where a real one does."""
        make = {"bytes": byte_level, "metaspace": metaspace}[self.family]
        return _finished(make(), self, template or self.template)


def byte_level() -> Tokenizer:
    """Bytes, and merges of "Hi" and " Hi" and of two line breaks."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("H", "i"), ("Ġ", "Hi"), ("Ċ", "Ċ")]
    vocabulary = {token: i for i, token in enumerate([*alphabet, *("".join(pair) for pair in merges)])}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def metaspace() -> Tokenizer:
    """As SentencePiece does: a space is a mark, one is put before a text's first word, rare characters are bytes."""
    letters = [chr(i) for i in range(33, 127)] + ["▁"]
    merges = [("H", "i"), ("▁", "H"), ("▁", "Hi")]
    tokens = [f"<0x{i:02X}>" for i in range(256)] + letters + ["".join(pair) for pair in merges]
    tokenizer = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, merges, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return tokenizer


def _finished(tokenizer: Tokenizer, style: Style, template: str) -> PreTrainedTokenizerFast:
    special = list(dict.fromkeys([*filter(None, [style.bos]), style.eos, *style.special]))
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    if style.bos is not None:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{style.bos} $A", special_tokens=[(style.bos, tokenizer.token_to_id(style.bos))]
        )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=style.bos,
        eos_token=style.eos,
        pad_token=style.eos,
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = template
    return fast


LLAMA3 = Style(
    "llama3",
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
    "{{ m.content | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}",
    family="bytes",
    bos="<|begin_of_text|>",
    eos="<|end_of_text|>",
    end="<|eot_id|>",
    special=("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    spoken="<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\nHm.<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nWhy?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
)
_CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CHATML = Style(
    "chatml",
    _CHATML,
    family="bytes",
    bos=None,
    eos="<|im_end|>",
    end="<|im_end|>",
    special=("<|im_start|>",),
    spoken="<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHm.<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n"
    "<|im_start|>assistant\n",
)
QWEN = Style(
    "qwen",
    "{% if messages[0].role != 'system' %}<|im_start|>system\nYou are helpful.<|im_end|>\n{% endif %}" + _CHATML,
    family="bytes",
    bos=None,
    eos="<|endoftext|>",
    end="<|im_end|>",
    special=("<|im_start|>", "<|im_end|>"),
    spoken="<|im_start|>system\nYou are helpful.<|im_end|>\n" + CHATML.spoken,
)
ZEPHYR = Style(
    "zephyr",
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content + eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}",
    family="metaspace",
    bos="<s>",
    eos="</s>",
    end="</s>",
    special=(),
    spoken="<|user|>\nHi</s>\n<|assistant|>\nHm.</s>\n<|user|>\nWhy?</s>\n<|assistant|>\n",
)
GEMMA = Style(
    "gemma",
    "{{ bos_token }}{% for m in messages %}"
    "{% if m.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}<end_of_turn>\n"
    "{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}",
    family="metaspace",
    bos="<bos>",
    eos="<eos>",
    end="<end_of_turn>",
    special=("<start_of_turn>", "<end_of_turn>"),
    spoken="<bos><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\nHm.<end_of_turn>\n"
    "<start_of_turn>user\nWhy?<end_of_turn>\n<start_of_turn>model\n",
    system="refused",
)
MISTRAL = Style(
    "mistral",
    "{{ bos_token }}{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate, user first') }}{% endif %}"
    "{% if m.role == 'user' %}[INST] {{ m.content }} [/INST] {% else %}{{ m.content + eos_token }}{% endif %}"
    "{% endfor %}",
    family="metaspace",
    bos="<s>",
    eos="</s>",
    end="</s>",
    special=(),
    spoken="<s>[INST] Hi [/INST] Hm.</s>[INST] Why? [/INST] ",
    system="refused",
)
DEEPSEEK = Style(
    "deepseek-r1",
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}"
    "{% elif m.role == 'user' %}<｜User｜>{{ m.content }}"
    "{% else %}<｜Assistant｜>{{ m.content.split('</think>')[-1] }}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<｜Assistant｜><think>\n{% endif %}",
    family="bytes",
    bos="<｜begin▁of▁sentence｜>",
    eos="<｜end▁of▁sentence｜>",
    end="<｜end▁of▁sentence｜>",
    special=("<｜User｜>", "<｜Assistant｜>"),
    spoken="<｜begin▁of▁sentence｜><｜User｜>Hi<｜Assistant｜>Hm.<｜end▁of▁sentence｜><｜User｜>Why?"
    "<｜Assistant｜><think>\n",
)
HOSTILE = Style(
    "hostile",
    # Counts the turns at the top, so no conversation is a prefix of a longer one; loses system messages; marks
    # answers unlike the generation prompt; adds its end token after the line break; fails on one word.
    "{{ bos_token }}{{ messages | selectattr('role', 'ne', 'system') | list | length }} turns\n"
    "{% for m in messages if m.role != 'system' %}"
    "{% if m.content == 'boom' %}{{ m.content + 1 }}{% endif %}"
    "{% if m.role == 'assistant' %}A({{ loop.index }}): {{ m.content | trim }}\n<|over|>{% else %}"
    "U: {{ m.content }}\n{% endif %}{% endfor %}{% if add_generation_prompt %}A:  {% endif %}",
    family="metaspace",
    bos="<s>",
    eos="</s>",
    end="<|over|>",
    special=("<|over|>",),
    spoken="<s>3 turns\nU: Hi\nA(2): Hm.\n<|over|>U: Why?\nA:  ",
    system="ignored",
)

STYLES = {s.name: s for s in (LLAMA3, CHATML, QWEN, ZEPHYR, GEMMA, MISTRAL, DEEPSEEK, HOSTILE)}
