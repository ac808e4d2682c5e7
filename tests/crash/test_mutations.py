"""The tests are tested: each mutation takes one guard out of a copy of gigq, and some test must notice.

A mutation is a few lines here: a file, a text that must stand in it exactly once, what replaces it, and the tests that
must fail. The same tests pass with an unchanged copy.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final, NamedTuple

import pytest
from strace import STRACE

import gigq

pytestmark = pytest.mark.slow  # each runs pytest

ROOT: Final = Path(__file__).parents[2]
CONFORMANCE: Final = "tests/storage/test_sqlite_conformance.py"
LEASES: Final = (CONFORMANCE, "-k", "lease or fenced or another_worker")
WORKERS: Final = (CONFORMANCE, "-k", "dead or worker")
STATEMENTS: Final = "tests/crash/test_statements.py"
KILL_POINTS: Final = "tests/crash/test_kill_points.py"
SIGNED: Final = "tests/jobs/test_signing.py"  # workers of tests/faults import the gigq that is installed
RECALL: Final = "tests/worker/test_process_recall.py"
ANOTHER_TRANSACTION: Final = 'db.execute("COMMIT"); db.execute("BEGIN IMMEDIATE"); '


class Mutation(NamedTuple):
    """What is wrong with the copy, and who must notice."""

    file: str  # below gigq/
    text: str
    becomes: str
    tests: tuple[str, ...]  # arguments of pytest


MUTATIONS: Final = {
    "completing does not look at the lease's claims": Mutation(
        "storage/sqlite/finish.py",
        "json_each(?)) AND claims = ? AND worker",
        "json_each(?)) AND ? IS NOT NULL AND worker",
        LEASES,
    ),
    "losing, failing and rescuing do not look at the lease's claims": Mutation(
        "storage/sqlite/finish.py",
        "seq = :seq AND claims = :claims AND",
        "seq = :seq AND :claims IS NOT NULL AND",
        LEASES,
    ),
    "giving back does not look at the lease's claims": Mutation(
        "storage/sqlite/finish.py",
        '"seq = ? AND claims = ? AND worker',
        '"seq = ? AND ? IS NOT NULL AND worker',
        LEASES,
    ),
    "dependants are released in another transaction": Mutation(
        "storage/sqlite/finish.py",
        "    settle(db, ended, now)\n    recount(",
        f"    {ANOTHER_TRANSACTION}settle(db, ended, now)\n    recount(",
        (STATEMENTS, "-k", "finish or rescue"),
    ),
    "dependants are released before their parent's end is committed": Mutation(
        "storage/sqlite/finish.py",
        "    recorded, fenced = _complete(",
        f"    settle(db, [(o.seq, JobState.COMPLETED) for o in outcomes], now); {ANOTHER_TRANSACTION}\n"
        "    recorded, fenced = _complete(",
        (STATEMENTS, "-k", "finish or rescue"),
    ),
    "an execution is recorded in another transaction than the outcome": Mutation(
        "storage/sqlite/finish.py",
        "    _record(db, worker, recorded)\n",
        f"    {ANOTHER_TRANSACTION}_record(db, worker, recorded)\n",
        (STATEMENTS, "-k", "finish or rescue"),
    ),
    "a rescue does not count the attempt": Mutation(
        "storage/sqlite/finish.py",
        "End.LOST, claimed_at, now",
        "End.RELEASED, None, now",
        WORKERS,
    ),
    # The process dies between the acknowledgement and the commit, each time.
    "a call is acknowledged before its commit": Mutation(
        "storage/sqlite/connection.py",
        '                connection.execute("COMMIT")\n                return result\n',
        '                connection.execute("ROLLBACK")\n                return result\n',
        (STATEMENTS, "-k", "submit or finish"),
    ),
    "a commit is acknowledged before it is synced": Mutation(
        "storage/sqlite/journal.py",
        '("wal", "power"): "FULL"',
        '("wal", "power"): "NORMAL"',
        (KILL_POINTS, "-k", "follows_the_sync"),
    ),
    "what has not started is not recalled": Mutation(
        "worker/pools/forked.py",
        "        self._held += child.take_back()\n",
        "",
        (RECALL,),
    ),
    "arguments are unpickled before their signature is checked": Mutation(
        "worker/execute.py",
        """            if self.signer is not None:
                data = self.signer.check_arguments(data, job)
            arguments = loads(data, self.read_result)
""",
        """            arguments = loads(data[data.find(b"\\x80\\x05") :], self.read_result)
            if self.signer is not None:
                self.signer.check_arguments(data, job)
""",
        (SIGNED,),
    ),
    "a signature is not compared": Mutation(
        "signing.py",
        "        if not self._same(",
        "        if False and not self._same(",
        (SIGNED,),
    ),
    "a worker that is not registered may claim": Mutation(
        "storage/sqlite/claim.py",
        "_is_live(db, request.worker) and ",
        "",
        WORKERS,
    ),
}


def _run(folder: Path, tests: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    """Run tests against the copy of gigq in `folder`; the first failure ends them."""
    environment = os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    # -P: not the current folder, which has a gigq too. No cache: the real run's list of failures is none of ours.
    command = [sys.executable, "-P", "-m", "pytest", "-qx", "-p", "no:cacheprovider", "--basetemp", str(folder / "tmp")]
    return subprocess.run(
        [*command, *tests], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=100, check=False
    )


def _copy(folder: Path) -> Path:
    ignored = shutil.ignore_patterns("__pycache__")
    return Path(shutil.copytree(Path(gigq.__file__).parent, folder / "gigq", ignore=ignored))


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mutation_is_noticed(tmp_path: Path, name: str) -> None:
    mutation = MUTATIONS[name]
    if STRACE is None and mutation.tests[0] == KILL_POINTS:
        pytest.skip("strace is not installed, and only its log shows the sync")
    path = _copy(tmp_path) / mutation.file
    source = path.read_text()
    assert source.count(mutation.text) == 1, f"{mutation.file} has changed: say anew how to break it"
    path.write_text(source.replace(mutation.text, mutation.becomes))
    compile(path.read_text(), str(path), "exec")  # what does not even run is noticed by anybody
    done = _run(tmp_path, mutation.tests)
    assert done.returncode == 1, done.stdout + done.stderr  # 1: a test failed; others mean that they could not run
    # A copy that is broken in a way that nobody meant would be noticed by any test.
    assert not re.search("NameError|TypeError|AttributeError|ProgrammingError", done.stdout), done.stdout


@pytest.mark.parametrize("tests", sorted({mutation.tests for mutation in MUTATIONS.values()}), ids=" ".join)
def test_what_notices_mutations_passes_without(tmp_path: Path, tests: tuple[str, ...]) -> None:
    _copy(tmp_path)
    done = _run(tmp_path, tests)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_copy_is_what_those_tests_import(tmp_path: Path) -> None:
    copy = _copy(tmp_path)
    (copy / "__init__.py").write_text("raise RuntimeError('the copy')")
    assert "RuntimeError: the copy" in _run(tmp_path, LEASES).stdout
