"""A database that others can write is refused, and one that we make cannot be."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from gigq import App, ConfigurationError, GigQError, JobQueue, UnsafePermissions
from gigq.states import JobState
from gigq.storage.sqlite import SqliteStorage, permissions
from gigq.testing.harness import new_job

pytestmark = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="this system has no owners and modes of files")

PRIVATE, OTHERS, ROOT = 4001, 4002, 0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


def make(path: Path) -> None:
    storage = SqliteStorage(path)
    storage.submit([new_job()])
    storage.close()


def complaints(path: Path) -> str:
    return "; ".join(permissions.complaints(path))


# -- what we make


@pytest.mark.parametrize("umask", [0, 0o777])
def test_no_umask_changes_who_can_use_the_database(path: Path, umask: int) -> None:
    storage = SqliteStorage(path)
    before = os.umask(umask)
    try:
        storage.submit([new_job()])
    finally:
        os.umask(before)
    assert {name.name: stat.S_IMODE(name.stat().st_mode) for name in path.parent.iterdir()} == {
        "jobs.db": 0o600,
        "jobs.db-wal": 0o600,
        "jobs.db-shm": 0o600,
    }
    storage.close()


def test_making_the_database_needs_no_hard_links(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*names: object, **options: object) -> None:
        raise PermissionError(1, "Operation not permitted")  # link(2) on a filesystem without them

    monkeypatch.setattr(os, "link", refuse)
    make(path)
    assert SqliteStorage(path).stats()[JobState.PENDING] == 1


def test_names_with_marks_of_urls_in_them_are_names(tmp_path: Path) -> None:
    path = tmp_path / "a b?mode=memory#%41ü&.db"
    make(path)
    assert [name.name for name in tmp_path.iterdir()] == [path.name]
    assert JobQueue(path).stats()[JobState.PENDING] == 1


def test_threads_that_make_it_together_share_one_file(path: Path) -> None:
    storages = [SqliteStorage(path, durability="process") for _ in range(8)]
    gate = threading.Barrier(len(storages))

    def work(storage: SqliteStorage) -> None:
        gate.wait()
        storage.submit([new_job()])

    threads = [threading.Thread(target=work, args=(storage,)) for storage in storages]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert storages[0].stats()[JobState.PENDING] == len(storages)
    assert not list(path.parent.glob(".gigq-*"))


# -- what is refused


def world_writable_file(path: Path) -> None:
    path.chmod(0o602)


def group_writable_file(path: Path) -> None:
    own(path, gid=OTHERS)
    path.chmod(0o660)


def world_writable_folder(path: Path) -> None:
    path.parent.chmod(0o777)


def world_writable_log(path: Path) -> None:
    log = path.with_name(path.name + "-wal")
    log.touch()
    log.chmod(0o606)


def world_writable_grandparent(path: Path) -> None:
    path.parent.parent.chmod(0o757)


def own(path: Path, *, uid: int = -1, gid: int = -1) -> None:
    try:
        os.chown(path, uid, gid)
    except PermissionError:
        pytest.skip("only root may give files away")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (world_writable_file, "jobs.db can be written by everybody (chmod o-w)"),
        (group_writable_file, f"jobs.db can be written by its group ({OTHERS}; chmod g-w)"),
        (world_writable_log, "jobs.db-wal can be written by everybody"),
        (world_writable_folder, "can be written by everybody"),
        (world_writable_grandparent, "can be written by everybody"),
    ],
)
def test_what_others_can_write_is_refused_and_said(tmp_path: Path, spoil: Callable[[Path], None], said: str) -> None:
    path = tmp_path / "outer" / "inner" / "jobs.db"
    path.parent.mkdir(parents=True, mode=0o755)
    make(path)
    spoil(path)
    before = sorted(path.parent.iterdir())
    with pytest.raises(UnsafePermissions) as caught:
        App(path).queue.stats()
    assert said in str(caught.value)
    assert "?shared=yes" in str(caught.value)
    assert isinstance(caught.value, PermissionError)
    assert isinstance(caught.value, GigQError)
    assert sorted(path.parent.iterdir()) == before
    url = f"sqlite:///{path}?shared=yes"
    app = App(url)
    assert app.queue.stats()[JobState.PENDING] == 1
    assert app.url == app.queue.storage.url == url
    app.queue.close()


def test_a_database_is_not_made_where_others_could_change_it(path: Path) -> None:
    path.parent.chmod(0o777)
    with pytest.raises(UnsafePermissions):
        SqliteStorage(path).submit([new_job()])
    assert not path.exists()


def test_a_folder_with_the_sticky_bit_is_fine(path: Path) -> None:
    path.parent.chmod(0o1777)
    make(path)
    assert SqliteStorage(path).stats()[JobState.PENDING] == 1


def test_a_link_is_judged_by_where_it_leads(tmp_path: Path) -> None:
    real = tmp_path / "open" / "jobs.db"
    real.parent.mkdir()
    make(real)
    real.parent.chmod(0o777)
    link = tmp_path / "link.db"
    link.symlink_to(real)
    with pytest.raises(UnsafePermissions, match="open"):
        SqliteStorage(link).stats()


def test_what_another_user_has_laid_in_a_sticky_folder_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.parent.chmod(0o1777)
    make(path)
    own(path, uid=OTHERS)
    monkeypatch.setattr(os, "geteuid", lambda: PRIVATE)
    assert complaints(path) == f"jobs.db belongs to another user ({OTHERS})"
    log = path.with_name("jobs.db-wal")
    log.touch()
    own(path, uid=PRIVATE)
    own(log, uid=OTHERS)
    assert complaints(path) == f"jobs.db-wal belongs to another user ({OTHERS})"
    own(log, uid=ROOT)
    assert complaints(path) == ""


# -- groups


class Account:
    """An entry of the lists of users and groups."""

    def __init__(self, name: str, number: int, members: list[str]) -> None:
        self.pw_name = self.gr_name = name
        self.pw_gid = self.gr_gid = number
        self.gr_mem = members


@pytest.mark.parametrize(
    ("group", "members", "is_fine"),
    [
        ("ann", [], True),
        ("ann", ["ann"], True),
        ("ann", ["bob"], False),
        ("users", [], False),  # whose first group it is, the list of groups does not say
    ],
)
def test_a_group_of_ones_own_is_oneself(
    path: Path, monkeypatch: pytest.MonkeyPatch, group: str, members: list[str], is_fine: bool
) -> None:
    import grp
    import pwd

    make(path)
    for name in (path, path.parent):
        own(name, uid=PRIVATE, gid=PRIVATE)
        name.chmod(name.stat().st_mode | 0o020)
    monkeypatch.setattr(os, "geteuid", lambda: PRIVATE)
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: Account("ann", PRIVATE, []))
    monkeypatch.setattr(grp, "getgrgid", lambda gid: Account(group, PRIVATE, members))
    assert (complaints(path) == "") is is_fine


def test_an_access_list_may_hide_others_behind_ones_own_group(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(path)
    path.chmod(0o660)
    own(path, gid=ROOT)
    assert complaints(path) == ""
    monkeypatch.setattr(os, "listxattr", lambda name: ["system.posix_acl_access"])
    assert "can be written by its group" in complaints(path)


def test_roots_orders_further_up_are_roots(path: Path) -> None:
    inner = path.parent / "inner" / "jobs.db"
    inner.parent.mkdir()
    own(path.parent, uid=ROOT, gid=OTHERS)
    path.parent.chmod(0o2775)  # as Debian's /var/local
    assert complaints(inner) == ""
    assert "can be written by its group" in complaints(path)


# -- URLs


def test_an_unknown_option_of_a_url_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="only shared=yes, journal=delete, journal=wal are known"):
        App("sqlite:///jobs.db?shared=no")


def test_the_option_travels_with_jobs_and_queues(path: Path) -> None:
    import pickle

    make(path)
    path.chmod(0o606)
    queue = JobQueue(f"sqlite:///{path}?shared=yes")
    (job,) = queue.list()
    assert pickle.loads(pickle.dumps(job)).state is JobState.PENDING
    assert pickle.loads(pickle.dumps(queue)).stats()[JobState.PENDING] == 1
    queue.close()
