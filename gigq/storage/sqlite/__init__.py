"""Jobs in one SQLite file."""

from gigq.storage.sqlite.storage import SqliteStorage

__all__ = ["SqliteStorage"]
