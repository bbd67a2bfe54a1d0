"""The stages of an execution: what it does first, and what follows from how that ended.

A plain action is one stage. A wait has a second one (`then`), steps have one each (`step:charge`)
and one for what takes each back (`undo:charge`); a fallback is a stage as well. The next command
is a function of the definition and of the events so far, and its id one of the execution and the
stage, so that whoever carries it out knows it again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from horae_domain.actions import Deed, NoAction, Step, StepsAction
from horae_domain.definition import Definition

if TYPE_CHECKING:
    from horae_domain.execution import Execution

FIRST = ""
"""The stage of a plain action."""
WAIT = "wait"
THEN = "then"
FALLBACK = "fallback"
UNCONFIRMED = "unconfirmed"
"""The fallback of a wait."""
END = "end"
"""After the last step has been taken back."""
STEP = "step:"
UNDO = "undo:"

NOT_RECEIVED = "confirmation_not_received"
"""The reason of a fallback that a confirmation did not come in time for (W4)."""
UNRESOLVED = "match_unresolved"
"""The reason of a fallback where no value is known that a confirmation would have to have."""

_FALLBACKS = {FALLBACK, UNCONFIRMED}


class StageCommand(NamedTuple):
    """What is to be carried out next; every attempt of it has the same id."""

    id: str
    stage: str
    action: Deed
    payload: Any


def first(definition: Definition) -> str:
    """The stage that an execution begins with."""
    match definition.action:
        case NoAction():
            return WAIT
        case StepsAction(steps=steps):
            return STEP + steps[0].name
        case _:
            return FIRST


def current(definition: Definition, stage: str) -> str:
    """The stage that an execution is at; one that has said nothing is at the first."""
    return stage or first(definition)


def last(stage: str) -> bool:
    """True if no fallback follows when it fails: it is one, or takes something back."""
    return stage in _FALLBACKS or stage.startswith(UNDO)


def before_wait(stage: str) -> bool:
    """True while a wait, if there is one, is still to come."""
    return stage in {FIRST, WAIT} or stage.startswith(STEP)


def deed_of(definition: Definition, stage: str) -> Deed | None:
    """What is done at a stage; None while nothing is."""
    stage = current(definition, stage)
    wait = definition.wait_for
    if stage.startswith(STEP):
        return _step(definition, stage.removeprefix(STEP)).action
    if stage.startswith(UNDO):
        return _step(definition, stage.removeprefix(UNDO)).compensate
    if stage in {THEN, UNCONFIRMED}:
        return None if wait is None else wait.then if stage == THEN else wait.fallback
    if stage == FALLBACK:
        return definition.fallback
    action = definition.action
    return None if stage == WAIT or isinstance(action, NoAction | StepsAction) else action


def deeds(definition: Definition) -> list[tuple[str, Deed]]:
    """All that an execution may do, each with the path of the definition's field."""
    wait = definition.wait_for
    found: list[tuple[str, Deed | None]] = [("fallback", definition.fallback)]
    if wait is not None:
        found += [("wait_for.then", wait.then), ("wait_for.fallback", wait.fallback)]
    for index, step in enumerate(_steps(definition)):
        path = f"action.steps[{index}]"
        found += [(f"{path}.action", step.action), (f"{path}.compensate", step.compensate)]
    if not isinstance(definition.action, NoAction | StepsAction):
        found.insert(0, ("action", definition.action))
    return [(path, deed) for path, deed in found if deed is not None]


def after(definition: Definition, stage: str) -> str | None:
    """The stage after one that has succeeded; None at the end."""
    stage = current(definition, stage)
    if stage.startswith(STEP):
        names = [step.name for step in _steps(definition)]
        place = names.index(stage.removeprefix(STEP)) + 1
        if place < len(names):
            return STEP + names[place]
    elif stage != FIRST:
        return None
    return None if definition.wait_for is None else WAIT


def undoing(definition: Definition, done: Sequence[str]) -> str | None:
    """The stage that takes back the last step done; steps that nothing takes back are passed over."""
    for name in reversed(done):
        if _step(definition, name).compensate is not None:
            return UNDO + name
    return None


def undone(done: Sequence[str], stage: str) -> tuple[str, ...]:
    """The steps that are left when the one of an undoing stage is taken back."""
    return tuple(done[: list(done).index(stage.removeprefix(UNDO))])


def fallback_for(definition: Definition, reason: str) -> str | None:
    """The stage that follows where nothing else does; None if there is no fallback."""
    wait = definition.wait_for
    if reason in {NOT_RECEIVED, UNRESOLVED} and wait is not None and wait.fallback is not None:
        return UNCONFIRMED
    return None if definition.fallback is None else FALLBACK


def command_id(execution_id: str, stage: str) -> str:
    """The same for every attempt at a stage, and for no other."""
    return execution_id if stage == FIRST else f"{execution_id}:{stage}"


def command_of(definition: Definition, run: Execution) -> StageCommand | None:
    """What an execution is to do next, or does; None if it waits for something else, or has ended."""
    stage = current(definition, run.stage)
    deed = deed_of(definition, stage)
    if deed is None or not run.status.alive or run.status == "waiting":
        return None
    return StageCommand(command_id(run.id, stage), stage, deed, payload_of(definition, run))


def payload_of(definition: Definition, run: Execution) -> Any:
    """What a handler gets: after a confirmation its data, else what the schedule or trigger says."""
    if run.stage == THEN and definition.wait_for is not None:
        told = [each.data for each in run.confirmations]
        return told[0] if len(definition.wait_for.awaited) == 1 else told
    if run.overridden:
        return run.payload
    return run.trigger.get("data") if definition.payload is None else definition.payload


def _steps(definition: Definition) -> tuple[Step, ...]:
    action = definition.action
    return action.steps if isinstance(action, StepsAction) else ()


def _step(definition: Definition, name: str) -> Step:
    return next(step for step in _steps(definition) if step.name == name)
