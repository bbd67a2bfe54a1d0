"""Settings: who says them, their bounds, what is shown of them, and their reference."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from horae_domain.errors import InvalidField
from horae_infrastructure.settings import Settings, bounds, hide, live
from horae_infrastructure.settings_sources import look

ROOT = Path(__file__).parents[2]


def read(**environment: str) -> Settings:
    return Settings.read(environment=environment)


def refusal(**environment: str) -> InvalidField:
    with pytest.raises(InvalidField) as caught:
        read(**environment)
    return caught.value


@pytest.fixture
def toml(tmp_path: Path) -> Any:
    def write(text: str) -> str:
        path = tmp_path / "horae.toml"
        path.write_text(text)
        return str(path)

    return write


# --- bounds --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("concurrency", 0),
        ("concurrency", 10_001),
        ("concurrency", True),
        ("concurrency", 1.5),
        ("max_waiting", 0),
        ("max_memory", "15MiB"),
        ("max_memory", "much"),
        ("max_cpu", 0),
        ("stop_limit", -1),
        ("stop_limit", float("nan")),
        ("http_networks", "10.0.0.1/8"),
        ("tenant", "a.b"),
        ("tenant", ""),
        ("log", "loud"),
        ("log", "json:loud"),
        ("replicas", 2),
        ("events", "perhaps"),
        ("store_url", "mysql://db"),
        ("store_url", "sqlite:x.db"),
        ("nats_url", "http://bus"),
        ("nats_url", "nats://one:4222,two:4222"),
        ("redis_url", "memcached://db"),
        ("data_dir", 5),
    ],
)
def test_setting_out_of_bounds_is_refused_by_name_with_value_and_bounds(field, value) -> None:
    with pytest.raises(InvalidField) as caught:
        Settings.read(environment={}, **{field: value})
    assert caught.value.field == field
    assert caught.value.value == str(value)
    assert bounds(Settings.model_fields[field]) in caught.value.message


def test_setting_of_the_environment_is_refused_with_its_variable() -> None:
    said = refusal(HORAE_CONCURRENCY="many")
    assert said.field == "concurrency"
    assert "HORAE_CONCURRENCY" in said.message
    assert "1 to 10000" in said.message


def test_refused_url_keeps_its_password_to_itself() -> None:
    assert "s3cr3t" not in str(refusal(HORAE_STORE_URL="mysql://me:s3cr3t@db").to_json())


SIGNING = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.mark.parametrize(
    "told",
    [
        SIGNING,
        '{"partner": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw!"}',
        '{"partner": ""}',
        '{"not a name": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}',
        '["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]',
    ],
)
def test_refused_secrets_keep_themselves_to_themselves(told) -> None:
    refused = refusal(HORAE_SECRETS=told)
    assert refused.field == "secrets"
    assert SIGNING not in str(refused.to_json())


def test_secrets_are_shown_by_their_names_alone(toml) -> None:
    table = toml(f'[secrets]\npartner = "{SIGNING} {SIGNING}"\n')
    for told in (
        read(HORAE_SECRETS=f'{{"partner": "{SIGNING}"}}'),
        read(HORAE_CONFIG=table),
    ):
        assert told.secrets["partner"].startswith(SIGNING)
        assert told.shown()["secrets"]["value"] == {"partner": "***"}


def test_every_setting_has_bounds_a_meaning_and_a_default_within_them() -> None:
    for name, field in Settings.model_fields.items():
        assert bounds(field)
        assert field.description
        if field.default is not None:
            Settings.read(environment={}, **{name: field.default})


@pytest.mark.parametrize(
    "store", ["postgres", "memory", "sqlite", "postgresql:///db", "postgresql://one,two/db"]
)
def test_short_names_of_stores_are_taken(store: str) -> None:
    assert read(HORAE_STORE_URL=store).store_url == store


def test_numbers_and_switches_are_read_from_text() -> None:
    told = read(
        HORAE_REPLICAS="3", HORAE_EVENTS="false", HORAE_STOP_LIMIT="1.5", HORAE_CONCURRENCY="4"
    )
    assert (told.replicas, told.events, told.stop_limit, told.concurrency) == (3, False, 1.5, 4)


# --- sources -------------------------------------------------------------------------------------


def test_argument_wins_over_environment_over_file_over_default(toml) -> None:
    path = toml('concurrency = 1\nstop_limit = 2\ntenant = "filed"\n')
    environment = {"HORAE_CONFIG": path, "HORAE_CONCURRENCY": "3", "HORAE_STOP_LIMIT": "4"}
    told = Settings.read(environment=environment, concurrency=5)
    assert (told.concurrency, told.stop_limit, told.tenant, told.replicas) == (5, 4, "filed", 1)
    shown = told.shown()
    sources = [
        shown[name]["source"] for name in ("concurrency", "stop_limit", "tenant", "replicas")
    ]
    assert sources == ["option", "HORAE_STOP_LIMIT", path, "default"]


def test_file_that_is_given_wins_over_the_one_that_the_environment_names(toml) -> None:
    told = Settings.read(
        config=Path(toml('tenant = "given"')), environment={"HORAE_CONFIG": "/nowhere.toml"}
    )
    assert told.tenant == "given"


def test_empty_variable_says_nothing(toml) -> None:
    told = read(HORAE_CONFIG=toml('tenant = "filed"'), HORAE_TENANT="", HORAE_NATS_URL="")
    assert (told.tenant, told.nats_url) == ("filed", None)


def test_secret_is_read_from_a_file_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "store_url"
    path.write_text("postgresql://me:s3cr3t@db/horae\n")
    told = read(HORAE_STORE_URL_FILE=str(path))
    assert told.store_url == "postgresql://me:s3cr3t@db/horae"
    row = told.shown()["store_url"]
    assert row["value"] == "postgresql://me:***@db/horae"
    assert row["source"] == f"HORAE_STORE_URL_FILE {path}"


def test_variable_and_file_of_a_setting_exclude_each_other(tmp_path: Path) -> None:
    said = refusal(HORAE_TENANT="one", HORAE_TENANT_FILE=str(tmp_path / "tenant"))
    assert said.field == "tenant"
    assert "HORAE_TENANT_FILE" in said.message


def test_file_that_cannot_be_read_is_named(tmp_path: Path, toml) -> None:
    missing = str(tmp_path / "missing")
    assert refusal(HORAE_TENANT_FILE=missing).value == missing
    assert refusal(HORAE_CONFIG=missing).field == "config"
    assert refusal(HORAE_CONFIG=str(tmp_path)).field == "config"
    assert refusal(HORAE_CONFIG=toml("tenant = ")).field == "config"
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    assert refusal(HORAE_TENANT_FILE=str(tmp_path / "binary")).field == "tenant"


def test_value_out_of_bounds_in_a_file_names_the_file(toml) -> None:
    path = toml("concurrency = 0")
    assert path in refusal(HORAE_CONFIG=path).message


@pytest.mark.parametrize(
    ("key", "hint"), [("concurency", "concurrency"), ("zzz", "store_url"), ("section", "log")]
)
def test_key_of_a_file_that_is_no_setting_is_refused(key: str, hint: str, toml) -> None:
    said = refusal(HORAE_CONFIG=toml(f"[{key}]\n" if key == "section" else f"{key} = 3\n"))
    assert said.field == key
    assert hint in said.message


def test_variable_that_is_no_setting_is_reported_with_the_nearest_one() -> None:
    told = read(HORAE_CONCURENCY="3", HORAE_PORT_4222_TCP_ADDR="10.0.0.1", HORAE_TENANT="a", X="y")
    assert told.unknown["HORAE_CONCURENCY"] == "HORAE_CONCURRENCY"
    assert set(told.unknown) == {"HORAE_CONCURENCY", "HORAE_PORT_4222_TCP_ADDR"}


def test_one_setting_is_looked_up_without_reading_the_others(toml, tmp_path: Path) -> None:
    path = toml('tenant = "filed"\nconcurrency = 0\n')
    assert look("tenant", {"HORAE_CONFIG": path}) == "filed"
    assert look("tenant", {"HORAE_CONFIG": path, "HORAE_TENANT": "said"}) == "said"
    assert look("nats_url", {"HORAE_CONFIG": path}) is None
    (tmp_path / "url").write_text("nats://bus\n")
    assert look("nats_url", {"HORAE_NATS_URL_FILE": str(tmp_path / "url")}) == "nats://bus"


# --- again ---------------------------------------------------------------------------------------


def test_what_changed_in_the_sources_is_told_apart_by_what_is_live(toml) -> None:
    path = toml("concurrency = 2\nreplicas = 1\n")
    before = Settings.read(environment={"HORAE_CONFIG": path}, tenant="fixed")
    toml('concurrency = 3\nreplicas = 3\nlog = "json:debug"\ntenant = "filed"\n')
    after = before.again()
    assert before.changed(after) == {"concurrency": 3, "log": "json:debug"}
    assert before.needing_restart(after) == ["replicas"]
    assert after.tenant == "fixed"


def test_setting_that_left_the_file_has_its_default_again(toml) -> None:
    path = toml("concurrency = 2\n")
    before = read(HORAE_CONFIG=path)
    toml("")
    assert before.changed(before.again()) == {"concurrency": 16}


# --- what is shown -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://horae:s3cr3t@db/horae",
        "postgresql://horae:p@s3cr3t@db/horae",
        "postgresql://horae@db/horae?password=s3cr3t&sslmode=require",
        "nats://s3cr3t@bus:4222",
        "nats://a:s3cr3t@one:4222,nats://b:s3cr3t@two:4222",
        "redis://:s3cr3t@cache:6379/0",
    ],
)
def test_secrets_of_urls_are_not_shown(url: str) -> None:
    assert "s3cr3t" not in str(hide(url))
    setting = {"postgresql": "store_url", "nats": "nats_url", "redis": "redis_url"}
    shown = Settings.read(environment={}, **{setting[url.partition(":")[0]]: url}).shown()
    assert "s3cr3t" not in str(shown)
    assert "***" in str(shown)


def test_url_without_a_secret_is_shown_as_it_is() -> None:
    assert hide("sqlite:///file.db") == "sqlite:///file.db"


def test_reference_lists_the_settings_as_they_are() -> None:
    written = (ROOT / "docs" / "reference" / "settings.md").read_text()
    program = runpy.run_path(str(ROOT / "scripts" / "settings_reference.py"))
    assert program["reference"]() == written, "make docs"


def test_what_documents_say_is_live_is_live() -> None:
    names = [name for name, field in Settings.model_fields.items() if live(field)]
    kept = ["keep_successes", "keep_failures", "keep_once", "keep_keys"]
    assert names == [
        "log",
        "concurrency",
        "max_memory",
        "max_cpu",
        "max_waiting",
        "secrets",
        "stop_limit",
        *kept,
        "event_max_age",
    ]
