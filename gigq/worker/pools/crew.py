"""The children that there are: made by the forker, watched through one epoll descriptor, replaced when they end."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import select
import signal
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Final, Generic, NamedTuple, TypeVar

from gigq.errors import WorkerError
from gigq.signing import Signer
from gigq.worker.identity import process_started
from gigq.worker.pools import channel
from gigq.worker.pools.base import Hello
from gigq.worker.pools.children import Child
from gigq.worker.pools.forking import END_SECONDS, ForkerLink, read_hello
from gigq.worker.source import ModuleTarget, Preparation, TaskSource

FORKER_DEATHS: Final = 5  # in a row, each within the time below: then the pool gives up
FORKER_SECONDS: Final = 5.0
UNKILLED_SECONDS: Final = 2.0  # after a SIGKILL nobody is told of an end: the forker itself must be stuck
_NS: Final = 1_000_000_000

C = TypeVar("C", bound=Child)


class Death(NamedTuple, Generic[C]):
    """A child has ended. `status` is what `waitpid` said, None if it could not be forked at all."""

    child: C
    status: int | None
    cause: str | None = None  # where it is known better than from the status


class Happenings(NamedTuple, Generic[C]):
    """What `Crew.poll` found."""

    readable: Sequence[C]
    deaths: Sequence[Death[C]]


class Crew(Generic[C]):
    """All children of a pool, and the forker that makes them. None of its methods waits, but for `start` and `stop`.

    Args:
        source: the app, see `ForkedPool`.
        count: how many children there are, those not counted that have a successor.
        make: makes a child, from its number and the longest body of a frame that it may write.
        result_limit_bytes, signer: see `ForkedPool`.
    """

    def __init__(
        self,
        source: TaskSource | ModuleTarget | None,
        count: int,
        make: Callable[[int, int], C],
        result_limit_bytes: int,
        signer: Signer | None = None,
        preparation: Preparation | None = None,
    ) -> None:
        self.children: list[C] = []
        self.departing = 0  # of them, those that have a successor
        self.count = count
        self._source = source
        self._signer = signer
        self._make = make
        self._result_limit_bytes = result_limit_bytes
        self._preparation = preparation
        self._by_fd: dict[int, C] = {}  # readable means outcomes
        self._sending: dict[int, C] = {}  # writable means that the rest of a frame can go
        self._last_number = 0
        self._respawn_at = 0  # monotonic nanoseconds
        self._short_lives = 0
        self._forker_deaths = 0
        self._log = logging.getLogger("gigq.worker")

    def start(self, url: str | None) -> Hello:
        """Start the forker and the children; `url` is the database, None: the app's own."""
        self._link = ForkerLink(self._source, self._signer, self._preparation)
        self._epoll = select.epoll()
        # Copies of these descriptors in other forked processes would be found by tasks that write to whatever is open.
        disown = weakref.WeakMethod(self._disown)
        os.register_at_fork(after_in_child=lambda: (own := disown()) and own())
        try:
            hello = self._link.hello()
            self._url, self._durability = url or hello.url or "", hello.durability
            self._epoll.register(self._link, select.EPOLLIN)
            self.fill_up()
        except BaseException:
            self.stop(patience=0.1)  # it may be importing something that takes for ever
            raise
        return hello

    def stop(self, patience: float = END_SECONDS) -> None:
        """End all children and the forker, and wait for them."""
        self._link.end(patience)
        self._close()

    def _close(self) -> None:
        for child in self.children:
            child.close()
        self.children.clear()
        self._by_fd.clear()
        self._sending.clear()
        self._epoll.close()

    def _disown(self) -> None:
        """In a process that this one has forked: close what belongs to the supervisor."""
        with contextlib.suppress(OSError):  # in the middle of something, in another thread
            self._link.close()
            self._close()

    def fileno(self) -> int:
        """Return the descriptor that is readable when `poll` finds something."""
        return self._epoll.fileno()

    def poll(self) -> Happenings[C]:
        """Return which children have written something, and which have ended; send on what waited for room.

        Raises:
            WorkerError: the forker dies again and again.
            TargetError: the forker was replaced, and cannot load the app any more.
        """
        readable: list[C] = []
        deaths: list[Death[C]] = []
        for fd, _ in self._epoll.poll(0):
            if fd == self._link.fileno():
                deaths += self._hear_forker()
            elif fd in self._by_fd:
                readable.append(self._by_fd[fd])
            elif fd in self._sending:
                self.send(self._sending[fd])
        if self._link.is_ended:
            deaths = self._replace_forker(deaths)
        dead = {death.child.number for death in deaths}
        return Happenings([child for child in readable if child.number not in dead], deaths)

    # -- one child

    def send(self, child: C) -> None:
        """Send what was assigned to a child: now, or when there is room in its pipe."""
        fd = child.jobs_fd
        if child.send():
            if self._sending.pop(fd, None):
                self._epoll.unregister(fd)
        elif fd not in self._sending:
            self._sending[fd] = child
            self._epoll.register(fd, select.EPOLLOUT)

    def is_readable(self, child: C) -> bool:
        """Whether something may still come from a child."""
        return child.outcomes_fd in self._by_fd

    def note_end_of_outcomes(self, child: C) -> None:
        """Stop reading from a child that has closed its pipe, or died; the forker will say which."""
        if child.silent_since is None:
            child.silent_since = time.monotonic_ns()
        if self._by_fd.pop(child.outcomes_fd, None):
            self._epoll.unregister(child.outcomes_fd)

    def note_outcome(self, child: C) -> None:
        """Note that a child does its work."""
        child.is_proven = True
        self._short_lives = 0

    def signal(self, child: C, sig: int) -> None:
        """Send a signal, by way of the forker."""
        self._link.send({"do": "signal", "child": child.number, "signal": int(sig)})

    def kill(self, child: C) -> None:
        """Kill a child's process group. It is replaced when it has ended."""
        child.is_retiring = True
        if child.killed_at is None:
            child.killed_at = time.monotonic_ns()
            self.signal(child, signal.SIGKILL)

    def depart(self, child: C) -> None:
        """Give a child no more jobs, and its place to another. It has to be killed when what it runs has ended."""
        child.is_retiring = True
        if not child.has_successor:
            child.has_successor = True
            self.departing += 1

    def check_killed(self, child: C, now: int) -> int:
        """Return when to look again after a killed child; replace the forker if it is the one that does not move."""
        assert child.killed_at is not None
        late_at = child.killed_at + int(UNKILLED_SECONDS * _NS)
        if now >= late_at:
            self._link.is_ended = True  # `poll` ends it by force, which takes the children along
            return now
        return late_at

    def check_silent(self, child: C, now: int) -> int:
        """Return when to look again after a child whose pipe is closed; replace a forker that does not see it dead."""
        assert child.silent_since is not None
        late_at = child.silent_since + int(UNKILLED_SECONDS * _NS)
        if now < late_at:
            return late_at
        # A task may have closed what it found open and still run, under the forker's eyes.
        if child.pid is not None and process_started(child.pid) is None:
            self._link.is_ended = True  # see check_killed
            return now
        child.silent_since = now
        return now + int(UNKILLED_SECONDS * _NS)

    def remove(self, child: C, *, was_used: bool) -> None:
        """Forget a child that has ended. One that ended unused is replaced after a pause, since the next may too."""
        if not (was_used or child.is_proven or child.killed_at is not None):
            self._short_lives += 1
            self._respawn_at = time.monotonic_ns() + min(_NS // 20 << min(self._short_lives, 10), 5 * _NS)
        self.note_end_of_outcomes(child)
        if self._sending.pop(child.jobs_fd, None):
            self._epoll.unregister(child.jobs_fd)
        self.children.remove(child)
        self.departing -= child.has_successor
        child.close()

    # -- making children

    def fill_up(self) -> int | None:
        """Make the children that are missing; return when to try again (monotonic nanoseconds), None: all are there."""
        while len(self.children) - self.departing < self.count:
            if time.monotonic_ns() < self._respawn_at:
                return self._respawn_at
            try:
                self._spawn()
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
                    raise
                self._log.error("a child process could not be made: %s", error)
                self._respawn_at = time.monotonic_ns() + _NS
        return None

    def _spawn(self) -> None:
        self._last_number += 1
        child = self._make(self._last_number, self._result_limit_bytes + channel.BODY_SLACK_BYTES)
        settings = [self._url, self._durability, child.key, self._result_limit_bytes, child.slots]
        self._link.send({"do": "spawn", "child": child.number, "settings": settings}, child.descriptors())
        child.hand_over()
        self.children.append(child)
        self._by_fd[child.outcomes_fd] = child
        self._epoll.register(child.outcomes_fd, select.EPOLLIN)

    # -- the forker

    def _hear_forker(self) -> list[Death[C]]:
        by_number = {child.number: child for child in self.children}
        deaths: list[Death[C]] = []
        for message in self._link.receive():
            if message["is"] == "ended":
                deaths.append(Death(by_number[message["child"]], message["status"]))
            elif message["is"] == "not forked":
                self._log.error("a child process could not be forked: %s", message["message"])
                deaths.append(Death(by_number[message["child"]], None))
            else:  # the first words of a forker that has replaced another one
                read_hello(message)
        return deaths

    def _replace_forker(self, deaths: list[Death[C]]) -> list[Death[C]]:
        """Start a new forker; return the deaths of all children, since they have died with the old one."""
        self._log.error("the forker process (pid %d) died, with all children: starting another", self._link.pid)
        is_early = time.monotonic() - self._link.started_at < FORKER_SECONDS
        self._forker_deaths = self._forker_deaths + 1 if is_early else 1
        with contextlib.suppress(OSError):  # never registered, or closed
            self._epoll.unregister(self._link)
        self._link.end(patience=0.2)
        for child in self.children:
            # The kernel has killed the child itself, by its parent-death signal; this is for what it has started. (The
            # number could be another group's by now only if all numbers were used up within these milliseconds.)
            if child.pid is not None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(child.pid, signal.SIGKILL)
        if self._forker_deaths > FORKER_DEATHS:
            raise WorkerError(f"the forker process died {self._forker_deaths} times, each time soon after its start")
        known = {death.child.number for death in deaths}
        cause = "killed, because the process that forked it died"
        deaths += [Death(child, signal.SIGKILL, cause) for child in self.children if child.number not in known]
        self._link = ForkerLink(self._source, self._signer, self._preparation)
        self._epoll.register(self._link, select.EPOLLIN)
        return deaths
