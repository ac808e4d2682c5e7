"""What each part of the suite stands on: a storage to test, opened on a fake clock."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gigq.storage.base import Storage
from gigq.testing.clock import FakeClock
from gigq.testing.harness import Harness


class StorageTests:
    """Subclasses say how the storage is opened; the tests take it as the fixture `harness`."""

    def open_storage(self, folder: Path, clock: FakeClock) -> Storage:
        """Open the storage that lives in `folder` (empty at first; a second call opens the same data again)."""
        raise NotImplementedError

    @pytest.fixture
    def clock(self) -> FakeClock:
        return FakeClock()

    @pytest.fixture
    def harness(self, tmp_path: Path, clock: FakeClock) -> Iterator[Harness]:
        storage = self.open_storage(tmp_path, clock)
        yield Harness(storage, clock)
        storage.close()

    @pytest.fixture
    def elsewhere(self, tmp_path: Path, clock: FakeClock, harness: Harness) -> Iterator[Harness]:
        """The same data, opened a second time as another process would."""
        storage = self.open_storage(tmp_path, clock)
        yield Harness(storage, clock)
        storage.close()
