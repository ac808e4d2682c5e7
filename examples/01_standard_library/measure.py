"""What can be said about one source file by looking at its syntax tree. Nothing here knows about gigq."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_BRANCHES = (
    ast.If,
    ast.IfExp,
    ast.For,
    ast.AsyncFor,
    ast.While,
    ast.ExceptHandler,
    ast.comprehension,
    ast.match_case,
)


@dataclass(frozen=True, slots=True)
class Measures:
    """One module, in numbers.

    Attributes:
        complexity: the sum over its functions of 1 + the number of branches, and the branches outside of functions.
        hardest: the name of its most complex function, empty if it has none.
        hardest_complexity: the complexity of that function.
        imports: dotted names; `from a import b` is `a.b`, whether `b` is a module or not.
        problem: why it is not valid Python; all numbers but `lines` are then 0.
    """

    module: str
    lines: int
    functions: int = 0
    classes: int = 0
    complexity: int = 0
    hardest: str = ""
    hardest_complexity: int = 0
    imports: tuple[str, ...] = ()
    problem: str = ""


def measure_file(module: str, path: str) -> Measures:
    """Parse one file and measure it. A file that is not valid Python is a result too, not an error."""
    source = Path(path).read_bytes()
    lines = len(source.splitlines())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old escapes in old files
            tree = ast.parse(source, filename=path)
    except (SyntaxError, ValueError) as error:
        return Measures(module, lines, problem=f"{type(error).__name__}: {getattr(error, 'msg', error)}")
    functions = {name: 1 + _branches(node) for name, node in _named_functions(tree)}
    hardest = max(functions, key=lambda name: (functions[name], name), default="")
    return Measures(
        module,
        lines,
        functions=sum(isinstance(node, _FUNCTIONS) for node in ast.walk(tree)),
        classes=sum(isinstance(node, ast.ClassDef) for node in ast.walk(tree)),
        complexity=_branches(tree) + sum(functions.values()),
        hardest=hardest,
        hardest_complexity=functions.get(hardest, 0),
        imports=tuple(sorted(_imports(tree, module, is_package=Path(path).name == "__init__.py"))),
    )


def _branches(node: ast.AST) -> int:
    """Count the places where the code of `node` can go one way or another; functions inside count for themselves."""
    total = 0
    for child in ast.iter_child_nodes(node):
        if isinstance(child, _FUNCTIONS):
            continue
        if isinstance(child, ast.BoolOp):
            total += len(child.values) - 1
        total += isinstance(child, _BRANCHES) + _branches(child)
    return total


def _named_functions(node: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.AST]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (*_FUNCTIONS, ast.ClassDef)):
            name = f"{prefix}{child.name}"
            if not isinstance(child, ast.ClassDef):
                # A name may be defined twice, under an `if`: the line tells the two apart.
                yield f"{name}:{child.lineno}", child
            yield from _named_functions(child, f"{name}.")
        else:
            yield from _named_functions(child, prefix)


def _imports(tree: ast.AST, module: str, *, is_package: bool) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = module.split(".")
            kept = len(parts) - node.level + is_package  # each dot goes one package up
            base = [*parts[:kept], *([node.module] if node.module else [])] if node.level else [node.module or ""]
            names.update(".".join([*base, alias.name]).removesuffix(".*") for alias in node.names)
    return names
