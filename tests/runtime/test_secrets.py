"""Secrets in every spelling, and texts that hold none."""

from __future__ import annotations

import base64
import html
import json
import time
from urllib.parse import quote, quote_plus

import pytest

from sparring.runtime.secrets import hide

KEY = 'sk-"quo\\te"d 12345/678+&<>\'x'
PLAIN = "sk-plain-1234567890"
SPELLINGS = {
    "itself": str,
    "JSON": json.dumps,
    "JSON in JSON": lambda key: json.dumps(json.dumps(key)),
    "JSON three times": lambda key: json.dumps(json.dumps(json.dumps(key))),
    "every character as \\u": lambda key: "".join(f"\\u{ord(c):04X}" for c in key),
    "URL": lambda key: quote(key, safe=""),
    "URL, path": quote,
    "URL, form": quote_plus,
    "URL, lower case": lambda key: "".join(f"%{ord(c):02x}" for c in key),
    "URL twice": lambda key: quote(quote(key, safe=""), safe=""),
    "JSON in a URL": lambda key: quote(json.dumps(key), safe=""),
    "HTML": html.escape,
    "HTML twice": lambda key: html.escape(html.escape(key)),
    "HTML numbers": lambda key: "".join(f"&#{ord(c)};" for c in key),
    "HTML hexadecimal": lambda key: "".join(f"&#x{ord(c):X};" for c in key),
    "JSON in HTML": lambda key: html.escape(json.dumps(key)),
    "Python": repr,
    "base64": lambda key: base64.b64encode(key.encode()).decode(),
    "base64 of a header": lambda key: base64.b64encode(f"Bearer {key}".encode()).decode(),
    "base64 of user and key": lambda key: base64.urlsafe_b64encode(f"me:{key}".encode()).decode(),
    "base64 in a URL": lambda key: quote(base64.b64encode(key.encode()).decode(), safe=""),
    "hexadecimal": lambda key: key.encode().hex(),
    "HEXADECIMAL": lambda key: key.encode().hex().upper(),
    "spaced": " ".join,
    "a line each": "\n".join,
    "wrapped": lambda key: f"{key[:9]}\n{key[9:]}",
    "wrapped, JSON": lambda key: json.dumps(f"{key[:9]}\r\n{key[9:]}"),
    "an invisible space": lambda key: f"{key[:9]}\u200b{key[9:]}",
    "in an address": lambda key: f"https://user:{quote(key, safe='')}@host/v1",
}


@pytest.mark.parametrize("key", [KEY, PLAIN])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_no_spelling_of_a_key_is_left(spelling, key):
    text = SPELLINGS[spelling](key)
    hidden = hide({"text": [f"it is {text}, yes"], text: 1}, (key,))
    for shown in (*hidden["text"], *(part for part in hidden if part != "text")):
        assert "***" in shown
        inner = [text[at : at + 8] for at in range(len(text) // 3, len(text) - len(text) // 3 - 8)]
        assert not [piece for piece in inner if piece in shown]
        assert shown.startswith(("it is ", "*", '"', "'", "\\", "&", "%", "Q", "b", "h"))


def test_other_texts_stay_the_same():
    row = {
        "text": "The answer is sk-plain, 1234567890: %41 \\u0041 &amp;",
        "tokens": [{"token": "A", "logprob": -0.1}],
        "cut": False,
    }
    assert hide(row, (KEY, PLAIN)) == row
    assert hide("short", ("short",)) == "short"
    assert hide("anything", ()) == "anything"


def test_a_hostile_text_takes_no_longer():
    start = time.process_time()
    for text in ("\\" * 20_000, "s" * 20_000, " " * 20_000, "%5c" * 10_000, '\\"s' * 10_000):
        hide(text, (KEY, PLAIN))
    assert time.process_time() - start < 5
