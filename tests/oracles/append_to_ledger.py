"""Append a line with the key given and this instant to the ledger, and see it on the disk.

python append_to_ledger.py LEDGER KEY
"""

import os
import sys
from datetime import UTC, datetime


def main(ledger: str, key: str) -> None:
    file = os.open(ledger, os.O_WRONLY | os.O_APPEND)
    os.write(file, f"{key} {datetime.now(UTC).isoformat()}\n".encode())
    os.fsync(file)
    os.close(file)


if __name__ == "__main__":
    main(*sys.argv[1:])
