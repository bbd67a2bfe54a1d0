"""A file of schedules: what it wants, how that differs from what there is, and making it so (I5).

A file is a set with a name. What a set has created is its own: only that is ever pruned. Everything
is checked before anything is changed, and a run that was cut short is finished by the next one,
because what is as it should be is left alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import (
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from sys import intern
from typing import Any, NamedTuple

import msgspec

from horae.beside import beside
from horae.client import Client
from horae_domain.definition import Definition, digest_of, parse_definition
from horae_domain.errors import HoraeError, InvalidField, Unavailable
from horae_domain.positions import Position, parse_position
from horae_domain.triggers import OnceTrigger
from horae_domain.wire import MAX_BULK

Json = dict[str, Any]

CHUNK = 1_000
"""Definitions created by one request."""
LARGE = MAX_BULK // 2
"""Bytes of them, unless a single one has more."""
BULKS = 3
"""Such requests in flight."""
LANES = 32
"""Single changes in flight."""
PAGE = 10_000
"""Ids that one query asks for."""
SOON = timedelta(minutes=5)
"""A one-time schedule due before that is shown to the engine before anything is changed."""
SEEN_MS = 9_000
"""How long the views may take to know what was done."""
SHOWN = 20
"""Problems of a file that are told."""
MANY = 10_000
"""Definitions that are worth a second process."""


class Wanted(NamedTuple):
    """One schedule of a file."""

    id: str
    content: bytes
    """Its canonical definition as JSON, in which it is sent; many thousands are held."""
    digest: str
    served: str
    """What somebody has to serve for its action."""
    soon: bool

    @property
    def definition(self) -> Json:
        """Its canonical definition."""
        decoded: Json = msgspec.json.decode(self.content)
        return decoded


class Manifest(NamedTuple):
    """What a file wants."""

    set: str
    wanted: dict[str, Wanted]

    @property
    def owner(self) -> str:
        """Who has created what belongs to the set."""
        return owner_of(self.set)


def owner_of(set_: str) -> str:
    """In whose name a set is applied."""
    return f"set:{set_}"


class Plan(NamedTuple):
    """What has to be done to get there."""

    create: list[str]
    update: dict[str, int]
    """With the revision that the comparison rests on."""
    unchanged: int
    gone: list[str]
    """Created by this set, and no longer in its file."""
    foreign: dict[str, str | None]
    """They differ from the file, and somebody else has created them."""

    @property
    def empty(self) -> bool:
        """True if all is as the file wants it."""
        return not (self.create or self.update or self.gone or self.foreign)


class Outcome(NamedTuple):
    """What was done, and what was refused: an error by id."""

    created: int
    updated: int
    cancelled: int
    refused: dict[str, Json]


# --- reading -------------------------------------------------------------------------------------


def read_manifest(name: str, definitions: Sequence[Any], now: datetime | None = None) -> Manifest:
    """Validate all definitions of a file.

    Raises:
        InvalidField: with up to `SHOWN` problems, each with its path and reason.
    """
    return reading(name, definitions, now)()


def reading(
    name: str, definitions: Sequence[Any], now: datetime | None = None
) -> Callable[[], Manifest]:
    """`read_manifest` that has begun: of many, a process beside this one validates the second half."""
    moment = (now or datetime.now(UTC)) + SOON
    if len(definitions) < MANY:
        return lambda: _manifest(name, _validated(definitions, 0, moment))
    middle = len(definitions) // 2
    second = beside(partial(_validated, definitions[middle:], middle, moment))
    return lambda: _manifest(name, [*_validated(definitions[:middle], 0, moment), *second()])


Read = tuple[str, Wanted | Json]
"""Where a definition stands; what it is, by its id, or what is wrong with it."""


def _validated(definitions: Sequence[Any], first: int, moment: datetime) -> list[Read]:
    """Each of some definitions, up to the last problem that is told."""
    read: list[Read] = []
    problems = 0
    for index, content in enumerate(definitions, first):
        path = f"schedules[{index}]"
        try:
            read.append((path, _wanted(content, path, moment)))
        except HoraeError as error:
            read.append((path, error.to_json()))
            problems += 1
            if problems == SHOWN:
                break
    return read


def _manifest(name: str, read: Sequence[Read]) -> Manifest:
    wanted: dict[str, Wanted] = {}
    problems: list[Json] = []
    for path, one in read:
        if not isinstance(one, Wanted):
            problems.append(one)
        elif one.id in wanted:
            problems.append(_twice(f"{path}.id", one.id).to_json())
        else:
            wanted[one.id] = one
    if problems:
        first = problems[0]
        raise InvalidField(first["message"], field=first.get("field"), problems=problems[:SHOWN])
    return Manifest(name, wanted)


def _twice(path: str, id_: str) -> InvalidField:
    return InvalidField(f"{path}: {id_} is there twice", field=path, value=id_)


_SERVED = ("type", "name", "service", "command")


def _wanted(content: Any, path: str, moment: datetime) -> Wanted:
    definition = parse_definition(content, path)
    canonical = definition.canonical()
    trigger = definition.trigger
    soon = isinstance(trigger, OnceTrigger) and trigger.at is not None and trigger.at < moment
    action = canonical["action"]
    served = intern(repr([action.get(part) for part in _SERVED]))
    encoded = msgspec.json.encode(canonical)
    return Wanted(definition.id, encoded, digest_of(canonical), served, soon)


# --- comparing -----------------------------------------------------------------------------------


async def compare(client: Client, manifest: Manifest, made: Sequence[Json] | None = None) -> Plan:
    """How what there is differs from what the file wants.

    A pause is not a difference. What has completed stays so until its definition changes.

    Args:
        client: of the tenant.
        manifest: what is wanted.
        made: what `made_by` the set's owner has said, if it was asked already.
    """
    plan = Plan([], {}, 0, [], {})
    unchanged = 0
    seen: set[str] = set()
    for found in await made_by(client, manifest.owner) if made is None else made:
        seen.add(found["id"])
        one = manifest.wanted.get(found["id"])
        if one is not None:
            unchanged += _differs(plan, found, one.digest)
        elif found["status"] not in _ENDED:
            plan.gone.append(found["id"])
    rest = [id_ for id_ in manifest.wanted if id_ not in seen]
    for found in await _named(client, rest):
        seen.add(found["id"])
        digest = manifest.wanted[found["id"]].digest
        if found["status"] in _ENDED or found["digest"] == digest:
            unchanged += _differs(plan, found, digest)
        else:
            plan.foreign[found["id"]] = found["created_by"]
    plan.create.extend(id_ for id_ in rest if id_ not in seen)
    return plan._replace(unchanged=unchanged)


_ENDED = {"completed", "cancelled", "failed"}


def _differs(plan: Plan, found: Json, digest: str) -> bool:
    """Note what has to be done about one that exists; true if nothing."""
    same: bool = found["digest"] == digest
    if found["status"] == "cancelled" or (found["status"] in _ENDED and not same):
        plan.create.append(found["id"])
        return False
    if not same:
        plan.update[found["id"]] = found["revision"]
    return same


async def made_by(client: Client, owner: str) -> list[Json]:
    """What an owner has created, in short."""
    made: list[Json] = []
    cursor: str | None = None
    while True:
        page = await client.query("schedule.digests", {"created_by": owner, "cursor": cursor})
        made += page["digests"]
        cursor = page["cursor"]
        if cursor is None:
            return made


async def _named(client: Client, ids: Sequence[str]) -> list[Json]:
    """Those of some ids that there are, in short."""
    gate = asyncio.Semaphore(BULKS)

    async def page(first: int) -> list[Json]:
        async with gate:
            asked = {"ids": list(ids[first : first + PAGE])}
            found: list[Json] = (await client.query("schedule.digests", asked))["digests"]
            return found

    pages = await asyncio.gather(*(page(first) for first in range(0, len(ids), PAGE)))
    return [each for page in pages for each in page]


async def details(client: Client, manifest: Manifest, ids: Iterable[str]) -> dict[str, Json]:
    """What differs in each of some schedules: by path, `from` what there is `to` what is wanted."""
    changes = {}
    for id_ in ids:
        there = await client.get_schedule(id_, count=0)
        known = {name: there[name] for name in Definition.model_fields if name in there}
        if known["name"] == id_:
            del known["name"]  # what it is called unless told
        before = parse_definition(known).canonical()
        changes[id_] = dict(_changes(before, manifest.wanted[id_].definition, ""))
    return changes


def _changes(before: Any, after: Any, path: str) -> Iterator[tuple[str, Json]]:
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for name in sorted(before.keys() | after.keys()):
            inner = f"{path}.{name}" if path else str(name)
            yield from _changes(before.get(name), after.get(name), inner)
    elif before != after:
        yield path, {"from": before, "to": after}


# --- making it so --------------------------------------------------------------------------------


async def check(client: Client, manifest: Manifest, plan: Plan) -> None:
    """Let the engine look at what only it can judge, before anything is changed.

    That is one definition for each action, and those that may be due already.

    Raises:
        HoraeError: the first refusal, with the id of the schedule.
    """
    changed = [*plan.create, *plan.update]
    shown = {manifest.wanted[id_].served: id_ for id_ in changed}
    doubtful = [*shown.values(), *(id_ for id_ in changed if manifest.wanted[id_].soon)]
    for chunk in _bulks(manifest, doubtful):
        body = {"schedules": _joined(manifest, chunk), "dry_run": True}
        answer = await client.command("schedule.create_many", body)
        for id_, result in zip(chunk, answer["results"], strict=True):
            if not result["ok"]:
                error = result["error"]
                raise InvalidField(f"{id_}: {error['message']}", field=error.get("field"), id=id_)


def _joined(manifest: Manifest, ids: Sequence[str]) -> msgspec.Raw:
    """The definitions of some schedules, as a request has them."""
    return msgspec.Raw(b"[%b]" % b",".join([manifest.wanted[id_].content for id_ in ids]))


async def carry_out(
    client: Client, manifest: Manifest, plan: Plan, *, prune: bool = False, adopt: bool = False
) -> Outcome:
    """Do what the plan says; `client` acts in the name of the set.

    Args:
        client: with the set's owner as its actor.
        manifest: what is wanted.
        plan: the comparison.
        prune: cancel what is gone from the file.
        adopt: change what somebody else has created as well; it is never pruned.
    """
    refused: dict[str, Json] = {}
    positions: list[str | None] = []
    created = await _create(client, manifest, plan.create, refused, positions)

    async def update(id_: str) -> None:
        revision = {"expected_revision": plan.update[id_]} if id_ in plan.update else {}
        body = {**manifest.wanted[id_].definition, **revision, "allow_unknown": True}
        positions.append((await client.command("schedule.update", body))["position"])

    async def cancel(id_: str) -> None:
        answer = await client.cancel_schedule(id_, note=f"gone from {manifest.set}")
        positions.append(answer["position"])

    changed = [*plan.update, *(plan.foreign if adopt else ())]
    updated = await _each(changed, update, refused)
    cancelled = await _each(plan.gone if prune else (), cancel, refused)
    await _seen(client, positions)
    return Outcome(created, updated, cancelled, refused)


async def _seen(client: Client, positions: Iterable[str | None]) -> None:
    """Wait until the views know what was done, so that the next comparison does."""
    last = max((parse_position(each) for each in positions if each), default=None, key=_number)
    if last is not None:
        asked = {"ids": [], "min_position": str(last), "wait_ms": SEEN_MS}
        with suppress(Unavailable):
            await client.query("schedule.digests", asked)


def _number(position: Position) -> int:
    return position.number


async def _create(
    client: Client,
    manifest: Manifest,
    ids: list[str],
    refused: dict[str, Json],
    positions: list[str | None],
) -> int:
    gate = asyncio.Semaphore(BULKS)

    async def send(chunk: list[str]) -> int:
        async with gate:
            body = {"schedules": _joined(manifest, chunk), "allow_unknown": True}
            answer = await client.command("schedule.create_many", body)
        positions.append(answer["position"])
        for id_, result in zip(chunk, answer["results"], strict=True):
            if not result["ok"]:
                refused[id_] = result["error"]
        return int(answer["created"])

    return sum(await asyncio.gather(*(send(each) for each in _bulks(manifest, ids))))


async def _each(
    ids: Iterable[str], change: Callable[[str], Awaitable[None]], refused: dict[str, Json]
) -> int:
    left = iter(ids)
    done = 0

    async def lane() -> None:
        nonlocal done
        for id_ in left:
            try:
                await change(id_)
                done += 1
            except HoraeError as error:
                refused[id_] = error.to_json()

    await asyncio.gather(*(lane() for _ in range(LANES)))
    return done


def _bulks(manifest: Manifest, ids: Iterable[str]) -> Iterator[list[str]]:
    """The ids by requests, none of them too many or too large."""
    bulk: list[str] = []
    size = 0
    for id_ in ids:
        length = len(manifest.wanted[id_].content)
        if bulk and (len(bulk) == CHUNK or size + length > LARGE):
            yield bulk
            bulk, size = [], 0
        bulk.append(id_)
        size += length
    if bulk:
        yield bulk
