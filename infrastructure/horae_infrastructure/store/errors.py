"""What opening a store can refuse.

```
StoreError                  the port's root
├── StoreUnavailable        cannot be reached now (the port)
├── StoreLocked             another process has the file
├── StoreNotDurable         a setting would lose acknowledged commits
├── StoreFormat             written by a newer Horae, or with another number of partitions
└── StoreReplaced           after a reconnect another server, or a promoted one, answers
```
"""

from __future__ import annotations

from horae_application.ports import StoreError


class StoreLocked(StoreError):
    """The database file is in use by the process `pid` (None if it did not say)."""

    def __init__(self, path: str, pid: int | None) -> None:
        self.path = path
        self.pid = pid
        holder = "another process" if pid is None else f"process {pid}"
        super().__init__(f"{path} is in use by {holder}; a SQLite store has one process")


class StoreNotDurable(StoreError):
    """The store would lose what it has acknowledged: `setting` is `value`."""

    def __init__(self, setting: str, value: str) -> None:
        self.setting = setting
        self.value = value
        super().__init__(f"{setting} is {value}: acknowledged commits could be lost")


class StoreFormat(StoreError):
    """The store has `name` (format or partitions) `found`, and this process needs `wanted`."""

    def __init__(self, name: str, found: int, wanted: int) -> None:
        self.name = name
        self.found = found
        self.wanted = wanted
        super().__init__(f"the store has {name} {found}, this process works with {wanted}")


class StoreReplaced(StoreError):
    """The server that answers now does not hold the same history; open the store anew."""

    def __init__(self, expected: str, found: str) -> None:
        self.expected = expected
        self.found = found
        super().__init__(f"the store's identity was {expected} and is now {found}")
