"""The report of a run of the worked examples, for people. Nothing of Horae."""

from __future__ import annotations

from tests.faults.sagas.waits import CANCELLED, CONFIRMED, TIMED_OUT, Wait


def first(wait: Wait, kill: dict) -> str:
    """One wait that was met: when after its begin, how long it was, and how it ended."""
    at, lasted = kill["at"] - wait.begin / 1e6, (wait.end - wait.begin) / 1e6
    return f"{kill['target']} at {at:.1f} of {lasted:.1f} s: {wait.outcome}"


def shown(report: dict, kinds: tuple[str, ...]) -> str:
    """The report for people."""
    head = (
        f"{'example':18}{'wait':14}{'waits':>6}{'hit':>5}  {'one of them':40}"
        f"{'engine':>7}{'executor':>9}{'nats':>6}  {CONFIRMED:>10}{TIMED_OUT:>11}{CANCELLED:>11}"
    )
    lines = [
        (
            f"{report['executions']} executions, {report['events']} events,"
            f" {report['handler_starts']} handler starts; commands {dict(report['commands'])};"
            f" kills {dict(report['kills'])}"
        ),
        head,
    ]
    for each in report["waits"]:
        killed, ends = each["killed"], each["ends"]
        lines.append(
            f"{each['example']:18}{each['wait']:14}{each['waits']:6}{each['hit']:5}  {each['first'] or '-':40}"
            f"{killed['engine']:7}{killed['executor']:9}{killed['nats']:6}  "
            f"{ends[CONFIRMED]:10}{ends[TIMED_OUT]:11}{ends[CANCELLED]:11}"
        )
    counts = {kind: len(report["violations"].get(kind, ())) for kind in kinds}
    lines.append("  ".join(f"{kind} {count}" for kind, count in counts.items()))
    for kind, texts in report["violations"].items():
        lines += [f"  {kind}: {text}" for text in texts[:8]]
    return "\n".join(lines)
