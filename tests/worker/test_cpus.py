"""How many processors a worker believes to have."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gigq.worker.cpus import usable_cpus


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with `proc` and `cgroups`, of a machine that lets this process use 8 processors."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    (tmp_path / "proc").mkdir()
    return tmp_path


def usable(machine: Path, groups: str, **files: str) -> int:
    (machine / "proc" / "cgroup").write_text(groups)
    for name, text in files.items():
        path = machine / "cgroups" / name.replace("__", "/").replace("_in_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return usable_cpus(machine / "proc", machine / "cgroups")


def test_without_a_quota_affinity_decides(machine: Path) -> None:
    assert usable_cpus(machine / "nowhere", machine / "cgroups") == 8
    assert usable(machine, "0::/\n") == 8
    assert usable(machine, "0::/app\n", app__cpu_in_max="max 100000\n") == 8


@pytest.mark.parametrize(("quota", "cpus"), [("300000 100000", 3), ("350000 100000", 3), ("50000 100000", 1)])
def test_a_quota_limits_them_but_one_is_always_left(machine: Path, quota: str, cpus: int) -> None:
    assert usable(machine, "0::/\n", cpu_in_max=quota) == cpus


def test_the_quota_of_a_group_around_ours_counts(machine: Path) -> None:
    files = {"system__cpu_in_max": "200000 100000", "system__app__cpu_in_max": "400000 100000"}
    assert usable(machine, "0::/system/app\n", **files) == 2


def test_a_group_outside_of_what_a_container_sees_is_its_root(machine: Path) -> None:
    assert usable(machine, "0::/../../other\n", cpu_in_max="200000 100000") == 2


def test_the_first_version_of_control_groups_counts(machine: Path) -> None:
    for name, text in (("quota", "300000\n"), ("period", "100000\n")):
        folder = machine / "cgroups" / "cpu,cpuacct" / "docker"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"cpu.cfs_{name}_us").write_text(text)
    groups = "9:name=systemd:/docker\n4:cpu,cpuacct:/docker\n0::/\n"
    assert usable(machine, groups) == 3
    (machine / "cgroups" / "cpu,cpuacct" / "docker" / "cpu.cfs_quota_us").write_text("-1\n")
    assert usable(machine, groups) == 8
