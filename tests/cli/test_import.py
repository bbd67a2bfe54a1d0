"""`horae import crontab`: every line becomes a schedule or a problem, and again nothing changes."""

from __future__ import annotations

import uuid

import pytest

CRONTAB = """\
# nightly work
PATH=/usr/bin:/bin
MAILTO=ops@example.org
0 2 * * * tar -cf /backup.tar /srv
*/5 * * * * echo alive
@hourly echo hour
"""


@pytest.fixture
def crontab(tmp_path):
    """Write a crontab; its name is another one for each test."""
    path = tmp_path / f"crontab-{uuid.uuid4().hex[:8]}"

    def file(text):
        path.write_text(text)
        return str(path)

    return file


def results(said):
    return [(each["line"], each["result"]) for each in said.document["lines"]]


def test_crontab_is_imported_once_however_often_it_is_read(horae, crontab, until):
    file = crontab(CRONTAB)
    first = horae("import", "crontab", file, "--timezone", "Europe/Berlin", "--json")
    assert results(first) == [(4, "created"), (5, "created"), (6, "created")]
    ids = [each["id"] for each in first.document["lines"]]
    until(lambda: all(horae("schedule", "show", id_).code == 0 for id_ in ids))
    again = horae("import", "crontab", file, "--timezone", "Europe/Berlin", "--json")
    assert results(again) == [(4, "same"), (5, "same"), (6, "same")]
    document = horae("schedule", "show", ids[0], "--json").document
    assert document["trigger"]["timezone"] == "Europe/Berlin"
    assert document["action"]["command"] == ["/bin/sh", "-c", "tar -cf /backup.tar /srv"]
    assert document["action"]["env"]["MAILTO"] == "ops@example.org"
    assert document["revision"] == 1


def test_changed_and_gone_lines_are_reported_and_cancelled_by_choice(horae, crontab, until):
    first = horae("import", "crontab", crontab(CRONTAB), "--timezone", "UTC", "--json")
    ids = [each["id"] for each in first.document["lines"]]
    until(lambda: all(horae("schedule", "show", id_).code == 0 for id_ in ids))
    changed = CRONTAB.replace("ops@", "root@").replace("*/5 ", "*/6 ")
    file = crontab(changed)
    said = horae("import", "crontab", file, "--timezone", "UTC", "--json")
    assert results(said) == [
        (4, "changed"), (5, "created"), (6, "changed"), (None, "gone: still runs, see --prune"),
    ]  # fmt: skip
    assert said.document["lines"][-1]["id"] == ids[1]
    until(lambda: horae("schedule", "show", ids[0], "--json").document["revision"] == 2)
    said = horae("import", "crontab", file, "--timezone", "UTC", "--prune", "--json")
    assert results(said)[-1] == (None, "gone: cancelled")
    until(lambda: "cancelled" in horae("schedule", "show", ids[1]).out)


def test_line_that_cannot_be_read_blocks_the_file_unless_skipped(horae, crontab, until):
    file = crontab("61 * * * * echo never\n@reboot echo start\n0 4 * * * echo good\n")
    said = horae("import", "crontab", file, "--json")
    assert said.code == 1
    assert results(said) == [(1, "problem"), (2, "problem"), (3, "not imported")]
    text = horae("import", "crontab", file)
    assert text.code == 1
    assert "61" in text.out
    assert "@reboot" in text.out
    assert text.out.endswith("nothing is imported; --skip-problems imports the other lines\n")
    said = horae("import", "crontab", file, "--skip-problems", "--json")
    assert said.code == 0
    assert results(said) == [(1, "problem"), (2, "problem"), (3, "created")]


def test_dry_run_makes_nothing(command, crontab):
    """Nor does it need an engine."""
    said = command("import", "crontab", crontab(CRONTAB), "--dry-run", "--json")
    assert said.code == 0
    assert results(said) == [(4, "not imported"), (5, "not imported"), (6, "not imported")]
    assert "echo alive" in command("import", "crontab", crontab(CRONTAB), "--dry-run").out


def test_system_style_has_a_user(horae, crontab, until):
    file = crontab("0 3 * * * nobody echo night\n")
    said = horae("import", "crontab", file, "--system", "--json")
    id_ = said.document["lines"][0]["id"]
    until(lambda: horae("schedule", "show", id_).code == 0)
    assert horae("schedule", "show", id_, "--json").document["action"]["user"] == "nobody"


def test_machine_s_zone_is_taken_unless_told(command, crontab, monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    said = command("import", "crontab", crontab(CRONTAB), "--dry-run", "--json")
    assert said.document["timezone"] == "Asia/Tokyo"


def test_imported_line_runs(horae, crontab, until):
    file = crontab('GREETING=hello\n0 5 1 1 * echo "$GREETING" | tr a-z A-Z\n')
    said = horae("import", "crontab", file, "--json")
    id_ = said.document["lines"][0]["id"]
    run = horae("schedule", "trigger", id_, "--json").document["execution_id"]

    def result():
        shown = horae("execution", "show", run, "--json")
        return shown.document.get("result") if shown.code == 0 else None

    assert "HELLO" in str(until(result))
