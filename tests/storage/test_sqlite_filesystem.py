"""Which filesystem a path is on, as the kernel's list of mounts says."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from gigq.storage.sqlite.filesystem import filesystem_of, is_network

MOUNTS = r"""
22 1 259:2 / / rw,relatime shared:1 - ext4 /dev/root rw
30 22 0:26 / /proc rw - proc proc rw
40 22 0:40 / /srv rw - xfs /dev/sdb rw
41 40 0:41 / /srv/shared rw shared:7 master:1 - nfs4 server:/export rw,vers=4.2
42 22 0:42 / /mnt/with\040blank rw - cifs //server/share rw
43 22 0:43 / /media/a rw - fuse.sshfs ann@server:/ rw
44 22 0:44 / /media/b rw - fuseblk /dev/sdc1 rw
45 22 0:45 / /over rw - nfs server:/ rw
46 22 0:46 / /over rw - tmpfs tmpfs rw
""".lstrip()


@pytest.fixture
def mounts(tmp_path: Path) -> Path:
    path = tmp_path / "mountinfo"
    path.write_text(MOUNTS)
    return path


@pytest.mark.parametrize(
    ("path", "kind", "shared"),
    [
        ("/home/jobs.db", "ext4", False),
        ("/srv/jobs.db", "xfs", False),
        ("/srv/shared/deep/jobs.db", "nfs4", True),
        ("/srv/shared-not/jobs.db", "xfs", False),
        ("/mnt/with blank/jobs.db", "cifs", True),
        ("/media/a/jobs.db", "fuse.sshfs", True),
        ("/media/b/jobs.db", "fuseblk", False),
        ("/over/jobs.db", "tmpfs", False),
    ],
)
def test_the_innermost_and_latest_mount_counts(mounts: Path, path: str, kind: str, shared: bool) -> None:
    assert filesystem_of(Path(path), mounts) == kind
    assert is_network(kind) is shared


def test_without_the_list_nothing_is_known(tmp_path: Path) -> None:
    assert filesystem_of(tmp_path, tmp_path / "none") is None
    assert not is_network(None)


@pytest.mark.skipif(not os.path.exists("/proc/self/mountinfo"), reason="this system has no such list")
def test_the_kernel_agrees(tmp_path: Path) -> None:
    asked = subprocess.run(["stat", "-f", "-c", "%T", tmp_path], capture_output=True, text=True, check=True)
    named = filesystem_of(tmp_path)
    assert named is not None
    assert named[:3] == asked.stdout[:3]  # ext4 is "ext2/ext3" there
