"""YAML as plain data, bounded: aliases may be used, and a few hundred bytes cannot stand for billions of values.

Leaves out: what the values mean, and tags (`!!python/...` is refused by the loader).

    load_yaml("a: &a [1, 2]; b: *a")  # {"a": [1, 2], "b": [1, 2]}
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

LARGEST_TEXT = 2**20
"""characters: a recipe has a few thousand"""
MOST_VALUES = 100_000
"""keys and values, each alias counted as what it stands for"""
DEEPEST = 100
"""lists and sections inside each other"""


class _Bounded(yaml.SafeLoader):
    """YAML in which a key given twice is an error (plain YAML lets the last one win in silence), and with bounds."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.depth += 1
        if self.depth > DEEPEST:
            raise _wrong(f"it is more than {DEEPEST} levels deep", self.peek_event())
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1

    def compose_document(self) -> Any:
        document = super().compose_document()
        size = _size(document, {})
        if size > MOST_VALUES:
            raise _wrong(f"it stands for {size:,} values by its aliases (*name); at most {MOST_VALUES:,}", document)
        return document

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for name, _ in node.value:
            if name.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(name, deep=True)
            try:
                twice = key in seen
            except TypeError:  # a list or a section: refused by the loader itself
                continue
            if twice:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is given twice", node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def _size(node: Any, known: dict[int, int]) -> int:
    """Values that a node stands for. Raises a YAML error where it holds itself."""
    if id(node) in known:
        if known[id(node)] == 0:
            raise _wrong("an alias (*name) inside what it stands for", node)
        return known[id(node)]
    known[id(node)] = 0
    parts: list[Any] = node.value if isinstance(node, yaml.SequenceNode) else []
    if isinstance(node, yaml.MappingNode):
        parts = [part for pair in node.value for part in pair]
    known[id(node)] = 1 + sum(_size(part, known) for part in parts)
    return known[id(node)]


def _wrong(what: str, where: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=what, problem_mark=where.start_mark)


def load_yaml(text: str) -> Any:
    """The plain data of a text.

    Raises:
        ValueError: it is not YAML, a key is given twice, or it is too large, too deep or stands for too much.
    """
    if len(text) > LARGEST_TEXT:
        raise ValueError(f"{len(text):,} characters; at most {LARGEST_TEXT:,} are read")
    try:
        return yaml.load(text, _Bounded)
    except yaml.MarkedYAMLError as error:
        what = ", ".join(filter(None, (error.context, error.problem)))
        mark = error.problem_mark or error.context_mark
        raise ValueError(f"{what} (line {mark.line + 1}, column {mark.column + 1})" if mark else what) from error
    except (yaml.YAMLError, OverflowError, RecursionError) as error:  # ValueError: an impossible date or number
        raise ValueError(str(error)) from error


def load_value(text: str) -> Any:
    """As `load_yaml`, for one value that a person gave: YAML 1.1 reads 1e-5 as text, and people mean the number."""
    return as_number(load_yaml(text))


def as_number(value: Any) -> Any:
    """The number of a text that is one; every other value as it is."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def read_yaml(path: Path, what: str) -> Any:
    """The plain data of a YAML file. Raises ValueError where there is none, naming `what` it should be."""
    if not path.is_file():
        raise ValueError(f"{what}: {str(path)!r} does not exist.")
    try:
        return load_yaml(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{what}: {str(path)!r} is not readable YAML: {error}") from error


def yaml_text(value: Any) -> str:
    """A value as one line of YAML, quoted where it must be."""
    return yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=1e9).removesuffix("...\n").strip()
