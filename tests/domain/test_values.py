"""What the domain hands about cannot be changed by who receives it."""

from __future__ import annotations

import inspect
from dataclasses import is_dataclass
from importlib import import_module
from pkgutil import iter_modules

import msgspec
import pytest
from pydantic import BaseModel

import horae_domain
from horae_domain.events import Because, Confirmation, Event

CLASSES = {
    each
    for module in iter_modules(horae_domain.__path__, "horae_domain.")
    for each in vars(import_module(module.name)).values()
    if isinstance(each, type) and each.__module__ == module.name
}
STRUCTS = sorted((each for each in CLASSES if issubclass(each, msgspec.Struct)), key=str)
MODELS = sorted((each for each in CLASSES if issubclass(each, BaseModel)), key=str)
DATACLASSES = sorted(filter(is_dataclass, CLASSES), key=str)
EVENTS = [each for each in STRUCTS if issubclass(each, Event)]


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


@pytest.mark.parametrize("event", EVENTS)
def test_an_event_is_made_of_named_fields_and_stores_what_is_no_default(event):
    kinds = {each.kind for each in inspect.signature(event).parameters.values()}
    assert kinds == {inspect.Parameter.KEYWORD_ONLY}
    assert event.__struct_config__.omit_defaults


DEFAULTS = {
    "tenant": "default",
    "priority": "medium",
    "queue": "default",
    **dict.fromkeys(("incarnation", "revision", "delivery", "need", "weight"), 1),
    **dict.fromkeys(("left", "failures", "polls", "received"), 0),
    **dict.fromkeys(("overridden", "unbounded", "local", "unsure"), False),
}


@pytest.mark.parametrize("event", [*EVENTS, Confirmation, Because])
def test_what_an_event_leaves_out_is_nothing_or_the_default_of_that_name(event):
    for field in msgspec.structs.fields(event):
        if field.default_factory is not msgspec.NODEFAULT:
            assert field.default_factory() in ({}, [])
        elif field.default is not msgspec.NODEFAULT and field.default not in (None, ""):
            assert field.default == DEFAULTS[field.name]
