"""Which filesystem a path is on: SQLite's write-ahead log needs memory that all its processes share."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

_MOUNTS: Final = Path("/proc/self/mountinfo")  # proc_pid_mountinfo(5)

_SHARED: Final = frozenset(
    {"9p", "afs", "beegfs", "ceph", "cifs", "coda", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4",
     "ocfs2", "orangefs", "prl_fs", "pvfs2", "smb3", "smbfs", "vboxsf", "virtiofs"}
)  # fmt: skip
_SHARED_BY_PROGRAMS: Final = ("ceph", "davfs", "gcs", "gluster", "goofys", "hdfs", "juicefs", "moose", "mount-s3",
                              "rclone", "s3", "seaweed", "smb", "ssh")  # fmt: skip


def filesystem_of(path: Path, mounts: Path = _MOUNTS) -> str | None:
    """Return the type of the filesystem that holds `path` (or will), such as "ext4"; None where nothing tells.

    Opens nothing but the list of mounts.
    """
    try:
        lines = mounts.read_text(errors="surrogateescape").splitlines()
    except OSError:  # not Linux
        return None
    target, found, depth = Path(os.path.realpath(path)), None, -1
    for line in lines:
        before, _, after = line.partition(" - ")
        point = Path(_unescaped(before.split(" ")[4]))
        # Of two mounts on one point the later one is seen.
        if target.is_relative_to(point) and len(point.parts) >= depth:
            found, depth = after.split(" ")[0], len(point.parts)
    return found


def is_network(filesystem: str | None) -> bool:
    """Return whether a filesystem may be in use by several machines, which do not share memory."""
    if filesystem is None:
        return False
    kind, _, program = filesystem.partition(".")
    return kind in _SHARED or (kind == "fuse" and any(name in program for name in _SHARED_BY_PROGRAMS))


def _unescaped(text: str) -> str:
    """Return a path of the list, in which blanks and the like stand as octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
