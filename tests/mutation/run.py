"""Mutation testing of the domain: does a test fail when a rule is changed?

    python tests/mutation/run.py [--jobs 2] [--sample N] [--seed 0] [MODULE ...]

All tests of the domain run once, to learn which lines each reaches and how long it takes. Every
mutant is then tried on those that reach its lines, the quickest first, until one fails; tests of
more than 20 s in all are not tried, so that a mutant which only they would kill survives. A mutant
of a function's body replaces its code in a process that has all imported; what else a mutant
changes is imported anew, from a copy of the domain and its tests, never from the checkout.

The output is a table by file and the survivors as diffs; the exit code is 1 below `--at-least`.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec
from judge import Copy, Try
from mutants import PACKAGE, ROOT, Mutant, diff, mutants, source_of
from reach import Reach


def _judged(work: list[Mutant], jobs: int, reach: Reach) -> Iterator[tuple[int, bool]]:
    """The index of each mutant and whether it was killed, as the jobs find out."""
    with ExitStack() as stack:
        copies = [stack.enter_context(Copy()) for _ in range(jobs)]
        left = []
        for index, dead in _shared(copies, work, range(len(work)), _quickly(reach)):
            if dead is None:
                left.append(index)
            else:
                yield index, dead
        for index, dead in _shared(copies, work, left, _anew(reach)):
            yield index, bool(dead)


Way = Callable[[Copy, Callable[[Try], None]], None]


def _quickly(reach: Reach) -> Way:
    return lambda copy, judge: copy.serve(judge, reach)


def _anew(reach: Reach) -> Way:
    return lambda copy, judge: judge(lambda mutant: copy.kills(mutant, reach))


def _shared(
    copies: list[Copy], work: list[Mutant], indices: Sequence[int], way: Way
) -> Iterator[tuple[int, bool | None]]:
    """Mutants, shared by a process for each copy."""
    context = multiprocessing.get_context("fork")
    following, results = context.Value("i", 0), context.SimpleQueue()

    def judge(attempt: Try) -> None:
        while True:
            with following.get_lock():
                number = following.value
                following.value += 1
            if number >= len(indices):
                return
            results.put((indices[number], attempt(work[indices[number]])))

    workers = [context.Process(target=way, args=(each, judge), daemon=True) for each in copies]
    for worker in workers:
        worker.start()
    for _ in indices:
        yield results.get()
    for worker in workers:
        worker.join()


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", help="such as decider.py; all unless told")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--sample", type=int, help="so many of each file, chosen at random")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--at-least", type=float, default=85.0, help="per cent killed")
    parser.add_argument("--reach", type=Path, help="a file that keeps what each test reaches")
    told = parser.parse_args()
    modules = told.modules or _all()
    work: list[Mutant] = []
    for module in modules:
        work += mutants(module, told.sample, told.seed)
    reach = _reach(told.reach)
    _check(reach)
    return _report(_judged(work, told.jobs, reach), work, modules, told.at_least)


def _all() -> list[str]:
    package = ROOT / PACKAGE
    return sorted(each.relative_to(package).as_posix() for each in package.rglob("*.py"))


def _reach(kept: Path | None) -> Reach:
    if kept is not None and kept.exists():
        return msgspec.json.decode(kept.read_bytes(), type=Reach)
    with Copy() as copy:
        reach = copy.measure()
    if kept is not None:
        kept.write_bytes(msgspec.json.encode(reach))
    return reach


def _check(reach: Reach) -> None:
    with Copy() as copy:
        if not copy.kills(Mutant("errors.py", "Broken", "broken(", range(0)), reach):
            sys.exit("the tests do not see the copy")
        if copy.kills(Mutant("errors.py", "Sound", source_of("errors.py"), range(0)), reach):
            sys.exit("the tests fail without a mutant")


def _report(
    judged: Iterator[tuple[int, bool]], work: list[Mutant], modules: list[str], at_least: float
) -> int:
    killed: Counter[str] = Counter()
    for index, dead in judged:
        mutant = work[index]
        killed[mutant.module] += dead
        if not dead:
            print(f"--- survived: {mutant.module} {mutant.what}\n{diff(mutant)}", flush=True)
    total = Counter(mutant.module for mutant in work)
    print(f"{'file':24}{'mutants':>9}{'killed':>9}{'per cent':>10}")
    for module in modules:
        _line(module, total[module], killed[module])
    _line("all", total.total(), killed.total())
    return int(100 * killed.total() < at_least * total.total())


def _line(name: str, total: int, killed: int) -> None:
    share = f"{100 * killed / total:.1f}" if total else "-"
    print(f"{name:24}{total:>9}{killed:>9}{share:>10}")


if __name__ == "__main__":
    sys.exit(main())
