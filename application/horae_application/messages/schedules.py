"""Commands about schedules."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from horae_application.messages.base import Command, DefinitionCommand, SingleCommand
from horae_domain.backfills import Order
from horae_domain.fields import Instant, Model
from horae_domain.wire import Json, Key, Note


class CreateSchedule(DefinitionCommand):
    """`schedule.create`: the definition itself, and `allow_unknown`."""

    name = "schedule.create"
    allow_unknown: bool = False


class CreateMany(Command):
    """`schedule.create_many`: up to 10,000 definitions, each answered by itself."""

    name = "schedule.create_many"
    schedules: Annotated[list[Any], Field(min_length=1, max_length=10_000)]
    allow_unknown: bool = False
    dry_run: bool = False
    """Look at each as far as it can be judged by itself, and decide nothing."""


class ValidateSchedule(Command):
    """`schedule.validate`: what creating it would be refused for, and what to know before."""

    name = "schedule.validate"
    definition: dict[str, Any]
    allow_unknown: bool = False


class UpdateSchedule(DefinitionCommand):
    """`schedule.update`: the whole definition, guarded by `expected_revision` if given."""

    name = "schedule.update"
    expected_revision: int | None = None
    allow_unknown: bool = False


class PatchSchedule(SingleCommand):
    """`schedule.patch`: fields of a JSON merge patch (RFC 7396) of the definition, beside `id`."""

    name = "schedule.patch"
    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Json]
    expected_revision: int | None = None
    allow_unknown: bool = False

    @property
    def patch(self) -> dict[str, Any]:
        """What is merged."""
        return self.__pydantic_extra__


Tag = Annotated[str, Field(min_length=1, max_length=128)]
Tags = Annotated[tuple[Tag, ...], Field(max_length=64)]


class RetagSchedule(SingleCommand):
    """`schedule.retag`: take tags away, then add others."""

    name = "schedule.retag"
    add: Tags = ()
    remove: Tags = ()


class TagChange(Model):
    """Tags to add and to take away."""

    add: Tags = ()
    remove: Tags = ()


class BulkSchedules(Command):
    """`schedule.bulk`: an operation on all schedules that match the filters of `schedule.list`.

    A filter that leaves none out is refused, unless `all` says that all of the tenant are meant.
    """

    name = "schedule.bulk"
    filter: dict[str, Any] = Field(default_factory=dict)
    all: bool = False
    operation: Literal["pause", "resume", "cancel", "retag"]
    note: Note = ""
    tags: TagChange | None = None
    dry_run: bool = False

    @model_validator(mode="after")
    def _has_its_tags(self) -> Self:
        if (self.operation == "retag") != (self.tags is not None):
            raise PydanticCustomError(
                "tags", "`tags` belong to the operation retag, and it to them"
            )
        return self


class PauseSchedule(SingleCommand):
    """`schedule.pause`."""

    name = "schedule.pause"
    note: Note = ""


class ResumeSchedule(SingleCommand):
    """`schedule.resume`."""

    name = "schedule.resume"
    note: Note = ""


class CancelSchedule(SingleCommand):
    """`schedule.cancel`."""

    name = "schedule.cancel"
    note: Note = ""


class TriggerSchedule(SingleCommand):
    """`schedule.trigger`: run now; `key` makes it the same execution when asked again."""

    name = "schedule.trigger"
    key: Key | None = None
    payload: Json = None


class BackfillSchedule(SingleCommand):
    """`schedule.backfill`: run what was due from `from` to `to`, both inclusive, with its own times.

    With `dry_run` it is only told how many there are.
    """

    name = "schedule.backfill"
    from_: Annotated[Instant, Field(alias="from")]
    to: Instant
    overlap: Order = Order.BUFFER_ALL
    dry_run: bool = False
    note: Note = ""


class TickAnswered(SingleCommand):
    """What the check of a schedule has answered at a tick; the engine's own, too."""

    name = "schedule.tick"
    tick: Instant
    revision: int
    holds: bool
    data: Json = None
    error: dict[str, Any] | None = None
