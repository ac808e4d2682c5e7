"""How much of everything is measured."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Scale:
    """Counts, and seconds where the name says so. The defaults are those of a real run."""

    jobs: int = 10_000
    bulk_jobs: int = 10_000  # when they are drained, or enqueued in one call
    warm_up_jobs: int = 200
    round_trips: int = 200
    load_seconds: float = 3.0
    settle_seconds: float = 1.5  # between what came before and a look at the processors
    idle_seconds: float = 5.0
    backlog: int = 1_000_000
    small_backlog: int = 1_000
    claim_batches: int = 40
    memory_jobs: int = 1_000_000
    contention_seconds: float = 5.0
    contenders: int = 4  # workers, and submitters
    long_seconds: float = 10.0
    burns: int = 400
    naps: int = 4_000
    slots: int = 200
    imports: int = 15
    payload_bytes: int = 10_000_000  # each of all payloads of a size together, and the greatest

    def shared(self, share: float, bulk: float) -> Scale:
        """Return the numbers for a system that is given a share of the jobs, and another share of those in bulk.

        Shares make a slow system's runs shorter, and a fast one's long enough to be timed. Figures are rates.
        """

        def some(number: int, share: float, least: int) -> int:
            return max(min(number, least), int(number * share))

        return replace(
            self,
            jobs=some(self.jobs, share, 100),
            bulk_jobs=some(self.bulk_jobs, bulk, 100),
            warm_up_jobs=some(self.warm_up_jobs, share, 20),
            round_trips=some(self.round_trips, min(1, 3 * share), 50),
        )

    @classmethod
    def quick(cls) -> Scale:
        """Return numbers that show whether everything runs, not how fast."""
        return cls(
            jobs=50,
            bulk_jobs=50,
            warm_up_jobs=20,
            round_trips=10,
            load_seconds=0.2,
            settle_seconds=0.1,
            idle_seconds=0.2,
            backlog=2_000,
            claim_batches=1,
            memory_jobs=500,
            contention_seconds=0.3,
            contenders=2,
            long_seconds=0.5,
            burns=10,
            naps=40,
            slots=20,
            imports=2,
            payload_bytes=1_000_000,
        )
