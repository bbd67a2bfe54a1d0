"""Requests as bytes, errors as JSON and back, positions as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from horae_domain import errors
from horae_domain.errors import (
    Conflict,
    HoraeError,
    InvalidField,
    NotFound,
    PayloadTooLarge,
    TooManyRequests,
    Unavailable,
    UnknownHandler,
    error_from_json,
)
from horae_domain.fields import MAX_PAYLOAD, Model
from horae_domain.positions import Position, parse_position
from horae_domain.wire import (
    MAX_BULK,
    MAX_REQUEST,
    ExecutionId,
    Json,
    Key,
    Note,
    read_object,
    validate,
)


class Message(Model):
    id: ExecutionId = "2a019b8b-7502-6057-266e-626ad33819ed"
    key: Key = "k"
    note: Note = ""
    payload: Json = None


# --- requests ------------------------------------------------------------------------------------


def test_request_is_a_json_object():
    assert read_object(b'{"a": [1, "\xc3\xa9"]}') == {"a": [1, "é"]}
    assert read_object(b"") == {}


@pytest.mark.parametrize(
    "body",
    [b"[]", b"5", b"null", b"{", b'{"a": NaN}', b'{"a": 1e999}', b"\xff", b"[" * 100_000],
)
def test_what_is_no_json_object_is_refused(body):
    with pytest.raises(InvalidField) as caught:
        read_object(body)
    assert (caught.value.code, caught.value.field) == ("invalid_field", None)


def test_request_over_its_limit_is_refused():
    assert (MAX_REQUEST, MAX_BULK, MAX_PAYLOAD) == (2 << 20, 16 << 20, 1 << 20)
    body = b'{"a":"' + b"x" * (MAX_REQUEST - 8) + b'"}'
    assert len(body) == MAX_REQUEST
    assert read_object(body)
    with pytest.raises(PayloadTooLarge) as caught:
        read_object(body + b" ")
    assert caught.value.details == {"limit": MAX_REQUEST, "size": MAX_REQUEST + 1}
    assert read_object(body + b" ", MAX_BULK)


@pytest.mark.parametrize(
    ("content", "code", "field"),
    [
        ({"id": "2A019B8B-7502-6057-266E-626AD33819ED"}, "invalid_field", "id"),
        ({"id": "2a019b8b-7502-6057-266e-626ad33819ed\n"}, "invalid_field", "id"),
        ({"id": "x"}, "invalid_field", "id"),
        ({"key": ""}, "invalid_field", "key"),
        ({"key": "k" * 256}, "invalid_field", "key"),
        ({"note": "n" * 1025}, "invalid_field", "note"),
        ({"payload": "p" * MAX_PAYLOAD}, "payload_too_large", "payload"),
        ({"payload": {1}}, "invalid_field", "payload"),
        ({"other": 1}, "invalid_field", "other"),
    ],
)
def test_message_that_breaks_a_rule_is_refused_with_its_field(content, code, field):
    with pytest.raises(InvalidField) as caught:
        validate(Message, content)
    assert (caught.value.code, caught.value.field) == (code, field)


def test_nesting_that_no_json_parser_follows_is_refused():
    deep: list[object] = []
    for _ in range(20_000):
        deep = [deep]
    with pytest.raises(InvalidField) as caught:
        validate(Message, {"payload": deep})
    assert caught.value.field == "payload"


def test_message_within_its_rules_is_accepted():
    told = {"key": "k" * 255, "note": "n" * 1024, "payload": "p" * (MAX_PAYLOAD - 2)}
    found = validate(Message, told)
    assert (found.key, found.payload) == (told["key"], told["payload"])


# --- errors --------------------------------------------------------------------------------------

KINDS = sorted(errors._BY_CODE.values(), key=lambda kind: kind.code)


def test_every_error_has_a_code_of_its_own_and_is_in_the_tree():
    assert len(KINDS) >= 19
    assert errors.__doc__ is not None
    for kind in KINDS:
        assert kind.__name__ in errors.__doc__
        if kind not in {HoraeError, NotFound, Conflict}:
            assert f"{kind.status} {kind.code}" in errors.__doc__


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.code)
def test_error_survives_the_wire(kind):
    error = kind("why", field="a.b", value=5, known=["x"])
    body = error.to_json()
    assert body == {
        "code": kind.code,
        "message": "why",
        "field": "a.b",
        "value": "5",
        "known": ["x"],
    }
    again = error_from_json(kind.status, {"ok": False, "error": body})
    assert type(again) is kind
    assert again.to_json() == body
    assert (again.message, again.field, again.value) == ("why", "a.b", "5")
    assert again.details == {"known": ["x"]}


def test_roots_of_errors_have_the_status_of_their_kind():
    assert (HoraeError.code, HoraeError.status) == ("error", 500)
    assert (NotFound.code, NotFound.status) == ("not_found", 404)
    assert (Conflict.code, Conflict.status) == ("conflict", 409)


def test_error_says_no_more_than_it_knows():
    assert InvalidField("why").to_json() == {"code": "invalid_field", "message": "why"}
    assert InvalidField("why", value=0).value == "0"
    assert InvalidField("why", value="x" * 999).value == "x" * 200


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InvalidField),
        (404, NotFound),
        (409, Conflict),
        (429, TooManyRequests),
        (503, Unavailable),
        (500, HoraeError),
        (418, HoraeError),
    ],
)
def test_unknown_code_is_the_general_error_of_its_status(status, kind):
    body = {"error": {"code": "brand_new", "message": "m", "hint": 1}}
    error = error_from_json(status, body)
    assert type(error) is kind
    assert (error.message, error.details) == ("m", {"code": "brand_new", "hint": 1})


@pytest.mark.parametrize("body", [{}, {"error": None}, {"error": "text"}])
def test_refusal_without_a_body_is_still_an_error(body):
    error = error_from_json(503, body)
    assert error.message == "refused with status 503"
    assert isinstance(error, HoraeError)


def test_known_code_wins_over_the_status():
    assert type(error_from_json(500, {"error": {"code": "unknown_handler"}})) is UnknownHandler


# --- positions -----------------------------------------------------------------------------------

positions = st.builds(
    Position,
    st.from_regex(r"[0-9A-Za-z_-]{1,64}", fullmatch=True),
    st.integers(0, 10**9 - 1),
    st.integers(0, 10**18 - 1),
)


@given(positions)
def test_position_survives_its_text(position):
    assert parse_position(str(position)) == position


def test_position_is_shown_as_text_and_read_from_it():
    assert str(Position("3f9a2b1c", 0, 123)) == "3f9a2b1c.0.123"
    assert parse_position("3f9a2b1c.0.123") == Position("3f9a2b1c", 0, 123)


@pytest.mark.parametrize(
    "text",
    ["", "a", "a.0", "a.0.", ".0.1", "a.0.1.2", "a.-1.0", "a.0.1\n", "a.0.x", "a b.0.1",
     "a" * 65 + ".0.1", "a.1234567890.1", "a.0." + "1" * 19],
)  # fmt: skip
def test_text_that_is_no_position_is_refused(text):
    with pytest.raises(InvalidField) as caught:
        parse_position(text, field="min_position")
    assert (caught.value.field, caught.value.value) == ("min_position", text)
    with pytest.raises(InvalidField) as caught:
        parse_position(text)
    assert caught.value.field == "position"


def test_positions_compare_only_within_one_log():
    here = Position("a", 0, 5)
    assert here.reached_by(Position("a", 0, 5))
    assert here.reached_by(Position("a", 0, 6))
    assert not here.reached_by(Position("a", 0, 4))
    assert not here.reached_by(Position("a", 1, 6))
    assert not here.reached_by(Position("b", 0, 6))
