"""The suite that every storage passes. Subclass it in a test module and say how the storage is opened:

    class TestMyStorage(StorageConformance):
        def open_storage(self, folder, clock):
            return MyStorage(folder / "jobs", now=clock.now)

For readable failures, call `pytest.register_assert_rewrite("gigq.testing")` in a conftest before the import.
"""

from __future__ import annotations

from gigq.testing.conformance.base import StorageTests
from gigq.testing.conformance.cancelling import Cancelling
from gigq.testing.conformance.claiming import Claiming
from gigq.testing.conformance.dependants import Dependants
from gigq.testing.conformance.fences import Fences
from gigq.testing.conformance.finishing import Finishing
from gigq.testing.conformance.processes import Processes
from gigq.testing.conformance.questions import Questions
from gigq.testing.conformance.retrying import Retrying
from gigq.testing.conformance.submitting import Submitting
from gigq.testing.conformance.upkeep import Upkeep
from gigq.testing.conformance.waking import Waking

__all__ = ["StorageConformance", "StorageTests"]


class StorageConformance(
    Submitting,
    Claiming,
    Finishing,
    Fences,
    Dependants,
    Cancelling,
    Retrying,
    Questions,
    Upkeep,
    Waking,
    Processes,
):
    """Every verb of the Storage protocol, held to what its docstring and `gigq.states` say."""
