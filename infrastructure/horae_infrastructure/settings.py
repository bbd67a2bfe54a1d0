"""Settings by environment and file, validated with their bounds when the process starts (O1).

Every setting is `HORAE_` and its name in capitals, or its name in a TOML file; the environment
wins. `horae config` prints them with secrets hidden, `docs/reference/settings.md` lists them.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args, get_origin

from annotated_types import Ge, Le
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    JsonValue,
    PrivateAttr,
    ValidationError,
)
from pydantic.fields import FieldInfo

from horae_domain.addresses import parse_networks
from horae_domain.errors import HoraeError, InvalidField
from horae_domain.fields import Identifier
from horae_domain.signatures import sign
from horae_infrastructure.event_subjects import pattern
from horae_infrastructure.settings_sources import Told, told, unknown_variables, variable

EMBEDDED_POSTGRES = ("postgres", "postgresql", "postgresql+embedded", "postgres+embedded")
"""Names of a store that stand for an embedded PostgreSQL."""
SECRET = frozenset({"secrets"})
"""Settings of which nothing is shown where they are refused."""
SHORT_STORES = {"sqlite": "sqlite:///horae.db", "memory": "memory://"}


def _url(*schemes: str, names: tuple[str, ...] = (), several: bool = False) -> AfterValidator:
    """A URL of one of these kinds, perhaps several divided by commas, or one of these names."""

    def check(value: str) -> str:
        urls = () if value in names else value.split(",") if several else (value,)
        parts = [each.partition("://") for each in urls]
        if any(scheme not in schemes or not separator for scheme, separator, _ in parts):
            raise ValueError(value)
        return value

    return AfterValidator(check)


def _number(value: object) -> object:
    """What pydantic makes a number of, but no boolean."""
    if isinstance(value, bool):
        raise ValueError(value)  # noqa: TRY004 - a TypeError would pass through pydantic
    return value


def _whole(value: object) -> object:
    """Digits as their number, for a setting that is one of a few."""
    return int(value) if isinstance(value, str) and value.isdecimal() else value


def _setting(
    default: Any, meaning: str, *, bounds: str = "", live: bool = False, **constraints: Any
) -> Any:
    """A setting with what its reference says; a live one may change while the process runs."""
    extra: dict[str, JsonValue] = {"bounds": bounds, "live": live}
    return Field(default, description=meaning, json_schema_extra=extra, **constraints)


def _networks(value: str) -> str:
    parse_networks(value)
    return value


def _object(value: object) -> object:
    """JSON in a variable, a table in a file."""
    return json.loads(value) if isinstance(value, str) else value


def _signing(value: str) -> str:
    """A secret that can sign, or several."""
    try:
        sign(value.split(), "", 0, b"")
    except HoraeError as error:
        raise ValueError(error.message) from error
    return value


Count = Annotated[int, BeforeValidator(_number)]
Number = Annotated[float, BeforeValidator(_number)]


def _patterns(value: str) -> str:
    for each in filter(None, value.split(",")):
        pattern(each.strip())
    return value


STORES = ("sqlite", "postgresql", "postgres", "memory")
VIEWS = ("redis", "rediss", "unix", "valkey", "valkeys", "memory")
BUSES = ("nats", "tls", "ws", "wss")


class Settings(BaseModel):
    """What a process is told about its surroundings; see `read`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    store_url: Annotated[str, _url(*STORES, names=(*EMBEDDED_POSTGRES, *SHORT_STORES))] = _setting(
        "sqlite:///horae.db",
        "the event store; `sqlite:///file.db` lies in `data_dir`, `sqlite:////file.db` does not",
        bounds="sqlite://, postgresql:// or memory://",
    )
    nats_url: Annotated[str, _url(*BUSES, several=True)] | None = _setting(
        None,
        "the NATS server, or several of a cluster divided by commas; `horae dev` embeds one where"
        " this is not set",
        bounds="nats://, tls://, ws:// or wss://",
    )
    redis_url: Annotated[str, _url(*VIEWS)] | None = _setting(
        None,
        "Redis or Valkey for the views; `horae dev` embeds one where this is not set, else they"
        " are in memory",
        bounds="redis://, rediss://, unix://, valkey:// or memory://",
    )
    cache_url: Annotated[str, _url(*VIEWS)] | None = _setting(
        None,
        "Redis or Valkey that handlers reach as `ctx.cache`; `redis_url` where this is not set, and none"
        " where that names no server",
        bounds="redis://, rediss://, unix://, valkey:// or memory://",
    )
    tenant: str = _setting(
        "default",
        "whose schedules clients and decorators of this process make",
        bounds="1 to 64 of A-Z, a-z, 0-9, _ and -",
        pattern=r"^[A-Za-z0-9_-]{1,64}$",
    )
    data_dir: Path = _setting(
        Path(".horae"),
        "where embedded servers and relative SQLite files have their data",
        bounds="a path",
    )
    log: str = _setting(
        "console",
        "form and level of the log on standard error, as in `json:debug`; the level is info unless"
        " told",
        bounds="console or json, then perhaps :debug, :info, :warning or :error",
        live=True,
        pattern=r"^(console|json)(:(debug|info|warning|error))?$",
    )
    concurrency: Count = _setting(16, "handlers at once", live=True, ge=1, le=10_000)
    max_memory: Annotated[ByteSize, Field(ge=16 * 1024**2, le=2**50)] | None = _setting(
        None,
        "resident bytes of the process over which its executor takes no new work",
        bounds="16MiB to 1PiB",
        live=True,
    )
    max_cpu: Annotated[Number, Field(ge=1, le=100_000)] | None = _setting(
        None,
        "percent of one core, averaged over ten seconds, over which its executor takes no new work",
        bounds="1 to 100000",
        live=True,
    )
    max_waiting: Count = _setting(
        20_000,
        "commands that wait for the engine at once; further ones are refused as unavailable",
        live=True,
        ge=1,
        le=1_000_000,
    )
    allow_processes: bool = _setting(False, "run actions of type `process`")
    mail_url: Annotated[str, _url("smtp", "smtps", "sendmail")] | None = _setting(
        None,
        "how the output of commands goes to the `MAILTO` of their environment, as under cron;"
        " without it none is sent",
        bounds="smtp://[user:password@]host[:port], smtps://… or sendmail:///usr/sbin/sendmail",
    )
    mail_from: str | None = _setting(
        None,
        "the sender of such mail; `horae@` and the machine's name where this is not set",
        bounds="an address",
        pattern=r"^[^\s<>]{1,254}$",
    )
    http_networks: Annotated[str, AfterValidator(_networks)] = _setting(
        "",
        "private networks that actions of type `http` and `horae.health_check` may reach, such as `10.1.0.0/16,fd00::/8`;"
        " public addresses are always allowed, all others never",
        bounds="networks divided by commas",
    )
    secrets: Annotated[
        dict[
            Identifier,
            Annotated[str, AfterValidator(_signing)],
        ],
        BeforeValidator(_object),
    ] = _setting(
        {},
        "secrets by name, as a table of the file or a JSON object; each is Base64, perhaps after"
        " `whsec_`, or several divided by spaces while one is rotated",
        bounds='{"name": "whsec_…"}',
        live=True,
    )
    allow_unsafe_store: bool = _setting(False, "accept a store that can lose acknowledged commits")
    stop_limit: Number = _setting(
        20.0,
        "seconds that a stop may take in all; running handlers have them less 5, or half of a"
        " shorter time, then the process ends",
        live=True,
        ge=1,
        le=3600,
    )
    cleanup: bool = _setting(
        True,
        "have `horae serve` and `horae dev` schedule `horae.cleanup` hourly in `tenant`, unless it"
        " was ever there",
    )
    keep_successes: Count = _setting(
        7,
        "days for which executions that succeeded are kept at least",
        live=True,
        ge=1,
        le=36_500,
    )
    keep_failures: Count = _setting(
        30,
        "days for which executions that ended otherwise are kept at least, skipped ones included",
        live=True,
        ge=1,
        le=36_500,
    )
    keep_once: Count = _setting(
        90,
        "days for which one-time schedules and scheduled commands are kept at least once they have"
        " ended",
        live=True,
        ge=1,
        le=36_500,
    )
    keep_keys: Count = _setting(
        30,
        "days for which idempotency keys are known at least, and events that triggered something",
        live=True,
        ge=1,
        le=36_500,
    )
    events: bool = _setting(True, "publish engine events to the stream `HORAE_EVENTS`")
    event_subjects: Annotated[str, AfterValidator(_patterns)] = _setting(
        "events.{type},horae.{tenant}.events.{type}",
        "subjects of external events, divided by commas: `{tenant}` and `*` are one token, `{type}` is the"
        " rest; empty takes none from JetStream",
        bounds="patterns with {type}",
    )
    event_max_age: Annotated[Number, Field(ge=60, le=3650 * 86_400)] = _setting(
        30 * 86_400,
        "seconds after which an external event is too old to be taken",
        bounds="60 to 315360000",
        live=True,
    )
    replicas: Annotated[Literal[1, 3, 5], BeforeValidator(_whole)] = _setting(
        1, "copies of each JetStream stream in the cluster"
    )

    _again: Callable[[], Self] = PrivateAttr()
    _told: dict[str, Told] = PrivateAttr(default_factory=dict)
    _unknown: dict[str, str] = PrivateAttr(default_factory=dict)

    @classmethod
    def read(
        cls,
        *,
        config: Path | None = None,
        environment: Mapping[str, str] | None = None,
        **given: Any,
    ) -> Self:
        """What is given and not None, else what the environment says, else the file.

        Args:
            config: a TOML file, instead of the one that `HORAE_CONFIG` names.
            environment: that of the process unless told.
            given: settings by name.

        Raises:
            InvalidField: a value breaks its bounds, or there is no such setting; the field is the
                setting's name.
        """
        variables = os.environ if environment is None else environment
        names = tuple(cls.model_fields)
        for name in given.keys() - set(names):
            raise InvalidField(
                f"there is no such setting; there are: {', '.join(names)}", field=name
            )
        options = {name: Told(each, "option") for name, each in given.items() if each is not None}
        found = told(names, variables, config) | options
        try:
            settings = cls(**{name: each.value for name, each in found.items()})
        except ValidationError as error:
            raise _refusal(error, found) from error
        settings._again = partial(cls.read, config=config, environment=environment, **given)
        settings._told.update(found)
        settings._unknown.update(unknown_variables(names, variables))
        return settings

    @property
    def unknown(self) -> Mapping[str, str]:
        """Variables `HORAE_…` that are no setting, each with the nearest that is one, or nothing."""
        return self._unknown

    def again(self) -> Self:
        """What the same sources say now.

        Raises:
            InvalidField: as `read` does.
        """
        return self._again()

    def told(self, name: str) -> bool:
        """True if somebody has said it; else it has its default."""
        return name in self._told

    def needing_restart(self, again: Settings) -> list[str]:
        """Settings of which the sources now say something else, but no process takes it."""
        return [
            name
            for name, field in type(self).model_fields.items()
            if not live(field) and self._value_told(name) != again._value_told(name)
        ]

    def changed(self, again: Settings) -> dict[str, Any]:
        """New values of live settings."""
        return {
            name: getattr(again, name)
            for name, field in type(self).model_fields.items()
            if live(field) and getattr(self, name) != getattr(again, name)
        }

    def _value_told(self, name: str) -> Any:
        return self._told[name].value if name in self._told else None

    def shown(self) -> dict[str, dict[str, Any]]:
        """Every setting with its value, who said it, default, bounds; secrets are hidden."""
        return {
            name: {
                "variable": variable(name),
                "value": hide(getattr(self, name)),
                "source": self._told[name].source if name in self._told else "default",
                "default": hide(field.default),
                "bounds": bounds(field),
                "live": live(field),
            }
            for name, field in type(self).model_fields.items()
        }


def live(field: FieldInfo) -> bool:
    """True if a running process takes a new value."""
    return bool(_extra(field)["live"])


def bounds(field: FieldInfo) -> str:
    """What a setting's value may be, in words."""
    said = str(_extra(field)["bounds"])
    if said:
        return said
    if field.annotation is bool:
        return "true or false"
    if get_origin(field.annotation) is Literal:
        return ", ".join(map(str, get_args(field.annotation)))
    least = next(each.ge for each in field.metadata if isinstance(each, Ge))
    most = next(each.le for each in field.metadata if isinstance(each, Le))
    return f"{least} to {most}"


def _extra(field: FieldInfo) -> dict[str, Any]:
    assert isinstance(field.json_schema_extra, dict)  # noqa: S101 - _setting has made it
    return field.json_schema_extra


def _refusal(error: ValidationError, found: Mapping[str, Told]) -> InvalidField:
    """The first complaint: which setting, what it may be, who said the value."""
    name = str(error.errors(include_url=False)[0]["loc"][0])
    said = found[name]
    where = "" if said.source == "option" else f" ({said.source})"
    needed = bounds(Settings.model_fields[name])
    value = None if name in SECRET else hide(said.value)
    return InvalidField(f"{name}: {needed} is needed{where}", field=name, value=value)


_USER = re.compile(r"(?<=://)([^/\s:]*)(:?)[^/\s]*@")
_QUERY = re.compile(r"(?<=[?&])((?:ssl)?password|token|passfile)=[^&]*")


def hide(value: Any) -> Any:
    """A value as it may be shown: URLs without passwords and tokens, of secrets their names."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, dict):
        return dict.fromkeys(value, "***")
    if isinstance(value, ByteSize):
        return value.human_readable()
    if not isinstance(value, str) or "://" not in value:
        return value
    urls = [_QUERY.sub(r"\1=***", url) for url in value.split(",")]
    return ",".join(_USER.sub(_hidden_user, url) for url in urls)


def _hidden_user(found: re.Match[str]) -> str:
    """The user before a password; what stands alone may be a token."""
    return f"{found[1]}:***@" if found[2] else "***@"
