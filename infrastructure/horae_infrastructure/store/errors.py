"""What opening a store can refuse; each is a `HoraeError` with the code of its name.

```
StoreError                  store_error        the port's root
├── StoreUnavailable        store_unavailable  cannot be reached now (the port)
├── StoreLocked             store_locked       another process has the file
├── StoreNotDurable         store_not_durable  a setting would lose acknowledged commits
├── StoreFormat             store_format       written by a newer Horae, or with another number of
│                                              partitions
└── StoreReplaced           store_replaced     after a reconnect another server answers, or a
                                               promoted one
```
"""

from __future__ import annotations

from horae_application.ports import StoreError


class StoreLocked(StoreError):
    """The database file is in use by the process `pid` (None if it did not say)."""

    code = "store_locked"

    def __init__(self, path: str, pid: int | None) -> None:
        self.path = path
        self.pid = pid
        holder = "another process" if pid is None else f"process {pid}"
        super().__init__(f"{path} is in use by {holder}; a SQLite store has one process")


class StoreNotDurable(StoreError):
    """The store would lose what it has acknowledged: `setting` is `value`."""

    code = "store_not_durable"

    def __init__(self, setting: str, value: str) -> None:
        self.setting = setting
        super().__init__(
            f"{setting} is {value}: acknowledged commits could be lost", field=setting, value=value
        )


class StoreFormat(StoreError):
    """The store has `name` (format or partitions) `found`, and this process needs `wanted`."""

    code = "store_format"

    def __init__(self, name: str, found: int, wanted: int) -> None:
        self.name = name
        self.found = found
        self.wanted = wanted
        super().__init__(f"the store has {name} {found}, this process works with {wanted}")


class StoreReplaced(StoreError):
    """Another server answers now, perhaps with another history; nothing was written to it."""

    code = "store_replaced"

    def __init__(self, expected: str, found: str) -> None:
        self.expected = expected
        self.found = found
        super().__init__(f"the store's identity was {expected} and is now {found}")
