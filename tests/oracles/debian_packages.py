"""Debian's packages that ship crontabs: downloaded with the ordinary client, never installed."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGES = """
    amavisd-new anacron apt-cacher atop awstats backupninja barman burp certbot cron-apt
    cron-daemon-common debian-edu-config dirvish dma dump e2fsprogs fcheck ganeti
    ikiwiki-hosting-web inn2 integrit john leafnode liblemonldap-ng-portal-perl lightsquid logcheck
    mailman3 mailman3-web mdadm mlmmj munin munin-node ntpsec ntpsec-ntpviz php-common
    piuparts-master piuparts-slave rancid roundcube-core rsnapshot sa-exim sanoid sks sysstat tiger
    tuptime uucp
""".split()  # noqa: SIM905 - one name a line would be a page
NEEDED = 40
"""Packages with crontabs that must be found, whatever the release."""

SYSTEM = ("etc/crontab", "etc/cron.d/*", "usr/share/doc/dump/examples/**/crontab*")
USER = ("usr/share/doc/*/examples/crontab*", "usr/share/doc/*/sampleConfig/crontab*")


@dataclass(frozen=True)
class Crontab:
    """A file as its package ships it.

    Attributes:
        package: the package's name.
        source: the package and the path in it, which names the file.
        path: where it was unpacked.
        system: whether it has a column for the user.
    """

    package: str
    source: str
    path: Path
    system: bool

    @property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")


def crontabs(folder: Path) -> list[Crontab]:
    """Download and unpack the packages below `folder`; their crontabs, by package."""
    return [found for archive in download(folder) for found in unpack(archive)]


def download(folder: Path) -> list[Path]:
    """The packages of the list that this release has."""
    known = set(run("apt-cache", "pkgnames", cwd=folder).split())
    if len(known & set(PACKAGES)) < NEEDED:
        run("apt-get", "update", cwd=folder)
        known = set(run("apt-cache", "pkgnames", cwd=folder).split())
    run("apt-get", "download", *sorted(known & set(PACKAGES)), cwd=folder)
    return sorted(folder.glob("*.deb"))


def unpack(archive: Path) -> Iterator[Crontab]:
    root = archive.with_suffix("")
    run("dpkg-deb", "-x", str(archive), str(root), cwd=archive.parent)
    package = archive.name.split("_")[0]
    found = {}
    for system, patterns in ((False, USER), (True, SYSTEM)):
        for pattern in patterns:
            found.update({file: system for file in root.glob(pattern) if is_crontab(file)})
    for file, system in sorted(found.items()):
        yield Crontab(package, f"{package}/{file.relative_to(root)}", file, system)


def is_crontab(file: Path) -> bool:
    return (
        file.is_file()
        and file.suffix not in {".gz", ".pl"}
        and not file.name.startswith(".")
        and not file.read_bytes().startswith(b"#!")
    )


def run(*command: str, cwd: Path) -> str:
    return subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True).stdout
