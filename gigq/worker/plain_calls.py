"""Threads for plain functions, beside an event loop."""

from __future__ import annotations

import asyncio
import ctypes
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Generic, TypeVar

from gigq.worker.execute import Overdue

T = TypeVar("T")

_set_exception: Final = ctypes.pythonapi.PyThreadState_SetAsyncExc


class PlainCall(Generic[T]):
    """A call that runs in a thread. When `done` is done, `error` or `result` is what came of it."""

    def __init__(self, function: Callable[[], T], loop: asyncio.AbstractEventLoop) -> None:
        self.function = function
        self.done: asyncio.Future[None] = loop.create_future()  # of the loop, which alone looks at it
        self.result: T | None = None
        self.error: BaseException | None = None
        self.ident = 0  # of its thread, once it runs there
        self.is_interrupted = False

    def interrupt(self) -> None:
        """Raise `Overdue` in its thread, as soon as that runs Python code; once."""
        if self.is_interrupted or self.done.done():
            return
        self.is_interrupted = True  # before looking for the thread, which looks here when it has said who it is
        if self.ident:
            _set_exception(ctypes.c_ulong(self.ident), ctypes.py_object(Overdue))


_Inbox = queue.SimpleQueue[PlainCall[Any] | None]


class Threads:
    """As many threads as calls run at once. All methods are for the loop's thread.

    A thread is used again, unless a call in it was interrupted: the exception may come when that call is over already,
    and must not hit the next one.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._idle: list[_Inbox] = []

    def start(self, function: Callable[[], T]) -> PlainCall[T]:
        """Have a thread call `function`."""
        call = PlainCall(function, self._loop)
        if self._idle:
            inbox = self._idle.pop()
        else:
            inbox = queue.SimpleQueue()
            # A daemon, for the process ends without waiting for what a task never ends.
            threading.Thread(target=self._work, args=(inbox,), name="gigq-plain-call", daemon=True).start()
        inbox.put(call)
        return call

    def _work(self, inbox: _Inbox) -> None:
        with suppress(Overdue):
            while (call := inbox.get()) is not None:
                try:
                    try:
                        call.ident = threading.get_ident()
                        if call.is_interrupted:  # before it had begun
                            raise Overdue
                        call.result = call.function()
                    except BaseException as error:
                        call.error = error
                    self._loop.call_soon_threadsafe(self._finish, call, inbox)
                finally:
                    # Twice does no harm, and the exception may have come between the end of the call and saying so.
                    if call.is_interrupted:
                        self._loop.call_soon_threadsafe(self._finish, call, inbox)
                del call  # while this waits, it must keep nothing of a job alive

    def _finish(self, call: PlainCall[Any], inbox: _Inbox) -> None:
        if call.done.done():
            return
        if call.is_interrupted:
            inbox.put(None)
            if call.error is None and call.result is None:
                call.error = Overdue()
        else:
            self._idle.append(inbox)
        call.done.set_result(None)
