"""`python -m tests.faults [sqlite] [postgres] [engines] [sagas] [red]`: the fault suite; all unless told."""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.faults import engines, red
from tests.faults.cluster import Cluster
from tests.faults.harness import IN_FLIGHT, Run
from tests.faults.sagas import scenario as sagas

ROOT = Path(__file__).parents[2]
NODES = {
    "sqlite": {"node": "engine,executor,views"},
    "postgres": {"engine": "engine", "executor": "executor", "views": "views"},
    "engines": engines.NODES,
}
STORES = {"engines": "postgres"}
WIPE_EVERY = 5
"""Of the kills of NATS, every so many takes its storage with it."""


async def kills(run: Run, targets: list[str], count: int) -> None:
    """Each target as often as asked for, in an order by the seed."""
    plan = [(target, n) for target in targets for n in range(count)]
    run.rng.shuffle(plan)
    await run.begin()
    for target, n in plan:
        await run.kill(target, wipe=target == "nats" and n % WIPE_EVERY == WIPE_EVERY - 1)
    await run.end()


def suite(
    store: str, args: argparse.Namespace, source: Path, folder: Path, counts: dict[str, int]
) -> dict:
    """Run one suite and let the checker count."""
    cluster = Cluster(folder, STORES.get(store, store), NODES[store], source)
    run = Run(cluster, args.seed, in_flight=args.in_flight, slow=args.slow)
    run.say = saying()
    if store == "engines":
        scenario = engines.scenario(run, **counts)
    else:
        known = [*NODES[store], *cluster.servers]
        targets = [name for name in known if name in args.targets]
        scenario = kills(run, targets or known, counts["kills"])
    try:
        asyncio.run(scenario)
        return judged(cluster)
    finally:
        cluster.close()


def served_examples(args: argparse.Namespace, folder: Path) -> dict:
    """Run the worked examples and kill in the midst of their waits."""
    settings = sagas.SETTINGS | {
        "SAGAS_DIR": str(folder / "sagas"),
        "SAGAS_PARTNER": sagas.partner.partner_url(),
    }
    program = Path(sagas.__file__).with_name("node.py")
    cluster = Cluster(
        folder, args.sagas_store, sagas.NODES, args.source,
        program=program, settings=settings, worker=False,
    )  # fmt: skip
    run = sagas.Sagas(cluster, args.seed)
    run.say = saying()
    try:
        asyncio.run(sagas.scenario(run, args.waves))
        return judged(cluster, "tests.faults.sagas.check")
    finally:
        cluster.close()


def saying() -> Callable[[str], None]:
    """What prints how far a run is."""
    began = time.monotonic()
    return lambda text: print(
        f"{time.monotonic() - began:7.1f} {text}", file=sys.stderr, flush=True
    )


def show_red(args: argparse.Namespace, base: Path) -> bool:
    """Plant each defect; true if the suite missed one."""
    missed = False
    for defect in [each for each in red.PLANTED if each.name in args.defects]:
        source = red.plant(defect, args.source, base)
        report = suite(defect.suite, args, source, base / f"red-{defect.name}", defect.counts)
        why = red.outcome(defect, report)
        print(f"planted {defect.name}: {why or 'seen'}", flush=True)
        missed |= why is not None
    return missed


def judged(cluster: Cluster, checker: str = "tests.faults.check") -> dict:
    """What the checker says, in a process of its own that imports nothing of Horae."""
    done = subprocess.run(
        [sys.executable, "-m", checker, cluster.store_url, str(cluster.folder)],
        cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    table, _, report = done.stdout.strip().rpartition("\n")
    print(table, flush=True)
    return json.loads(report)


def main() -> int:
    """Run what was asked for; 1 if any promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument(
        "suites", nargs="*", default=["sqlite", "postgres", "engines", "sagas", "red"]
    )
    parser.add_argument("--kills", type=int, default=20, help="of each target")
    parser.add_argument("--targets", nargs="*", default=[], help="all unless told")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--in-flight", type=int, default=IN_FLIGHT)
    parser.add_argument("--slow", type=int, default=32, help="schedules with slow handlers")
    parser.add_argument("--engine-kills", type=int, default=4, help="in the suite of two engines")
    parser.add_argument("--stops", type=int, default=4, help="in the suite of two engines")
    parser.add_argument("--races", type=int, default=60, help="in the suite of two engines")
    parser.add_argument("--waves", type=int, default=9, help="of the suite sagas, a kill in each")
    stores = ["sqlite", "postgres"]
    parser.add_argument(
        "--sagas-store", choices=stores, default="sqlite", help="of the suite sagas"
    )
    names = [each.name for each in red.PLANTED]
    parser.add_argument("--defects", nargs="*", default=names, help="in the suite red")
    parser.add_argument("--source", type=Path, default=ROOT, help="the tree whose code is run")
    parser.add_argument("--keep", type=Path, help="a folder for what the runs leave behind")
    args = parser.parse_args()
    broken = False
    with tempfile.TemporaryDirectory(prefix="horae-faults-") as temporary:
        Path(temporary).chmod(0o711)  # PostgreSQL may run as a user of its own
        base = args.keep or Path(temporary)
        for name in args.suites:
            if name == "red":
                broken |= show_red(args, base)
                continue
            counts = {"kills": args.kills}
            if name == "engines":
                counts = {"kills": args.engine_kills, "stops": args.stops, "races": args.races}
            if name == "sagas":
                report = served_examples(args, base / name)
            else:
                report = suite(name, args, args.source, base / name, counts)
            broken |= bool(report["violations"])
            (base / f"{name}.json").write_text(json.dumps(report, indent=1))
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
