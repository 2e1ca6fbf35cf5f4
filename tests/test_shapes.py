"""Every tensor in an annotation has a shape: `Float[Tensor, "B T"]`, never a bare `Tensor`."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import sparring

ROOT = Path(sparring.__file__).parent
MODULES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))
SHAPED = {"Float", "Int", "Bool", "Shaped"}
ARRAYS = {"oracles", "certificates", "endpoints", "sampling", "training", "objectives", "rounds"}
"""packages in which numpy arrays are checked too; elsewhere they hold statistics, whose docstrings name the axes"""


def annotations(tree: ast.AST) -> Iterator[ast.expr]:
    """Those of arguments, results, fields and variables, and the right-hand sides of type aliases."""
    for node in ast.walk(tree):
        if isinstance(node, ast.arg | ast.AnnAssign) and node.annotation is not None:
            yield node.annotation
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.returns is not None:
            yield node.returns
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Subscript | ast.BinOp):
            yield from _aliases(node.value)


def _aliases(value: ast.expr) -> Iterator[ast.expr]:
    """The value of an assignment where it reads as a type (`Callable[[Tensor], Tensor]`), and no indexing."""
    named = {node.id for node in ast.walk(value) if isinstance(node, ast.Name)}
    if named & {"Callable", "Mapping", "dict", "list", "tuple"}:
        yield value


def bare(annotation: ast.expr, arrays: bool) -> Iterator[str]:
    """Names of array types in an annotation that stand outside a shape."""
    if (
        isinstance(annotation, ast.Subscript)
        and isinstance(annotation.value, ast.Name)
        and annotation.value.id in SHAPED
    ):
        return
    written = ast.unparse(annotation)
    if written in ("Tensor", "torch.Tensor") or (arrays and written == "np.ndarray"):
        yield f"line {annotation.lineno}: {written}"
    for child in ast.iter_child_nodes(annotation):
        if isinstance(child, ast.expr):
            yield from bare(child, arrays)


def unshaped(source: str, arrays: bool = True) -> list[str]:
    return [found for annotation in annotations(ast.parse(source)) for found in bare(annotation, arrays)]


def test_every_tensor_in_an_annotation_has_a_shape():
    faults = {}
    for module in MODULES:
        faults[module] = unshaped((ROOT / module).read_text(encoding="utf-8"), module.split("/")[0] in ARRAYS)
    assert {module: lines for module, lines in faults.items() if lines} == {}


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("def f(x: Tensor) -> torch.Tensor: ...", 2),
        ("class C:\n    x: dict[str, Tensor] | None", 1),
        ("Ask = Callable[[Tensor], np.ndarray]", 2),
        ('def f(x: Float[Tensor, "B T"]) -> list[Int[np.ndarray, " N"]]: ...', 0),
        ("x = isinstance(y, Tensor)\nPLAIN = (Tensor, Parameter)", 0),
    ],
)
def test_the_count_sees_a_bare_tensor(source, count):
    assert len(unshaped(source)) == count
