"""Settings by environment, validated with their bounds when the process starts (O1).

Every setting is `HORAE_` and its name in capitals; `horae config` prints them with secrets hidden.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import ByteSize, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from horae_domain.definition import translate
from horae_domain.errors import InvalidField


class Settings(BaseSettings):
    """What a process is told about its surroundings.

    Attributes:
        store_url: `sqlite:///file.db` (in `data_dir`), `sqlite:////absolute/file.db`,
            `postgresql://…`, `memory://`.
        nats_url: of a server; None embeds one in `horae dev` and does without in a library.
        redis_url: `redis://…`, `unix://…` or `memory://`; None as for NATS.
        tenant: whose schedules clients and decorators of this process make.
        data_dir: where embedded servers and relative SQLite files have their data.
        log: `console` or `json`, and a level: `json:debug`.
        concurrency: handlers at once.
        max_memory: resident bytes of the process, such as `2GiB`, over which its executor takes no
            new work.
        max_cpu: the same for its processor time: percent of one core, over ten seconds.
        allow_processes: run actions of type `process`.
        allow_unsafe_store: accept a store that can lose acknowledged commits.
        drain: seconds that running handlers have at a stop.
        events: publish engine events to the stream `HORAE_EVENTS`.
        replicas: of JetStream streams.
    """

    model_config = SettingsConfigDict(env_prefix="HORAE_", extra="ignore", frozen=True)

    store_url: str = "sqlite:///horae.db"
    nats_url: str | None = None
    redis_url: str | None = None
    tenant: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")] = "default"
    data_dir: Path = Path(".horae")
    log: Annotated[str, Field(pattern=r"^(console|json)(:(debug|info|warning|error))?$")] = (
        "console"
    )
    concurrency: Annotated[int, Field(ge=1, le=10_000)] = 16
    max_memory: Annotated[ByteSize, Field(ge=16 * 1024**2, le=2**50)] | None = None
    max_cpu: Annotated[float, Field(ge=1, le=100_000)] | None = None
    allow_processes: bool = False
    allow_unsafe_store: bool = False
    drain: Annotated[float, Field(ge=0, le=3600)] = 10.0
    events: bool = True
    replicas: Literal[1, 3, 5] = 1

    @classmethod
    def read(cls, **given: Any) -> Self:
        """Settings from the environment, overridden by what is given and not None.

        Raises:
            InvalidField: a value breaks its bounds, or there is no such setting; the field is the
                setting's name.
        """
        for name in given.keys() - cls.model_fields.keys():
            raise InvalidField(
                f"there is no such setting; there are: {', '.join(cls.model_fields)}", field=name
            )
        try:
            return cls(**{key: value for key, value in given.items() if value is not None})
        except ValidationError as error:
            raise translate(error) from error

    def shown(self) -> dict[str, dict[str, Any]]:
        """Every setting with its value, its source and its default; passwords are hidden."""
        rows = {}
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            told = name in self.model_fields_set
            rows[name] = {
                "variable": f"HORAE_{name.upper()}",
                "value": hide(value),
                "default": hide(field.default),
                "source": "set" if told else "default",
            }
        return rows


_USER = re.compile(r"(?<=://)([^/\s:]*)(:?)[^/\s]*@")
_QUERY = re.compile(r"(?<=[?&])((?:ssl)?password|token|passfile)=[^&]*")


def hide(value: Any) -> Any:
    """A value as it may be shown: URLs without passwords and tokens."""
    if isinstance(value, Path):
        return str(value)
    if not isinstance(value, str) or "://" not in value:
        return value
    urls = [_QUERY.sub(r"\1=***", url) for url in value.split(",")]
    return ",".join(_USER.sub(_hidden_user, url) for url in urls)


def _hidden_user(found: re.Match[str]) -> str:
    """The user before a password; what stands alone may be a token."""
    return f"{found[1]}:***@" if found[2] else "***@"
