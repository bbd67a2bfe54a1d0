"""What compares crontabs with the engine is itself compared: sound input passes, tampered does not."""

from __future__ import annotations

import copy
import subprocess
from datetime import UTC, datetime, timedelta

import pytest
from crontab_imports import differences
from crontab_ledger import Run, fill, key_of, ledger_lines, table, with_ledger
from crontab_reading import read

from horae_domain.crontab import Problem, parse_crontab, to_definition

CRONTAB = r"""# a comment
MAILTO=root
PATH = "/sbin:/bin"
* *	* * *   barman	[ -x /usr/bin/barman ] && barman cron
@reboot root start
57 0 * * 0 root [ $(date +\%d) -le 7 ]%first%second
@daily www-data clean
"""
ZONE = "Europe/Berlin"


# --- reading -------------------------------------------------------------------------------------


def test_words_of_a_line_are_time_user_command_and_input():
    jobs = read(CRONTAB, system=True)
    assert [(job.number, job.expression, job.user, job.command, job.stdin) for job in jobs] == [
        (4, "* * * * *", "barman", "[ -x /usr/bin/barman ] && barman cron", None),
        (5, "@reboot", "root", "start", None),
        (6, "57 0 * * 0", "root", "[ $(date +%d) -le 7 ]", "first\nsecond\n"),
        (7, "@daily", "www-data", "clean", None),
    ]
    assert jobs[0].time == "* *\t* * *   "
    assert jobs[0].environment == {"SHELL": "/bin/sh", "PATH": "/sbin:/bin", "MAILTO": "root"}


def test_user_s_crontab_has_no_column_for_the_user():
    (job,) = read("5 0 * * * root x=1", system=False)
    assert (job.user, job.command, job.environment["PATH"]) == (None, "root x=1", "/usr/bin:/bin")


# --- imports -------------------------------------------------------------------------------------


@pytest.fixture
def imported():
    """What the command says of the crontab, and the schedules that it makes."""
    rows, schedules = [], {}
    for line in parse_crontab(CRONTAB, style="system"):
        if isinstance(line, Problem):
            rows.append({"line": line.number, "id": None, "result": "problem", "reason": "no"})
            continue
        definition = to_definition(line, "package/file", timezone=ZONE)
        rows.append({"line": line.number, "id": definition["id"], "result": "created"})
        schedules[definition["id"]] = definition | {"status": "active"}
    return {"lines": rows}, copy.deepcopy(schedules)


def complaints(imported):
    said, schedules = imported
    return list(differences(read(CRONTAB, system=True), ZONE, said, schedules))


def test_sound_import_has_no_differences(imported):
    assert complaints(imported) == []


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        ("trigger", "expression", "57 0 * * 1"),
        ("trigger", "timezone", "UTC"),
        ("action", "command", ["/bin/sh", "-c", r"[ $(date +\%d) -le 7 ]"]),
        ("action", "user", "barman"),
        ("action", "stdin", "first\nsecond"),
        ("action", "env", {"SHELL": "/bin/sh", "PATH": "/usr/bin:/bin", "MAILTO": "root"}),
    ],
)
def test_schedule_that_says_something_else_is_seen(imported, part, name, value):
    said, schedules = imported
    schedules[said["lines"][2]["id"]][part][name] = value
    (complaint,) = complaints(imported)
    assert complaint.startswith(f"6: {name} is ")


def test_line_that_was_left_out_is_seen(imported):
    said, schedules = imported
    del schedules[said["lines"].pop()["id"]]
    assert complaints(imported) == ["7: lost: None"]


def test_line_that_was_not_read_is_seen(imported):
    said, schedules = imported
    del schedules[said["lines"][3]["id"]]
    said["lines"][3] = {"line": 7, "id": None, "result": "problem", "reason": "an odd alias"}
    assert complaints(imported) == ["7: problem: an odd alias"]


def test_comment_that_became_a_schedule_is_seen(imported):
    imported[0]["lines"].append({"line": 1, "id": "more", "result": "created"})
    assert ["1: is no job" in each for each in complaints(imported)] == [True]


def test_schedule_that_the_engine_lost_or_invented_is_seen(imported):
    said, schedules = imported
    schedules["other"] = schedules.pop(said["lines"][0]["id"])
    assert complaints(imported) == [
        "a schedule that no line has made: other",
        "4: the engine does not have its schedule",
    ]


# --- the run by the clock ------------------------------------------------------------------------

NINE = datetime(2026, 3, 1, 9, tzinfo=UTC)
MINUTES = [NINE + timedelta(minutes=n) for n in range(4)]
END = NINE + timedelta(minutes=3, seconds=30)
LATE = timedelta(seconds=2)


def judged(ledger, executions):
    """Complaints about a job that was due in each of four minutes, and one that was not due."""
    runs = {
        "often": Run("often", "* * * * *", ZONE, expected=MINUTES),
        "seldom": Run("seldom", "0 0 1 1 *", ZONE),
    }
    strays = fill(runs, ledger, executions, END)
    return strays + [each for run in runs.values() for each in run.complaints()]


@pytest.fixture
def ledger():
    return [("often", at + LATE) for at in MINUTES]


@pytest.fixture
def executions():
    return [("often", at, "succeeded") for at in MINUTES]


def test_sound_run_has_no_differences_and_what_came_later_does_not_count(ledger, executions):
    later = END + timedelta(seconds=30)
    ledger.append(("often", later))
    executions.append(("often", later, "running"))
    assert judged(ledger, executions) == []


def test_dropped_line_of_the_ledger_is_seen(ledger, executions):
    del ledger[2]
    (complaint,) = judged(ledger, executions)
    assert "09:02:00: due 1 times, 0 lines in the ledger, 1 executions" in complaint


def test_doubled_line_of_the_ledger_is_seen(ledger, executions):
    ledger.append(ledger[1])
    (complaint,) = judged(ledger, executions)
    assert "09:01:00: due 1 times, 2 lines in the ledger, 1 executions" in complaint


def test_line_of_the_ledger_in_the_wrong_minute_is_seen(ledger, executions):
    ledger[0] = ("often", MINUTES[1])
    assert [each.partition(":00: ")[2] for each in judged(ledger, executions)] == [
        "due 1 times, 0 lines in the ledger, 1 executions",
        "due 1 times, 2 lines in the ledger, 1 executions",
    ]


def test_missing_and_doubled_executions_are_seen(ledger, executions):
    executions[3] = executions[0]
    assert [each.partition(":00: ")[2] for each in judged(ledger, executions)] == [
        "due 1 times, 1 lines in the ledger, 2 executions",
        "due 1 times, 1 lines in the ledger, 0 executions",
    ]


@pytest.mark.parametrize("status", ["failed", "running", "succeeded in 2 attempts"])
def test_execution_that_did_not_simply_succeed_is_seen(ledger, executions, status):
    executions[0] = ("often", NINE, status)
    (complaint,) = judged(ledger, executions)
    assert complaint.endswith(f"09:00:00: {status}")


def test_job_that_ran_though_it_was_not_due_is_seen(ledger, executions):
    executions.append(("seldom", NINE, "succeeded"))
    ledger.append(("seldom", NINE + LATE))
    (complaint,) = judged(ledger, executions)
    assert complaint.startswith("seldom 0 0 1 1 * Europe/Berlin 09:00:00: due 0 times")


def test_line_and_execution_of_no_job_are_seen(ledger, executions):
    found = judged([*ledger, ("x", NINE)], [*executions, ("y", NINE, "succeeded")])
    assert [each.split(":")[0] for each in found] == [
        "a line of nobody in the ledger",
        "an execution of nobody",
    ]


def test_table_counts_what_is_wrong_and_leaves_out_who_was_not_due():
    often = Run("a", "* * * * *", ZONE, MINUTES, MINUTES[1:], [(at, "failed") for at in MINUTES])
    _, *rows = table([often, Run("b", "0 0 1 1 *", ZONE)])
    assert [row.split()[-6:] for row in rows] == [[ZONE, "1", "4", "3", "0", "5"]]


def test_commands_alone_are_replaced(tmp_path):
    ledger = tmp_path / "100%" / "ledger"
    text, runs = with_ledger(CRONTAB, ledger, system=True, source="a/b", zone=ZONE)
    ours, theirs = CRONTAB.split("\n"), text.split("\n")
    assert [n for n, line in enumerate(ours) if theirs[n] != line] == [3, 4, 5, 6]
    assert theirs[4] == ""
    assert theirs[3].startswith("* *\t* * *   /")
    assert theirs[6].startswith("@daily /")
    assert [run.key for run in runs] == [key_of(theirs[n]) for n in (3, 5, 6)]
    assert runs[1] == Run(f"a/b:6:{ZONE}", "57 0 * * 0", ZONE)
    (job, *_) = read(text, system=False)
    assert str(ledger) in job.command


def test_command_writes_its_key_and_the_instant(tmp_path):
    """As a shell runs it, with nothing around it."""
    ledger = tmp_path / "ledger"
    ledger.touch()
    text, (run, *_) = with_ledger(CRONTAB, ledger, system=True, source="a/b", zone=ZONE)
    before = datetime.now(UTC)
    for _ in range(2):
        command = read(text, system=False)[0].command
        subprocess.run(["/bin/sh", "-c", command], check=True, env={}, cwd="/")
    lines = ledger_lines(ledger.read_text())
    assert [key for key, _ in lines] == [run.key, run.key]
    assert before <= lines[0][1] <= lines[1][1] <= datetime.now(UTC)
