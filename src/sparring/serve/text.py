"""A model's text as safe HTML: it is hostile input, and two answers must look as alike as their texts are.

Markdown goes through markdown-it-py without HTML, links and images, whose source stays to be read, and what comes out
through nh3, which lets a few elements pass and no attribute but a list's first number. Marks that turn the direction of
text, and control characters, are shown as signs. Leaves out: text that needs no Markdown, which the templates escape.

    as_html("**Yes** <script>")  ->  Markup("<p><strong>Yes</strong> &lt;script&gt;</p>")
"""

from __future__ import annotations

from functools import cache, lru_cache

import nh3
from markdown_it import MarkdownIt
from markupsafe import Markup

from sparring.runtime.terminal import visible

MOST_MARKDOWN, MOST_SHOWN = 20_000, 200_000
"""characters: longer texts are shown as they are, for a parser may take very long; and still longer ones are cut"""
TAGS = {
    *("p", "br", "hr", "em", "strong", "s", "code", "pre", "blockquote", "ul", "ol", "li"),
    *("h4", "h5", "h6", "table", "thead", "tbody", "tr", "th", "td"),
}
RENDERED = 256
"""texts whose HTML is kept"""
HEADING_SHIFT = 3
"""an answer's # is a page's h4"""


def plain(text: str) -> str:
    """The text with a sign for each character that would be obeyed instead of shown, cut where it is endless."""
    shown = visible(text.replace("\r\n", "\n"))
    if len(shown) <= MOST_SHOWN:
        return shown
    return f"{shown[:MOST_SHOWN]}\n[... {len(shown) - MOST_SHOWN:,} more characters are not shown]"


def as_html(text: str) -> Markup:
    """The text as HTML in which nothing runs, loads or links."""
    shown = plain(text)
    if len(shown) > MOST_MARKDOWN:
        return Markup("<pre>{}</pre>").format(shown)
    return _rendered(shown)


@lru_cache(maxsize=RENDERED)
def _rendered(shown: str) -> Markup:
    """Markdown is most of a page's work, and a conversation shows its answers again and again."""
    return Markup(nh3.clean(_parser().render(shown), tags=TAGS, attributes={"ol": {"start"}}, link_rel=None))


@cache
def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False, "breaks": True}).enable(["table", "strikethrough"])
    parser.disable(["link", "image", "autolink", "reference"])

    def shifted(self: object, tokens: list, index: int, options: object, env: object) -> str:
        level = min(6, int(tokens[index].tag[1:]) + HEADING_SHIFT)
        return f"<h{level}>" if tokens[index].nesting > 0 else f"</h{level}>\n"

    parser.add_render_rule("heading_open", shifted)
    parser.add_render_rule("heading_close", shifted)
    return parser
