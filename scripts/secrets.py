"""Make the secrets of `compose.yaml`: random passwords, and the URLs that hold them.

python scripts/secrets.py [DIRECTORY]

What is there already stays. The directory is private; the files can be read by whoever gets one
mounted, because containers run as users of their own.
"""

import secrets
import sys
from pathlib import Path

TARGET = Path(__file__).resolve().parents[1] / "secrets"


def main(folder: Path) -> None:
    """Write what is missing."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if (folder / "store_url").exists():
        sys.exit(f"there are secrets in {folder}; nothing was changed")
    for name, content in made().items():
        path = folder / name
        path.write_text(content + "\n")
        path.chmod(0o444)


def made() -> dict[str, str]:
    """New secrets by the name of their file."""
    store, replication, bus, views = (secrets.token_urlsafe(24) for _ in range(4))
    nodes = ",".join(f"nats://horae:{bus}@nats-{number}:4222" for number in (1, 2, 3))
    hosts = "postgres-1:5432,postgres-2:5432"
    return {
        "postgres_password": store,
        "replication_password": replication,
        "store_url": f"postgresql://horae:{store}@{hosts}/horae?target_session_attrs=read-write",
        "nats_users": f'authorization {{ users: [{{user: horae, password: "{bus}"}}] }}',
        "nats_url": nodes,
        "valkey_password": f'requirepass "{views}"',
        "redis_url": f"redis://:{views}@valkey:6379",
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else TARGET)
