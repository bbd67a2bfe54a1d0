"""The suite against defects that are planted in a copy of the source: each must turn it red.

A suite that stays green without the epoch check, the unique key or the lease check shows nothing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from tests.faults.cluster import LAYERS

DEFECTS = Path(__file__).parent / "defects"


class Defect(NamedTuple):
    """What is taken out, what is run then, and which counts have to show it."""

    name: str
    suite: str
    counts: dict[str, int]
    shows: set[str]


PLANTED = (
    Defect("epoch", "engines", {"kills": 0, "stops": 5, "races": 0}, {"stale_commit"}),
    Defect("unique", "engines", {"kills": 0, "stops": 0, "races": 40}, {"versions", "scenario"}),
    Defect("lease", "sqlite", {"kills": 4}, {"stale_accept"}),
)


def plant(defect: Defect, source: Path, folder: Path) -> Path:
    """A copy of the source with the defect in it."""
    copy = folder / f"source-{defect.name}"
    for layer in LAYERS[1:]:
        shutil.copytree(source / layer, copy / layer, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(source / "horae", copy / "horae", ignore=shutil.ignore_patterns("__pycache__"))
    patch = DEFECTS / f"{defect.name}.diff"
    alone = os.environ | {"GIT_CEILING_DIRECTORIES": str(folder)}  # not part of a repository
    subprocess.run(["git", "apply", "-p0", str(patch)], cwd=copy, env=alone, check=True)
    return copy


def outcome(defect: Defect, report: dict) -> str | None:
    """Why the suite did not see the defect; None if it did."""
    seen = defect.shows & report["violations"].keys()
    if seen:
        return None
    return f"without the {defect.name} the suite saw {sorted(report['violations']) or 'nothing'}"
