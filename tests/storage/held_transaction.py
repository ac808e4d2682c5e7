"""A write transaction that stands still before its COMMIT, while others go on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

from gigq.storage.sqlite import SqliteStorage

T = TypeVar("T")

STEP_SECONDS = 10.0  # longer than any pause between two threads; only a hang reaches it


class Killed(BaseException):
    """The process died inside a transaction."""


class HeldTransaction:
    """A storage's next write, stopped between its last statement and COMMIT, in a thread of its own."""

    def __init__(self, storage: SqliteStorage, act: Callable[[], Any]) -> None:
        self._storage = storage
        self._reached = threading.Event()
        self._go = threading.Event()
        self._killed = False
        self.result: Any = None
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(act,), daemon=True)
        self._thread.start()
        assert self._reached.wait(STEP_SECONDS)

    def _run(self, act: Callable[[], Any]) -> None:
        database = self._storage._database
        write = database.write

        def held_write(work: Callable[[Any], T]) -> T:
            def held(connection: Any) -> T:
                result = work(connection)
                self._reached.set()
                assert self._go.wait(STEP_SECONDS)
                if self._killed:
                    raise Killed
                return result

            return write(held)

        database.write = held_write  # type: ignore[method-assign]
        try:
            self.result = act()
        except BaseException as error:
            self.error = error
        finally:
            del database.write  # type: ignore[method-assign]
            self._reached.set()

    def end(self, *, killed: bool) -> None:
        self._killed = killed
        self._go.set()
        self._thread.join(STEP_SECONDS)
        assert not self._thread.is_alive()
        self._storage.close()  # the thread's connection
