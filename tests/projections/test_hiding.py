"""Payloads of shipped handlers are shown without their secrets, wherever they stand."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest

from horae_domain.plans import Plan
from horae_projections.hiding import may_hide, without_secrets
from horae_projections.preview import payload_of

NOTIFY, CHECK = "horae.notify", "horae.health_check"


@pytest.mark.parametrize(
    ("handler", "payload", "shown"),
    [
        (NOTIFY, {"urls": ["slack://a/b", "env:HORAE_NOTIFY_X", "tok", 7], "body": "x"},
         {"urls": ["slack://***", "env:HORAE_NOTIFY_X", "***", 7], "body": "x"}),
        (NOTIFY, {"urls": "slack://a"}, {"urls": "slack://a"}),
        (NOTIFY, None, None),
        (CHECK, {"targets": [{"url": "http://u:p@h/x?k=v"}, {"host": "h"}, 5]},
         {"targets": [{"url": "http://***@h/x?***"}, {"host": "h"}, 5]}),
        (CHECK, {"urls": ["slack://a"]}, {"urls": ["slack://a"]}),
        ("mine", {"urls": ["slack://a"]}, {"urls": ["slack://a"]}),
        (None, {"targets": [{"url": "http://u:p@h"}]}, {"targets": [{"url": "http://u:p@h"}]}),
    ],
)  # fmt: skip
def test_secrets_of_shipped_handlers_are_left_out(handler, payload, shown):
    assert without_secrets(handler, payload) == shown


@pytest.mark.parametrize(
    ("payload", "may"),
    [({"urls": []}, True), ({"targets": 1}, True), ({"body": "x"}, False), (["urls"], False)],
)
def test_handler_is_asked_for_only_where_it_matters(payload, may):
    assert may_hide(payload) is may


def test_payload_of_a_single_occurrence_is_shown_in_the_same_way():
    plan = Plan(
        kind="calendar",
        due=datetime(2026, 1, 1, tzinfo=UTC),
        payload=msgspec.json.encode({"urls": ["slack://a"]}),
    )
    assert payload_of(plan, NOTIFY) == {"payload": {"urls": ["slack://***"]}}
    assert payload_of(None, NOTIFY) == {}
