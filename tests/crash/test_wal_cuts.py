"""Fault 11: a power cut leaves exactly a committed prefix. `python tests/crash cuts` makes as many cuts as wanted."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import pytest
import wal_cuts


@pytest.mark.slow
@pytest.mark.parametrize("durability", ["power", "process"])
def test_fault_11_a_log_that_is_cut_anywhere_leaves_a_committed_prefix(tmp_path: Path, durability: str) -> None:
    seen = Counter(
        cut.tail for cut in itertools.islice(wal_cuts.cuts(tmp_path, seed=1, durability=durability, each=5), 200)
    )
    assert seen.keys() == set(wal_cuts.TAILS)
