"""Functions in processes of their own: results, errors, deaths, and nothing left behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from horae_domain.errors import InvalidField
from horae_infrastructure.isolated import IsolatedFailure, WorkerDied, run_isolated, target_of


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


async def call(name: str, argument: Any = None, *, timeout: float | None = 30, **how: Any) -> Any:
    answer = await run_isolated(
        f"handlers:{name}", json.dumps(argument).encode(), timeout=timeout, **how
    )
    return json.loads(answer)


async def test_result_comes_back() -> None:
    assert await call("double", {"number": 21}) == 42
    assert await call("later", "sooner or") == "sooner or later"
    assert await call("Nested.method", "é") == ["é"]


async def test_each_call_has_a_process_of_its_own() -> None:
    first, second = await asyncio.gather(call("who"), call("who"))
    assert len({first, second, os.getpid()}) == 3


async def test_models_and_dates_become_json() -> None:
    assert await call("model") == {"model": {"at": "2026-01-01T00:00:00Z"}}


async def test_long_results_are_whole() -> None:
    assert await call("long", 3_000_000) == "x" * 3_000_000


async def test_prints_do_not_disturb_the_result(capfd: pytest.CaptureFixture[str]) -> None:
    assert await call("noisy", "=1") == "said"
    assert capfd.readouterr().out == "=1\n"


async def test_error_comes_back_with_type_message_and_stack() -> None:
    with pytest.raises(IsolatedFailure) as caught:
        await call("fails")
    assert caught.value.type == "LookupError"
    assert caught.value.message == "no such thing"
    assert "in fails" in caught.value.stack


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("leaves", "SystemExit"),
        ("no_such_function", "AttributeError"),
        ("unserialisable", "TypeError"),
    ],
)
async def test_what_cannot_give_a_result_is_a_failure(name: str, error: str) -> None:
    with pytest.raises(IsolatedFailure) as caught:
        await call(name)
    assert caught.value.type == error


async def test_module_that_is_not_there_is_a_failure() -> None:
    with pytest.raises(IsolatedFailure, match="no_such_module"):
        await run_isolated("no_such_module:f", b"null", timeout=30)


@pytest.mark.parametrize(
    ("name", "argument", "exit_code", "number"),
    [
        ("exits", 5, 5, None),
        ("exits", 0, 0, None),
        ("kills", None, None, signal.SIGKILL),
        ("crashes", None, None, signal.SIGSEGV),
    ],
)
async def test_death_is_told_with_its_status(
    name: str, argument: Any, exit_code: int | None, number: int | None
) -> None:
    with pytest.raises(WorkerDied) as caught:
        await call(name, argument)
    assert (caught.value.exit_code, caught.value.signal) == (exit_code, number)


async def test_timeout_kills_the_process_and_its_children(tmp_path: Path) -> None:
    pids, seconds = tmp_path / "pids", 1.0
    while not pids.exists():
        with pytest.raises(TimeoutError):
            await call("spins", str(pids), timeout=seconds)
        seconds *= 3  # on a busy machine the function may not have begun
    assert not any(psutil.pid_exists(int(pid)) for pid in pids.read_text().split())


async def test_cancellation_kills_the_process_and_its_children(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    running = asyncio.ensure_future(call("spins", str(pids), timeout=None))
    async with asyncio.timeout(60):
        while not pids.exists():
            await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not any(psutil.pid_exists(int(pid)) for pid in pids.read_text().split())


def test_call_ends_with_a_killed_parent(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    code = f"""
        import asyncio, sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from horae_infrastructure.isolated import run_isolated
        asyncio.run(run_isolated("handlers:spins", b'"{pids}"', timeout=None))
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)]) as parent:
        while not pids.exists():
            assert parent.poll() is None
            time.sleep(0.01)
        family = [psutil.Process(int(pid)) for pid in pids.read_text().split()]
        parent.kill()
    assert psutil.wait_procs(family, timeout=60)[1] == []


def test_function_of_the_program_itself_is_found(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent("""
            import asyncio
            from horae_infrastructure.isolated import run_isolated, target_of

            FACTOR = 3

            def triple(number):
                return FACTOR * number

            if __name__ == "__main__":
                print(asyncio.run(run_isolated(target_of(triple), b"14", timeout=30)))
        """)
    )
    result = subprocess.run([sys.executable, program], capture_output=True, text=True, check=False)
    assert (result.stdout, result.stderr) == ("b'42'\n", "")


def test_function_without_a_name_is_refused() -> None:
    def closure() -> None:
        pass

    for function in (closure, lambda: None):
        with pytest.raises(InvalidField):
            target_of(function)
    assert target_of(json.dumps) == "json:dumps"


async def test_calls_leak_no_descriptor_and_no_zombie(tmp_path: Path) -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    await call("who")
    before, children = descriptors(), psutil.Process().children()
    await call("who")
    for failing in (call("exits", 1), call("fails"), call("spins", str(tmp_path / "p"), timeout=0)):
        with pytest.raises((WorkerDied, IsolatedFailure, TimeoutError)):
            await failing
    async with asyncio.timeout(60):
        while descriptors() != before:
            await asyncio.sleep(0.01)
    assert psutil.Process().children() == children
