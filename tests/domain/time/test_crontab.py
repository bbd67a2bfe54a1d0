from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from horae_domain.crontab import CrontabLine, Problem, parse_crontab, to_definition
from horae_domain.definition import parse_definition

SYSTEM = r"""# a comment
SHELL=/bin/bash
  # another
MAILTO = "two words"
'A B' = 'quoted'
PLAIN=some text  # not a comment
EMPTY=
PATH=/bin

17 *	* * *	root    cd / && run-parts /etc/cron.hourly
@daily nobody date +\%Y\n%first%second\%
@reboot root start
5 0 * * * www-data x=1 y
CRON_TZ=Asia/Tokyo
30 9 * * mon-fri root report
"""


def jobs(text, style="system"):
    return [one for one in parse_crontab(text, style=style) if isinstance(one, CrontabLine)]


def problems(text, style="system"):
    return [one for one in parse_crontab(text, style=style) if isinstance(one, Problem)]


def test_each_line_is_a_job_or_a_problem_in_order():
    assert [one.number for one in parse_crontab(SYSTEM, style="system")] == [10, 11, 12, 13, 15]


def test_a_system_crontab_names_the_user():
    first = jobs(SYSTEM)[0]
    assert (first.expression, first.user) == ("17 * * * *", "root")
    assert first.command == "cd / && run-parts /etc/cron.hourly"
    assert first.stdin is None


def test_a_user_crontab_has_no_column_for_the_user():
    (job,) = jobs("@hourly root is an argument", "user")
    assert (job.user, job.command) == (None, "root is an argument")


def test_settings_hold_for_the_lines_below_them():
    first, *_, last = jobs(SYSTEM)
    assert first.environment == {
        "SHELL": "/bin/bash",
        "MAILTO": "two words",
        "A B": "quoted",
        "PLAIN": "some text  # not a comment",
        "EMPTY": "",
        "PATH": "/bin",
    }
    assert last.environment["CRON_TZ"] == "Asia/Tokyo"


def test_a_percent_sign_ends_the_command_and_divides_the_lines_of_its_input():
    job = jobs(SYSTEM)[1]
    assert job.command == r"date +%Y\n"
    assert job.stdin == "first\nsecond%\n"


@pytest.mark.parametrize(
    ("rest", "command", "stdin"),
    [
        ("cat%", "cat", ""),
        ("cat%%", "cat", "\n"),
        ("cat%a%", "cat", "a\n"),
        (r"cat\\%a", r"cat\\", "a\n"),
        (r"cat \%\%", "cat %%", None),
        ("cat \\", "cat \\", None),
        (r"cat%a\b", "cat", "a\\b\n"),
    ],
)
def test_percent_signs_and_backslashes(rest, command, stdin):
    (job,) = jobs(f"* * * * * {rest}", "user")
    assert (job.command, job.stdin) == (command, stdin)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("@reboot root start", "`@reboot` is not supported"),
        ("@reboot", "`@reboot` is not supported"),
        ("@daily", "a command follows the time"),
        ("@daily root", "a user and a command"),
        ("* * * * *", "a command follows the time"),
        ("* * * * * root", "a user and a command"),
        ("* * * * * root %in", "a command follows the time"),
        ("* * * * root", "day-of-week"),
        ("61 * * * * root x", "minute '61'"),
        ("0~30 * * * * root x", "minute '0~30'"),
        ("0 0 30 2 * root x", "would never fire"),
        ('A="open', "an expression has five fields"),
        ("word", "an expression has five fields"),
        ("* * * * * root x\0y", "NUL"),
    ],
)
def test_what_is_no_job_is_a_problem_with_its_line_and_reason(line, reason):
    (problem,) = problems(f"# before\n{line}\n")
    assert (problem.number, problem.text) == (2, line)
    assert reason in problem.reason


def test_an_unknown_zone_is_a_problem_of_each_job_below_it():
    found = problems("CRON_TZ=Mars/Phobos\n0 0 * * * root x\nCRON_TZ=UTC\n0 0 * * * root x\n")
    assert [(one.number, "zone" in one.reason) for one in found] == [(2, True)]


def test_a_job_becomes_a_schedule_that_does_as_cron_did():
    definition = to_definition(jobs(SYSTEM)[3], "/etc/cron.d/report", timezone="Europe/Berlin")
    assert definition["trigger"] == {
        "type": "cron",
        "expression": "30 9 * * mon-fri",
        "timezone": "Asia/Tokyo",
    }
    assert definition["tags"] == ["crontab", "/etc/cron.d/report"]
    assert definition["action"] == {
        "type": "process",
        "command": ["/bin/bash", "-c", "report"],
        "env": {
            "SHELL": "/bin/bash",
            "PATH": "/bin",
            "MAILTO": "two words",
            "A B": "quoted",
            "PLAIN": "some text  # not a comment",
            "EMPTY": "",
        },
        "user": "root",
    }
    assert definition["overlap"] == "allow"
    assert definition["catch_up"] == {"mode": "skip"}
    assert definition["retry"] == {"max_attempts": 1}


def test_a_job_has_cron_s_shell_and_path_and_the_zone_of_the_import_unless_told():
    (job,) = jobs("0 0 * * * cat%x", "user")
    definition = to_definition(job, "me", timezone="Europe/Berlin")
    assert definition["trigger"]["timezone"] == "Europe/Berlin"
    assert definition["action"] == {
        "type": "process",
        "command": ["/bin/sh", "-c", "cat"],
        "env": {"SHELL": "/bin/sh", "PATH": "/usr/bin:/bin"},
        "stdin": "x\n",
    }


def test_the_id_follows_source_and_content_and_not_the_line_number():
    (here,) = jobs("0 0 * * * x", "user")
    (there,) = jobs("\n# more\n  0 0 * * * x  ", "user")
    assert to_definition(here, "me")["id"] == to_definition(there, "me")["id"]
    assert to_definition(here, "me")["id"] != to_definition(here, "you")["id"]
    assert to_definition(here, "me")["id"].startswith("crontab.me.")


def test_the_same_line_twice_is_two_schedules():
    found = [to_definition(job, "me")["id"] for job in jobs("@daily x\n@daily x", "user")]
    assert found == ["crontab.me.be9050055730b700", "crontab.me.2f9535dd8de6e32a"], (
        "ids stay what they were"
    )


@given(
    st.text()
    | st.lists(
        st.sampled_from(["* ", "5 ", "@daily ", "root ", "x", "=", '"', "%", "\\", "\n", "#"])
    ).map("".join)
)
def test_any_text_gives_schedules_or_problems(text):
    for style in ("user", "system"):
        for one in parse_crontab(text, style=style):
            assert one.text
            if isinstance(one, Problem):
                assert one.reason
            else:
                assert parse_definition(to_definition(one, "text")).trigger.type == "cron"
