"""Commands as work: outcome, bounds, refusals, and nothing left behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from horae_infrastructure.processes import (
    KEPT_OUTPUT,
    ProcessOutcome,
    ProcessRefused,
    ProcessSpec,
    run_process,
)

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")


async def shell(script: str, *, timeout: float | None = 30, **fields: Any) -> ProcessOutcome:
    return await run_process(ProcessSpec(command=["sh", "-c", script], **fields), timeout=timeout)


def python(code: str) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(code)]


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid)


async def late(command: list[str], *, says: int, grace: float = 60) -> ProcessOutcome:
    """The outcome of a command that runs out of time when it has written so many lines."""
    seconds = 0.2
    while True:
        outcome = await run_process(ProcessSpec(command=command), timeout=seconds, grace=grace)
        assert outcome.timed_out
        if outcome.stdout.count("\n") >= says:
            return outcome
        seconds *= 3  # it had not come so far; this machine is busy


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


async def test_outcome_has_exit_code_and_both_outputs() -> None:
    began = time.monotonic()
    outcome = await shell("echo out; echo err >&2; exit 3")
    assert (outcome.exit_code, outcome.signal) == (3, None)
    assert (outcome.stdout, outcome.stderr) == ("out\n", "err\n")
    assert not outcome.timed_out
    assert not outcome.stdout_truncated
    assert outcome.started <= outcome.finished
    assert 0 < outcome.duration <= time.monotonic() - began


def test_commands_run_on_uvloop() -> None:
    uvloop = pytest.importorskip("uvloop")

    async def both() -> tuple[ProcessOutcome, ProcessOutcome]:
        return await shell("cat; exit 3", stdin="in"), await shell("sleep 50", timeout=0.1)

    normal, stopped = uvloop.run(both())
    assert (normal.exit_code, normal.stdout) == (3, "in")
    assert stopped.timed_out


async def test_arguments_are_not_read_by_a_shell() -> None:
    spec = ProcessSpec(command=["printf", "%s", "$HOME; `id` *"])
    assert (await run_process(spec, timeout=10)).stdout == "$HOME; `id` *"


async def test_environment_is_minimal_and_ours_is_not_passed_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SECRET", "leaked")
    spec = ProcessSpec(command=["env"], env={"GIVEN": "ja, ö", "HOME": "/nowhere"})
    outcome = await run_process(spec, timeout=10)
    variables = dict(line.split("=", 1) for line in outcome.stdout.splitlines())
    assert variables["GIVEN"] == "ja, ö"
    assert variables["HOME"] == "/nowhere"
    assert set(variables) == {"GIVEN", "HOME", "LANG", "LOGNAME", "PATH", "SHELL", "USER"}


async def test_path_of_the_given_environment_finds_the_command(tmp_path: Path) -> None:
    program = tmp_path / "mine"
    program.write_text("#!/bin/sh\necho found\n")
    program.chmod(0o755)
    spec = ProcessSpec(command=["mine"], env={"PATH": str(tmp_path)})
    assert (await run_process(spec, timeout=10)).stdout == "found\n"


async def test_working_directory_and_input_are_given(tmp_path: Path) -> None:
    outcome = await shell("pwd; cat", cwd=str(tmp_path), stdin="zürich\n" * 100_000)
    assert outcome.stdout_truncated
    assert outcome.stdout.endswith("zürich\nzürich\n")
    assert (await shell("pwd; cat", cwd=str(tmp_path))).stdout == f"{tmp_path}\n"


async def test_input_that_nobody_reads_is_no_obstacle() -> None:
    assert (await shell("exit 0", stdin="x" * 1_000_000)).exit_code == 0


async def test_last_part_of_a_long_output_is_kept() -> None:
    outcome = await run_process(
        ProcessSpec(command=python("print('a' * 500_000 + 'end', end='')")), timeout=30
    )
    assert outcome.stdout_truncated
    assert not outcome.stderr_truncated
    assert len(outcome.stdout) == KEPT_OUTPUT
    assert outcome.stdout.endswith("aend")


async def test_bytes_that_are_no_text_are_replaced() -> None:
    assert (await shell(r"printf 'a\377b'")).stdout == "a\ufffdb"


async def test_death_by_a_signal_is_told() -> None:
    outcome = await shell("kill -9 $$")
    assert (outcome.exit_code, outcome.signal) == (None, signal.SIGKILL)


async def test_timeout_stops_the_whole_group_and_keeps_the_output() -> None:
    script = "echo before; sleep 1000 & echo $!; wait"
    outcome = await late(["sh", "-c", script], says=2)
    assert outcome.timed_out
    assert outcome.signal == signal.SIGTERM
    before, sleeper = outcome.stdout.split()
    assert before == "before"
    assert gone(int(sleeper))


async def test_command_that_ignores_the_signal_is_killed_after_the_grace() -> None:
    script = "trap '' TERM; echo $$; while :; do sleep 0.05; done"
    outcome = await late(["sh", "-c", script], says=1, grace=0.3)
    assert outcome.signal == signal.SIGKILL
    assert outcome.duration >= 0.5
    assert gone(int(outcome.stdout))


async def test_command_may_clean_up_within_the_grace() -> None:
    script = "trap 'echo cleaned; exit 7' TERM; echo ready; while :; do sleep 0.05; done"
    outcome = await late(["sh", "-c", script], says=2)
    assert (outcome.timed_out, outcome.exit_code) == (True, 7)
    assert outcome.stdout == "ready\ncleaned\n"


async def test_background_child_that_holds_the_pipe_ends_with_the_command() -> None:
    outcome = await shell("sleep 1000 & echo $!", timeout=None)
    assert outcome.exit_code == 0
    assert gone(int(outcome.stdout))


async def test_child_in_a_session_of_its_own_does_not_escape() -> None:
    daemon = """
        import os, sys
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                print(os.getpid(), flush=True)
                os.execvp("sleep", ["sleep", "1000"])
            os._exit(0)
        os.wait()
        import time
        time.sleep(1000)
    """
    outcome = await late(python(daemon), says=1)
    assert gone(int(outcome.stdout))


async def test_cancellation_leaves_nothing_and_is_passed_on() -> None:
    pids: list[int] = []
    spec = ProcessSpec(command=["sh", "-c", "sleep 100 & wait"])
    running = asyncio.ensure_future(run_process(spec, timeout=None, on_start=pids.append))
    await until(lambda: bool(pids and psutil.Process(pids[0]).children()))
    family = [pids[0], psutil.Process(pids[0]).children()[0].pid]
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert all(gone(pid) for pid in family)


@pytest.mark.parametrize("moment", [0.0, 0.005, 0.02, 0.04])
async def test_cancellation_while_it_starts_leaves_nothing(moment: float) -> None:
    before = psutil.Process().children()
    running = asyncio.ensure_future(run_process(ProcessSpec(command=["sleep", "77"]), timeout=None))
    await asyncio.sleep(moment)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await until(lambda: psutil.Process().children() == before)


@pytest.mark.parametrize(
    ("spec", "field", "reason"),
    [
        ({"command": ["no-such-program"]}, "command", "not found"),
        ({"command": ["/etc/passwd"]}, "command", "permission denied"),
        ({"command": ["echo", "a\0b"]}, "command", "invalid"),
        ({"command": ["true"], "cwd": "/no/such/directory"}, "cwd", "not found"),
        ({"command": ["true"], "cwd": "/etc/passwd"}, "cwd", "not a directory"),
        ({"command": ["true"], "user": "no-such-user"}, "user", "no user"),
    ],
)
async def test_refusal_names_the_field(spec: dict[str, Any], field: str, reason: str) -> None:
    with pytest.raises(ProcessRefused, match=reason) as caught:
        await run_process(ProcessSpec(**spec), timeout=10)
    assert caught.value.field == field


@ROOT
async def test_root_runs_it_as_another_user() -> None:
    outcome = await shell("id -un; id -G; echo $USER", user="nobody", cwd="/")
    name, groups, variable = outcome.stdout.splitlines()
    assert (name, variable) == ("nobody", "nobody")
    assert "0" not in groups.split()
    assert outcome.exit_code == 0


@ROOT
async def test_who_may_not_become_the_user_is_refused() -> None:
    code = """
        import asyncio
        from horae_infrastructure.processes import ProcessRefused, ProcessSpec, run_process
        try:
            asyncio.run(run_process(ProcessSpec(command=["true"], user="nobody"), timeout=9))
        except ProcessRefused as refused:
            print(refused.field, refused)
    """
    command = ["setpriv", "--bounding-set", "-setuid,-setgid", *python(code)]
    result = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True)
    assert (
        result.stdout == "user process_refused: The process was not started: user: not permitted.\n"
    ), result


@ROOT
async def test_who_may_become_nobody_may_still_name_itself() -> None:
    """As a crontab of the engine's own user does; nothing is changed, so no permission is needed."""
    code = """
        import asyncio
        from horae_infrastructure.processes import ProcessSpec, run_process
        spec = ProcessSpec(command=["id", "-un"], user="root")
        print(asyncio.run(run_process(spec, timeout=60)).stdout, end="")
    """
    command = ["setpriv", "--bounding-set", "-setuid,-setgid", *python(code)]
    result = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True)
    assert result.stdout == "root\n", result


async def test_limits_are_kept() -> None:
    files = await shell("ulimit -n", limits={"files": 77})
    assert files.stdout == "77\n"
    memory = await run_process(
        ProcessSpec(command=python("bytearray(10**9)"), limits={"memory": 300_000_000}), timeout=30
    )
    assert "MemoryError" in memory.stderr
    cpu = await shell("while :; do :; done", limits={"cpu": 1}, timeout=100)
    assert cpu.signal == signal.SIGXCPU
    assert not cpu.timed_out


async def test_spec_of_an_action_leaves_out_what_is_not_set() -> None:
    action = {
        "type": "process",
        "command": ["true"],
        "env": {},
        "user": None,
        "cwd": "/",
        "stdin": None,
        "limits": {"cpu": None, "memory": None, "files": 9},
    }
    spec = ProcessSpec.of(json.loads(json.dumps(action)))
    assert spec == ProcessSpec(command=["true"], cwd="/", limits={"files": 9})


async def test_many_runs_leak_no_descriptor_and_no_zombie() -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    await shell("exit 0")
    before, children = descriptors(), psutil.Process().children()
    await asyncio.gather(*(shell("echo $$ | cat") for _ in range(8)))
    with pytest.raises(ProcessRefused):
        await run_process(ProcessSpec(command=["no-such-program"]), timeout=9)
    assert (await shell("sleep 900", timeout=0.05)).timed_out
    await until(lambda: descriptors() == before)
    assert psutil.Process().children() == children


def test_command_ends_with_a_killed_parent(tmp_path: Path) -> None:
    code = """
        import asyncio
        from horae_infrastructure.processes import ProcessSpec, run_process
        script = "trap '' TERM HUP; setsid sleep 98 & echo $$ $! > pids.new; mv pids.new pids; wait"
        spec = ProcessSpec(command=["sh", "-c", script], cwd=CWD)
        asyncio.run(run_process(spec, timeout=None, grace=0.5))
    """
    with subprocess.Popen(python(code.replace("CWD", repr(str(tmp_path))))) as parent:
        while not (tmp_path / "pids").exists():
            assert parent.poll() is None
            time.sleep(0.01)
        pids = [int(word) for word in (tmp_path / "pids").read_text().split()]
        assert all(psutil.pid_exists(pid) for pid in pids)
        family = [psutil.Process(pid) for pid in pids]
        parent.kill()
    _, alive = psutil.wait_procs(family, timeout=60)
    assert alive == []
