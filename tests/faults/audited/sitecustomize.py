"""Write down each opening of the files whose names begin with `$GIGQ_TEST_WATCHED`, and by which way it came.

In a folder of PYTHONPATH, so that every Python that is started does it, and every process forked from one.
"""

import os
import sys

_WATCHED = os.environ["GIGQ_TEST_WATCHED"]
_LEDGER = os.open(_WATCHED + ".opened", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
# Those that SQLite locks; the log, which it does not, is read by `gigq doctor`. The ledger's name begins alike.
_NAMES = (_WATCHED, _WATCHED + "-shm")


def _note(event: str, arguments: tuple) -> None:
    if event not in ("open", "sqlite3.connect") or not isinstance(arguments[0], (str, bytes, os.PathLike)):
        return
    path = os.fsdecode(arguments[0]).removeprefix("file://").partition("?")[0]
    if os.path.abspath(path) in _NAMES:
        os.write(_LEDGER, f"{event} {os.getpid()} {' '.join(sys.orig_argv[1:])[:60]!r}\n".encode())


sys.addaudithook(_note)
