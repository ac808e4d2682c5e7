"""Who else can write a database: whoever can makes its workers run code, because arguments are pickled.

The rules are those by which ssh trusts its files (`StrictModes`, sshd_config(5)), with two differences that fit how
folders are made today. A group of which nobody else is a member counts as its user: with the umask 0002 of systems
that give each user a group of their own, every new folder can be written by its group. And a folder with the sticky bit
(such as /tmp) may be written by all: what lies in it can be renamed and deleted by its owner alone.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from gigq.errors import UnsafePermissions

COMPANIONS: Final = ("-wal", "-shm", "-journal")
"""What SQLite keeps beside the database and believes as much as the file itself."""

_ROOT: Final = 0
_ACCESS_LIST: Final = "system.posix_acl_access"  # acl(5); the group's bits are then a mask over entries of others


def check_permissions(path: Path) -> None:
    """Refuse a database that others can write, or can put another one in the place of.

    Nothing is opened: to open and close the database would drop the locks that SQLite holds in this process.

    Raises:
        UnsafePermissions: they can; the message says what to do.
    """
    for complaint in complaints(path):
        raise UnsafePermissions(
            f"{path} is not safe: {complaint}; whoever can write a database can make its workers run code. "
            "Take that right away, or say that it is meant so with ?shared=yes at the end of the database's URL"
        )


def complaints(path: Path) -> Iterator[str]:
    """Yield whatever lets others write the database at `path`, or put another one in its place."""
    if not hasattr(os, "geteuid"):  # Windows has other rights, which folders pass on
        return
    path = Path(os.path.realpath(path))
    for file in (path, *(path.with_name(path.name + suffix) for suffix in COMPANIONS)):
        status = _status(file)
        if status is not None:
            yield from _complain(file, status, is_near=True)
    for folder in path.parents:
        status = _status(folder)
        if status is not None:
            yield from _complain(folder, status, is_near=folder == path.parent)


def _status(path: Path) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except OSError:  # not there; or not to be seen, and then opening it says so
        return None


def _complain(path: Path, status: os.stat_result, *, is_near: bool) -> Iterator[str]:
    """Yield what is wrong with one file or folder; `is_near`: it is the database, beside it, or its own folder."""
    is_folder = stat.S_ISDIR(status.st_mode)
    what = f"the folder {path}" if is_folder else f"{path.name}"
    if is_folder and status.st_mode & stat.S_ISVTX:
        return
    # For a process of root's, owners differ wherever a folder of the host's is mounted into a container.
    if is_near and status.st_uid not in (_ROOT, os.geteuid()) and os.geteuid() != _ROOT:
        yield f"{what} belongs to another user ({_user_name(status.st_uid)})"
    if status.st_mode & stat.S_IWOTH:
        yield f"{what} can be written by everybody (chmod o-w)"
    # Further up, what root lets a group write is the system's own order, such as /var/local of Debian's group staff.
    elif status.st_mode & stat.S_IWGRP and (is_near or status.st_uid != _ROOT) and not _is_private(path, status.st_gid):
        yield f"{what} can be written by its group ({_group_name(status.st_gid)}; chmod g-w)"


def _is_private(path: Path, gid: int) -> bool:
    """Return whether the group's right is a right of nobody but this process's user, and root."""
    if _ACCESS_LIST in _attributes(path):
        return False
    if gid == _ROOT:
        return True
    import grp
    import pwd

    try:
        user, group = pwd.getpwuid(os.geteuid()), grp.getgrgid(gid)
    except KeyError:  # a user or group without a name, as containers have: who is in it cannot be known
        return False
    # The convention of user-private groups. (Rejected: to look for other users with this group in the whole list of
    # users, which a directory service gives slowly or not at all.)
    return user.pw_gid == gid and group.gr_name == user.pw_name and set(group.gr_mem) <= {user.pw_name, "root"}


def _attributes(path: Path) -> list[str]:
    try:
        return os.listxattr(path) if hasattr(os, "listxattr") else []
    except OSError:  # a filesystem without them
        return []


def _user_name(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group_name(gid: int) -> str:
    import grp

    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
