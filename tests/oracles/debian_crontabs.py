"""Every crontab that a selection of Debian's packages ships, against a brute-force walk.

Downloads the packages with the ordinary client and unpacks them without installing; reads each
crontab as it stands; compares every instant of 400 days in three zones. Prints counts; exits with
1 on a difference, on a line that was not read, or if too few packages still ship such files.

    python tests/oracles/debian_crontabs.py
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "domain" / "time"))

from oracle import expected

from horae_domain.crontab import CrontabLine, Problem, parse_crontab, to_definition
from horae_domain.definition import parse_definition
from horae_domain.recurrence import cron_recurrence, span

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

ZONES = ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe")
START = datetime(2026, 1, 1, tzinfo=UTC)
END = START + timedelta(days=400)
TICK = timedelta(microseconds=1)

SYSTEM = ("etc/crontab", "etc/cron.d/*", "usr/share/doc/dump/examples/**/crontab*")
USER = ("usr/share/doc/*/examples/crontab*", "usr/share/doc/*/sampleConfig/crontab*")
JOB = re.compile(r"[ \t]*(?:[0-9*][^=]*[ \t]|@[a-z])")
"""What looks like a job at first sight, to see that the parser loses none."""


def run(*command: str, cwd: Path) -> str:
    return subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True).stdout


def download(folder: Path) -> list[Path]:
    """The packages of the list that this release has."""
    known = set(run("apt-cache", "pkgnames", cwd=folder).split())
    if len(known & set(PACKAGES)) < NEEDED:
        run("apt-get", "update", cwd=folder)
        known = set(run("apt-cache", "pkgnames", cwd=folder).split())
    run("apt-get", "download", *sorted(known & set(PACKAGES)), cwd=folder)
    return sorted(folder.glob("*.deb"))


def crontabs(root: Path) -> list[tuple[Path, str]]:
    """The crontab files of an unpacked package, with their style."""
    found = {}
    for style, patterns in (("user", USER), ("system", SYSTEM)):
        for pattern in patterns:
            found.update({file: style for file in root.glob(pattern) if is_text(file)})
    return sorted(found.items())


def is_text(file: Path) -> bool:
    return (
        file.is_file()
        and file.suffix not in {".gz", ".pl"}
        and not file.name.startswith(".")
        and not file.read_bytes().startswith(b"#!")
    )


@cache
def differences(expression: str, zone: str) -> tuple[int, int]:
    """How many instants were compared, and how many differ."""
    ours = [
        one.due for one in span(cron_recurrence(expression, zone), START - TICK, END - TICK, 10**6)
    ]
    theirs = expected(expression, zone, START, END)
    return len(theirs), len(set(ours) ^ set(theirs)) + (ours != sorted(set(ours)))


def check(text: str, style: str, source: str, counts: Counter[str]) -> None:
    """Read one crontab and compare its jobs; what is wrong is counted and printed."""
    read = parse_crontab(text, style=style)
    looks = {number for number, line in enumerate(text.split("\n"), 1) if JOB.match(line)}
    for number in sorted(looks - {one.number for one in read}):
        counts["lost"] += 1
        print(f"{source}:{number}: lost")
    for one in read:
        if isinstance(one, Problem):
            kind = "reported @reboot" if one.text.startswith("@reboot") else "unread"
            counts[kind] += 1
            print(f"{source}:{one.number}: {one.reason}: {one.text}")
        else:
            counts["jobs"] += 1
            compare(one, source, counts)


def compare(line: CrontabLine, source: str, counts: Counter[str]) -> None:
    definition = parse_definition(to_definition(line, source))
    for zone in ZONES:
        met = differences.cache_info().currsize
        compared, different = differences(definition.trigger.expression, zone)
        counts["different"] += different
        if differences.cache_info().currsize > met:
            counts["instants"] += compared
        if different:
            print(f"{source}:{line.number}: {different} instants differ in {zone}: {line.text}")


def main() -> int:
    counts: Counter[str] = Counter()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        for archive in download(folder):
            root = folder / archive.stem
            run("dpkg-deb", "-x", str(archive), str(root), cwd=folder)
            files = crontabs(root)
            counts["packages"] += bool(files)
            for file, style in files:
                counts["files"] += 1
                source = f"{archive.name.split('_')[0]}/{file.relative_to(root)}"
                check(file.read_text(encoding="utf-8"), style, source, counts)
    counts["expressions"] = differences.cache_info().currsize // len(ZONES)
    for key in ("packages", "files", "jobs", "expressions", "reported @reboot", "unread", "lost"):
        print(f"{key:>18} {counts[key]}")
    print(f"{'instants compared':>18} {counts['instants']} in {len(ZONES)} zones")
    print(f"{'different':>18} {counts['different']}")
    print(f"{'seconds':>18} {time.monotonic() - started:.1f}")
    failed = counts["unread"] + counts["lost"] + counts["different"]
    return 1 if failed or counts["packages"] < NEEDED else 0


if __name__ == "__main__":
    sys.exit(main())
