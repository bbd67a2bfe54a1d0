"""What other schedulers assert of cron expressions, as far as Horae follows the same rule."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from horae_domain.cron import parse_cron
from horae_domain.errors import InvalidTrigger
from horae_domain.recurrence import cron_recurrence, preview

CASES = Path(__file__).parents[2] / "cases"

EXCLUDED = {
    "cronsim-0043": "T1 refuses LW by name",
    "cronsim-0275": "dialects disagree on a step after L, so it is not portable",
    "cronsim-0276": "T1 refuses LW by name",
    "croniter-0320": "T1 takes Vixie's rule: a field that begins with * makes both days necessary",
    "cron-parser-0769": "T1 lets a fixed time fire at the first instant after a gap of any length",
}
"""Cases of dialects or kinds that bind Horae, which the rule named here decides otherwise."""


def read(name):
    return json.loads((CASES / name).read_text())["cases"]


def binds(case):
    """Whether Horae follows the rule that the case comes from."""
    return bool(
        case.get("core")
        or case.get("policy_neutral")
        or case.get("consensus")
        or (case["dialect"] == "cronsim" and not case.get("policy_specific"))
        or case["id"] in EXCLUDED
    )


def instant(text, zone):
    """Without a zone the case means wall time, whatever offset its texts carry."""
    at = datetime.fromisoformat(text)
    return at.replace(tzinfo=UTC) if zone is None or at.tzinfo is None else at


def agrees(case):
    try:
        return FOLLOWED[case["kind"]](case)
    except InvalidTrigger:
        return case["kind"] in {"invalid", "none"}


def follows_next(case):
    zone = case["tz"]
    found = preview(
        cron_recurrence(case["expr"], zone or "UTC"),
        instant(case["start"], zone),
        len(case["next"]),
    )
    return [one.due for one in found] == [instant(text, zone) for text in case["next"]]


def follows_prev(case):
    zone, found = case["tz"], []
    at = instant(case["start"], zone)
    for _ in case["prev"]:
        occurrence = cron_recurrence(case["expr"], zone or "UTC").previous(at)
        at = occurrence.due
        found.append(at)
    return found == [instant(text, zone) for text in case["prev"]]


def follows_match(case):
    recurrence = cron_recurrence(case["expr"], case["tz"] or "UTC")
    return recurrence.matches(instant(case["at"], case["tz"])) is case["match"]


def follows_none(case):
    recurrence = cron_recurrence(case["expr"], case["tz"] or "UTC")
    step = recurrence.next if case["direction"] == "next" else recurrence.previous
    return step(instant(case["start"], case["tz"])) is None


def is_valid(case):
    parse_cron(case["expr"])
    return True


FOLLOWED = {
    "next": follows_next,
    "prev": follows_prev,
    "match": follows_match,
    "none": follows_none,
    "valid": is_valid,
    "invalid": lambda case: not is_valid(case),
}

ALL = [case for name in ("cron_next", "cron_dst", "cron_invalid") for case in read(f"{name}.json")]
BINDING = [case for case in ALL if binds(case)]


@pytest.mark.parametrize("case", BINDING, ids=lambda case: case["id"])
def test_binding_case_holds_unless_a_rule_excludes_it(case):
    assert agrees(case) is (case["id"] not in EXCLUDED)


def test_the_list_of_exclusions_knows_its_cases():
    assert set(EXCLUDED) <= {case["id"] for case in ALL}


def test_every_kind_of_case_is_among_the_binding_ones():
    assert {case["kind"] for case in BINDING} == {"next", "prev", "match", "valid", "invalid"}
    assert len(BINDING) > 250


@pytest.mark.parametrize(
    "case",
    [case for case in ALL if case["kind"] == "none" and "opts" not in case],
    ids=lambda case: case["id"],
)
def test_what_never_fires_elsewhere_is_refused_or_never_fires(case):
    assert agrees(case)
