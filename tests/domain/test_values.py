"""What the domain hands about cannot be changed by who receives it."""

from __future__ import annotations

import inspect
from dataclasses import is_dataclass
from importlib import import_module
from pkgutil import walk_packages

import msgspec
import pytest
from pydantic import BaseModel

import horae_domain
from horae_domain.backfills import Backfill
from horae_domain.events import Because, Confirmation, Event
from horae_domain.execution import Execution
from horae_domain.ledger import Checked, Line, Packed
from horae_domain.limits import Limits
from horae_domain.plans import Plan
from horae_domain.schedule import Schedule

CLASSES = {
    each
    for module in walk_packages(horae_domain.__path__, "horae_domain.")
    for each in vars(import_module(module.name)).values()
    if isinstance(each, type) and each.__module__ == module.name
}
STRUCTS = sorted((each for each in CLASSES if issubclass(each, msgspec.Struct)), key=str)
MODELS = sorted((each for each in CLASSES if issubclass(each, BaseModel)), key=str)
DATACLASSES = sorted(filter(is_dataclass, CLASSES), key=str)
STORED = [*(each for each in STRUCTS if issubclass(each, Event)), Confirmation, Because]


@pytest.mark.parametrize("struct", STRUCTS)
def test_a_struct_is_immutable(struct):
    assert struct.__struct_config__.frozen


@pytest.mark.parametrize("model", MODELS)
def test_a_model_is_immutable_and_takes_what_it_knows(model):
    assert model.model_config["frozen"]
    assert model.model_config["extra"] == "forbid"
    assert model.model_config["allow_inf_nan"] is False


@pytest.mark.parametrize("dataclass", DATACLASSES)
def test_a_dataclass_is_immutable_and_has_no_room_for_more(dataclass):
    assert dataclass.__dataclass_params__.frozen
    assert "__slots__" in vars(dataclass)


@pytest.mark.parametrize("event", STORED)
def test_an_event_leaves_out_what_is_a_default(event):
    assert event.__struct_config__.omit_defaults


@pytest.mark.parametrize("struct", [*STORED, Execution, Limits, Line, Schedule])
def test_what_has_many_fields_is_made_by_their_names(struct):
    kinds = {each.kind for each in inspect.signature(struct).parameters.values()}
    assert kinds == {inspect.Parameter.KEYWORD_ONLY}


@pytest.mark.parametrize("struct", [Backfill, Checked, Packed, Plan])
def test_what_a_packed_line_holds_is_written_without_names(struct):
    assert struct.__struct_config__.array_like


DEFAULTS = {
    "tenant": "default",
    "priority": "medium",
    "queue": "default",
    **dict.fromkeys(("incarnation", "revision", "delivery", "need", "weight"), 1),
    **dict.fromkeys(("left", "failures", "polls", "received", "depth"), 0),
    **dict.fromkeys(("overridden", "unbounded", "local", "unsure", "aside"), False),
}


@pytest.mark.parametrize("event", STORED)
def test_what_an_event_leaves_out_is_nothing_or_the_default_of_that_name(event):
    for field in msgspec.structs.fields(event):
        if field.default_factory is not msgspec.NODEFAULT:
            assert field.default_factory() in ({}, [])
        elif field.default is not msgspec.NODEFAULT and field.default not in (None, ""):
            assert field.default == DEFAULTS[field.name]
