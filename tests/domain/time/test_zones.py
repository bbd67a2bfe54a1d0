from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta, tzinfo
from importlib.resources import files
from itertools import pairwise
from zoneinfo._zoneinfo import ZoneInfo as PureZone

import pytest

from horae_domain.errors import InvalidTrigger
from horae_domain.zones import Timeline, load_zone, timeline, tzdata_version

NAMES = files("tzdata").joinpath("zones").read_text().split()


def test_a_zone_comes_with_its_name_and_only_once():
    assert load_zone("Europe/Berlin").key == "Europe/Berlin"
    assert load_zone("Europe/Berlin") is load_zone("Europe/Berlin")


def test_zones_do_not_come_from_the_host(tmp_path):
    code = (
        "from horae_domain.zones import load_zone; from datetime import datetime;"
        "print(datetime(2026, 7, 1, tzinfo=load_zone('Europe/Berlin')).utcoffset())"
    )
    (tmp_path / "Europe").mkdir()
    (tmp_path / "Europe" / "Berlin").write_bytes(
        files("tzdata").joinpath("zoneinfo", "Asia", "Tokyo").read_bytes()
    )
    printed = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONTZPATH": str(tmp_path)},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert printed.strip() == "2:00:00"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "Mars/Phobos",
        "europe/berlin",
        "Europe",
        "Europe/",
        "../zoneinfo/Europe/Berlin",
        "Europe/../Europe/Berlin",
        "/usr/share/zoneinfo/Europe/Berlin",
        "Europe/Berlin\0",
        "Europe\\Berlin",
        "zone.tab",
        "tzdata.zi",
        "leapseconds",
        "__init__.py",
        "x" * 10_000,
        None,
        3,
    ],
)
def test_what_is_no_zone_is_refused(name):
    with pytest.raises(InvalidTrigger) as refusal:
        load_zone(name, field="timezone")
    assert refusal.value.field == "timezone"


def test_the_version_of_the_database_is_known():
    assert len(tzdata_version()) == 5
    assert tzdata_version()[:2] == "20"


def offset(second, zone):
    return int(datetime.fromtimestamp(second, zone).utcoffset().total_seconds())


@pytest.mark.parametrize("name", NAMES)
def test_a_timeline_knows_every_change_of_the_database(name):
    """Each transition of the file that changes the offset, from 1900 on, and none besides."""
    with files("tzdata").joinpath("zoneinfo", *name.split("/")).open("rb") as file:
        zone = PureZone.from_file(file)
    kept = Timeline(load_zone(name))
    changes = [
        at
        for at in zone._trans_utc
        if at > -2_208_988_800 and offset(at, load_zone(name)) != offset(at - 1, load_zone(name))
    ]
    for at in changes:
        before, after = kept.stretch(at - 1), kept.stretch(at)
        assert (before.end, before.coming, after.last) == (at, after.last, before.coming)
        assert (after.last.at, before.offset, after.offset) == (
            at,
            offset(at - 1, load_zone(name)),
            offset(at, load_zone(name)),
        )
    assert all(right - left > 6.9 * 86_400 for left, right in pairwise(changes))


def test_blocks_that_are_kept_are_bounded():
    kept = timeline("Europe/Berlin")
    for day in range(0, 40_000, 6):
        kept.stretch(day * 86_400)
    assert len(kept._blocks) <= 4096
    assert kept.stretch(0).offset == 3600


def test_a_change_on_the_border_of_two_blocks_belongs_to_both():
    """A zone made up for it: the offset changes at a second that divides by six days."""
    border = 3000 * 6 * 86_400

    class Made(tzinfo):
        def fromutc(self, at):
            late = at.replace(tzinfo=UTC).timestamp() >= border
            return (at + timedelta(hours=int(late))).replace(fold=int(late))

        def utcoffset(self, at):
            return timedelta(hours=at.fold)

    kept = Timeline(Made())
    assert kept.stretch(border - 1)[:2] == (0, border)
    assert kept.stretch(border).offset == 3600
    assert kept.stretch(border).last == kept.stretch(border - 1).coming
    assert kept.stretch(border).last.at == border
