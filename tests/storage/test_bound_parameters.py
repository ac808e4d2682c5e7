"""No value ever becomes a part of a statement: what is executed is constant text, and values are bound."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import gigq
from gigq import Job, JobQueue
from gigq.storage.rows import NewJob
from gigq.testing.harness import new_job

SOURCE = Path(gigq.__file__).parent
EXECUTING = {"execute", "executemany", "executescript", "insert"}  # the last one is gigq.storage.sqlite.bulk's

# Functions that put statements together from other things than named constants, and what those are.
COMPOSED = {
    "storage/sqlite/bulk.py:insert": "question marks, as many as a row has values; the rest is checked at its callers",
    "storage/sqlite/claim.py:claim": "one constant for each lane: _statement",
    "storage/sqlite/connection.py:Database._connect": "FULL or NORMAL: _SYNCHRONOUS",
    "storage/sqlite/journal.py:set_journal": "one of two journals, and a constant for it",
    "storage/sqlite/consistency.py:inconsistencies": "the values of _RULES",
    "storage/sqlite/consistency.py:unreadable_texts": "the values of _TABLES",
    "storage/sqlite/inspection.py:_check_integrity": "one of two literals",
    "storage/sqlite/questions.py:executions": "the fields of ExecutionRow",
    "storage/sqlite/questions.py:find": "literals, and a state, which is one of six names",
    "storage/sqlite/questions.py:relatives": "parent or child, literals at its two callers",
    "storage/sqlite/schema.py:migrate": "the statements of MIGRATIONS",
    "storage/sqlite/upkeep.py:prune": "names of tables and columns, literals in the loop's head",
    "storage/sqlite/workers.py:register": "question marks, as many as WorkerRow has fields",
}


def is_constant(node: ast.expr) -> bool:
    """Return whether a statement is a literal, a named constant, or made of those."""
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str)
    if isinstance(node, ast.Name):
        return node.id.isupper()
    if isinstance(node, ast.JoinedStr):
        return all(isinstance(part, ast.Constant) or is_plain_name(part) for part in node.values)
    return False


def is_plain_name(part: ast.expr) -> bool:
    return (
        isinstance(part, ast.FormattedValue)
        and isinstance(part.value, ast.Name)
        and part.value.id.isupper()
        and part.format_spec is None
    )


def functions(tree: ast.AST, inside: str = "") -> Iterator[tuple[str, ast.AST]]:
    """Yield each outermost function with its name, and what stands outside of all."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef):
            yield from functions(node, f"{inside}{node.name}.")
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{inside}{node.name}", node


def composed(source: str) -> set[str]:
    """Return the functions in which a statement that is executed is not constant text."""
    found = set()
    for name, function in functions(ast.parse(source)):
        for call in ast.walk(function):
            if not isinstance(call, ast.Call) or not call.args:
                continue
            called = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
            if called not in EXECUTING:
                continue
            statement = call.args[1] if called == "insert" else call.args[0]
            if not is_constant(statement):
                found.add(name)
    return found


def test_statements_are_constant_text() -> None:
    found = {
        f"{path.relative_to(SOURCE).as_posix()}:{name}"
        for path in (SOURCE / "storage").rglob("*.py")
        for name in composed(path.read_text())
    }
    assert found - set(COMPOSED) == set()


@pytest.mark.parametrize(
    "statement",
    [
        "f'SELECT {name}'",
        "'SELECT %s' % name",
        "'SELECT {}'.format(name)",
        "'SELECT ' + name",
        "name",
        "f'{READY:{w}}'",
    ],
)
def test_this_test_sees_statements_with_values_in_them(statement: str) -> None:
    assert composed(f"def find(db, name):\n    return db.execute({statement})\n") == {"find"}
    assert composed("def find(db):\n    return db.execute(f'SELECT 1 WHERE {READY}', (1,))\n") == set()


EVIL = "x'; DROP TABLE jobs; --\"`)"


def test_texts_with_marks_of_sql_are_texts(tmp_path: Path) -> None:
    queue = JobQueue(tmp_path / "jobs.db")
    storage = queue.storage
    row: NewJob = new_job(EVIL, id=EVIL, task=EVIL, queue=EVIL, workflow=(EVIL, EVIL))
    storage.submit([row])
    other = queue.submit(Job(EVIL, print, dependencies=[EVIL], description=EVIL))
    assert [job.id for job in storage.find(queue=EVIL, task=EVIL, workflow=EVIL)] == [EVIL]
    assert storage.find_ids(start=EVIL[:4]) == storage.find_ids(end=EVIL[-8:]) == [EVIL]
    assert storage.find(queue=EVIL + "'") == []
    assert storage.unfinished([EVIL], [EVIL])
    assert [parent.id for parent, _ in storage.parents(other.id)] == [EVIL]
    storage.cancel(EVIL, EVIL)
    assert (storage.get(EVIL).error, other.state) == (EVIL, "CANCELLED")
    storage.retry(EVIL)
    assert sum(storage.stats().values()) == 2
    queue.close()
