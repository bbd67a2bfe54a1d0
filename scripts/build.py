"""Build the wheel and the sdist, install each into a fresh environment, and use it.

    python scripts/build.py [FOLDER]

The installed package must have its types, its data files and its command; nothing of the checkout
is on its path.
"""
# ruff: noqa: S603, T201 - a program that prints and runs programs

import os
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LAYERS = ("domain", "application", "infrastructure", "projections", "workers")
USE = """
import asyncio, horae, sys
from horae import testing
async def main():
    app = horae.Horae("built")
    @app.schedule("tick", horae.every("1 hour"))
    async def tick(ctx): return ctx.run_number
    async with testing.engine(app) as engine:
        await engine.advance("3 hours")
        print((await engine.get_schedule("tick"))["statistics"])
asyncio.run(main())
assert "site-packages" in horae.__file__, horae.__file__
"""


def run(*command: str | Path, cwd: Path) -> str:
    """What a program prints; its failure ends this one."""
    return subprocess.run(
        command, cwd=cwd, check=True, text=True, stdout=subprocess.PIPE
    ).stdout.strip()


def sources() -> set[str]:
    """Every file of the packages, as it is named in a wheel."""
    listed = run("git", "ls-files", "horae", *LAYERS, cwd=ROOT).splitlines()
    return {name.split("/", 1)[1] if name.split("/")[0] in LAYERS else name for name in listed}


def check(archive: Path, work: Path) -> None:
    """Install into an environment of its own, and use."""
    home = work / archive.name.replace(".", "-")
    venv.create(home, with_pip=True)
    python = home / "bin" / "python"
    pip = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    run(*pip, f"{archive}[all]", cwd=work)
    print(archive.name, "runs:", run(python, "-P", "-c", USE, cwd=work))
    print(archive.name, "is", run(home / "bin" / "horae", "version", cwd=work))


def main(folder: str = "dist") -> None:
    """Build, compare with what git knows, install, use."""
    target = (ROOT / folder).resolve()
    run(sys.executable, "-m", "hatchling", "build", "-d", target, cwd=ROOT)
    wheel = max(target.glob("*.whl"), key=os.path.getmtime)
    sdist = max(target.glob("*.tar.gz"), key=os.path.getmtime)
    with zipfile.ZipFile(wheel) as archive:
        missing = sources() - set(archive.namelist())
    if missing:
        sys.exit(f"not in {wheel.name}: {', '.join(sorted(missing))}")
    with tarfile.open(sdist) as archive:
        print(sdist.name, "has", len(archive.getnames()), "files")
    with tempfile.TemporaryDirectory() as work:
        check(wheel, Path(work))
        check(sdist, Path(work))


if __name__ == "__main__":
    main(*sys.argv[1:])
