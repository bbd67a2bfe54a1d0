"""A process of its own that starts every embedded server, for tests that kill it.

`python servers.py DIRECTORY HOW` starts them, prints one line of JSON, the pids, port and
paths of all that must be gone, and then waits for its end: `wait` until it is killed, `exit` for a normal exit
without stopping them, `thread` starts them in a thread that ends.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path

from horae_infrastructure.embedded import Nats, Postgres, Valkey


def main(directory: str, how: str) -> None:
    """Start the servers, report, wait."""
    servers = [kind(Path(directory, kind.__name__)) for kind in (Nats, Valkey, Postgres)]
    servers.append(Valkey())

    def start() -> None:
        for server in servers:
            server.start()

    if how == "thread":
        thread = threading.Thread(target=start)
        thread.start()
        thread.join()
    else:
        start()
    # A forked child that outlives us holds every socket of ours; it must not keep servers alive.
    bystander = os.fork()
    if bystander == 0:
        os.close(1)
        signal.pause()
    report = {
        "bystander": bystander,
        "pids": [server.pid for server in servers],
        "port": servers[0].port,
        "paths": [str(path) for server in servers for path in server.leftovers()],
        "temporary": str(servers[-1].data_dir),
    }
    sys.stdout.write(json.dumps(report) + "\n")
    sys.stdout.flush()
    if how != "exit":
        signal.pause()


if __name__ == "__main__":
    main(*sys.argv[1:])
