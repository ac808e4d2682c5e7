"""Run the code that the README and the documentation show.

A page becomes one program, which runs in a process and an empty folder of its own. Its blocks take part in page order:

- A `python` block is executed. All of them share one namespace, that of `__main__`.
- `<!-- file: myapp.py -->` above a block, of any language, has it written to that file instead. A later block with
  the same name replaces the file. Later blocks can import it.
- `<!-- run -->` above a `console` block has each line that begins with `$ ` run by bash, each in a shell of its own;
  it must exit with 0. A backslash at the end of the line goes on with the next one. `python` and `gigq` are those of
  the environment that runs the tests.
- `<!-- skip: why -->` above a block leaves it alone. The reason must be given.
- Every other block is only shown.

Between such a comment and its block there may be blank lines and nothing else. The program keeps the page's line
numbers, so a traceback points into the page.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from textwrap import dedent

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGE_TIMEOUT = 60.0  # seconds; below pytest's own, so that the page's output is reported

FENCE = re.compile(r"(?P<indent> *)(?P<fence>`{3,}|~{3,})\s*(?P<language>[\w-]*)")
DIRECTIVE = re.compile(r"\s*<!--\s*(?P<name>file|run|skip)\b:?\s*(?P<argument>.*?)\s*-->\s*")

# What a program calls for its file and console blocks. A module of its own leaves the page's namespace to the page.
TOOLS = "_page_tools"
TOOLS_SOURCE = """\
import pathlib
import subprocess


def write(name, text):
    path = pathlib.Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def run(command):
    subprocess.run(["bash", "-c", command], check=True)
"""


class PageError(ValueError):
    """A page does not keep to the convention above."""


@dataclass(frozen=True, slots=True)
class Block:
    line: int  # of the opening fence, from 1
    language: str
    directive: str  # "file", "run", "skip" or ""
    argument: str
    lines: list[str]


def blocks(page: str) -> Iterator[Block]:
    lines = page.splitlines()
    name, argument = "", ""
    at = 0
    while at < len(lines):
        line, opening = lines[at], at + 1
        at += 1
        if directive := DIRECTIVE.fullmatch(line):
            if name:
                raise PageError(f"line {opening}: the comment `{name}` above has no block")
            name, argument = directive["name"], directive["argument"]
            if (name == "run") == bool(argument):
                raise PageError(f"line {opening}: expected `file: name`, `skip: reason` or `run`, got {line.strip()!r}")
        elif fence := FENCE.match(line):
            end = re.compile(rf" *{fence['fence']}{fence['fence'][0]}*\s*")
            indent = len(fence["indent"])
            body: list[str] = []
            while at < len(lines) and not end.fullmatch(lines[at]):
                body.append(lines[at][indent:] if lines[at][:indent].isspace() else lines[at])
                at += 1
            if at == len(lines):
                raise PageError(f"line {opening}: the block is not closed")
            at += 1
            yield Block(opening, fence["language"], name, argument, body)
            name, argument = "", ""
        elif name and line.strip():
            raise PageError(f"line {opening}: expected the block of the comment `{name}`, got {line.strip()!r}")
    if name:
        raise PageError(f"the last comment, `{name}`, has no block")


def program(page: str) -> str:
    """Return the page as a program with the page's line numbers, empty if nothing is to be run."""
    lines = [""] * (len(page.splitlines()) + 1)  # lines[0] stays unused
    for block in blocks(page):
        if block.directive == "file":
            path = PurePosixPath(block.argument)
            if path.is_absolute() or ".." in path.parts:
                raise PageError(f"line {block.line}: expected a path inside the page's folder, got {block.argument!r}")
            text = "".join(f"{line}\n" for line in block.lines)
            lines[block.line] = f"__import__('{TOOLS}').write({block.argument!r}, {text!r})"
        elif block.directive == "run":
            if block.language != "console":
                raise PageError(f"line {block.line}: only a console block can be run, got {block.language!r}")
            for at, command in commands(block):
                lines[at] = f"__import__('{TOOLS}').run({command!r})"
        elif block.directive != "skip" and block.language in {"python", "py", "python3"}:
            if block.language != "python":
                raise PageError(f"line {block.line}: the language's name is python, got {block.language!r}")
            lines[block.line + 1 : block.line + 1 + len(block.lines)] = block.lines
    return "\n".join(lines[1:]) if any(lines) else ""


def commands(block: Block) -> Iterator[tuple[int, str]]:
    """Yield the line number and the text of each command of a console block."""
    numbered = enumerate(block.lines, block.line + 1)
    found = False
    for at, line in numbered:
        if line.startswith("$ "):
            command = line[2:]
            while command.endswith("\\"):
                command = command[:-1] + next(numbered, (0, ""))[1]
            found = True
            yield at, command
    if not found:
        raise PageError(f"line {block.line}: expected a line that begins with '$ '")


def write_program(code: str, folder: Path) -> Path:
    (folder / f"{TOOLS}.py").write_text(TOOLS_SOURCE, encoding="utf-8")
    script = folder / "_page.py"
    script.write_text(code, encoding="utf-8")
    return script


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_code_of_the_page_runs(page: Path, tmp_path: Path) -> None:
    code = program(page.read_text(encoding="utf-8"))
    if not code:
        return
    script = write_program(code, tmp_path)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIGQ_")}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', '')}"
    # A file that is replaced within a second by one of the same size would run from the old bytecode.
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    with subprocess.Popen(
        [sys.executable, script.name],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=PAGE_TIMEOUT)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
            pytest.fail(f"{page} took longer than {PAGE_TIMEOUT} s:\n{output}", pytrace=False)
    if process.returncode:
        pytest.fail(f"{page} exits with {process.returncode}:\n{output}", pytrace=False)


SAMPLE = """\
# A page

<!-- file: app/mine.py -->
```python
answer = 42
```

```python title="the call"
from app.mine import answer
```

1. Inside a list:

    <!-- run -->

    ```console
    $ echo one \\
        two
    one two
    $ true
    ```

<!-- skip: needs a printer -->
```python
print_on_paper()
```

```console
$ exit 1
```

````markdown
```python
shown()
```
````

```python
assert answer == 42
```
"""


def test_blocks_are_found_with_their_comments() -> None:
    found = [(block.line, block.language, block.directive, block.argument) for block in blocks(SAMPLE)]
    assert found == [
        (4, "python", "file", "app/mine.py"),
        (8, "python", "", ""),
        (16, "console", "run", ""),
        (24, "python", "skip", "needs a printer"),
        (28, "console", "", ""),
        (32, "markdown", "", ""),
        (38, "python", "", ""),
    ]


def test_program_keeps_the_line_numbers_of_the_page() -> None:
    code = dict(enumerate(program(SAMPLE).splitlines(), 1))
    assert [line for line in code if code[line]] == [4, 9, 17, 20, 39]
    assert code[9] == "from app.mine import answer"
    assert "'echo one     two'" in code[17]


def test_program_runs_in_page_order(tmp_path: Path) -> None:
    script = write_program(program(SAMPLE), tmp_path)
    result = subprocess.run([sys.executable, script.name], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert result.stdout == "one two\n"
    assert (tmp_path / "app" / "mine.py").read_text() == "answer = 42\n"


def test_page_without_code_is_an_empty_program() -> None:
    assert program("# Words\n\n```console\n$ ls\n```\n") == ""


@pytest.mark.parametrize(
    "page",
    [
        "<!-- skip -->\n```python\n```\n",
        "<!-- skip: -->\n```python\n```\n",
        "<!-- run: now -->\n```console\n$ true\n```\n",
        "<!-- run -->\n```console\ntrue\n```\n",
        "<!-- run -->\n```python\n```\n",
        "<!-- run -->\n\nWords.\n",
        "<!-- run -->\n",
        "<!-- file: ../out.py -->\n```python\n```\n",
        "```py\n```\n",
        "```python\n",
    ],
)
def test_page_that_breaks_the_convention_is_an_error(page: str) -> None:
    with pytest.raises(PageError):
        program(dedent(page))
