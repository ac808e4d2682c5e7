"""Workers: processes that claim jobs and run them."""

from gigq.worker.worker import Worker

__all__ = ["Worker"]
