"""What a schedule should do, said again in the plainest way: lists, numbers, and one loop over time.

It shares no code with the domain. Times are seconds. It knows interval schedules with every policy
of overlap, catch-up, retry, timeout, cooldown and limit, triggers by hand, pauses and edits.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field

GRACE = 10.0
"""How late still counts as on time."""
SINGLE_SKIPS = 10
BUFFER = 1_000
STOP_GRACE = 30.0
SILENCE = 300.0
"""Seconds after which an attempt elsewhere is given up that nothing else bounds."""


class Refused(Exception):
    """The command cannot be carried out in this state."""


@dataclass
class Policy:
    """What somebody asked for."""

    every: float = 60.0
    overlap: str = "skip"
    catch_up: str = "latest"
    window: float = 300.0
    concurrency: int | None = None
    max_executions: int | None = None
    cooldown: float | None = None
    max_attempts: int = 1
    delay: float = 1.0
    timeout: float | None = None

    @property
    def limit(self) -> int | None:
        """How many may be unfinished at once."""
        return self.concurrency or (None if self.overlap == "allow" else 1)


@dataclass
class Run:
    """One execution."""

    name: str
    by_hand: bool
    policy: Policy
    status: str = "pending"
    attempt: int = 0
    failures: int = 0
    local: bool = False
    deadline: float | None = None
    resume_at: float | None = None
    stop_by: float | None = None

    @property
    def unfinished(self) -> bool:
        """True if it has fired and has no outcome."""
        return self.status in {"pending", "running", "delayed"}


@dataclass
class Model:
    """One schedule, made at 0."""

    policy: Policy
    status: str = "active"
    anchor: float = 0.0
    through: float = 0.0
    fired: int = 0
    skips: int = 0
    cooldown_until: float | None = None
    runs: dict[str, Run] = field(default_factory=dict)
    fates: dict[float, str] = field(default_factory=dict)
    """What became of each occurrence, by the second at which it was due."""

    def copy(self) -> Model:
        """As it is now, for a command that may be refused."""
        return deepcopy(self)

    # --- what is unfinished -----------------------------------------------------------------------

    def unfinished(self) -> list[Run]:
        return [run for run in self.runs.values() if run.unfinished]

    def buffered(self) -> list[Run]:
        return [run for run in self.runs.values() if run.status == "buffered"]

    def crowded(self) -> bool:
        limit = self.policy.limit
        if self.policy.overlap == "allow" or limit is None:
            return False
        return len(self.unfinished()) >= limit

    def spent(self) -> bool:
        return self.policy.max_executions is not None and self.fired >= self.policy.max_executions

    def refusal(self) -> str | None:
        """Why an occurrence would be skipped now."""
        if not self.crowded():
            return None
        waiting = len(self.buffered())
        match self.policy.overlap:
            case "skip":
                return "overlap"
            case "buffer_one" if waiting:
                return "buffer_full"
            case "buffer_all" if waiting >= BUFFER:
                return "buffer_full"
            case _:
                return None

    # --- time -------------------------------------------------------------------------------------

    def due(self, now: float) -> list[float]:
        """Instants without a decision."""
        if self.status not in {"active", "paused"} or self.spent():
            return []
        every = self.policy.every
        first = int((self.through - self.anchor) // every) + 1
        found = []
        while (instant := self.anchor + first * every) <= now:
            if instant > self.through:
                found.append(instant)
            first += 1
        return found

    def wake(self, now: float) -> None:
        """Decide all that time has brought."""
        if self.skips >= SINGLE_SKIPS and self.refusal() is not None and self.status == "active":
            self.all(self.due(now), self.refusal() or "")
        for run in list(self.runs.values()):
            self.expire(run, now)
        self.release(now)
        if self.status == "active":
            self.catch_up(now)
            self.finish(now)

    def catch_up(self, now: float) -> None:
        instants = self.due(now)
        oldest = now - max(self.policy.window, GRACE)
        missed = [each for each in instants if each < oldest]
        self.all(missed, "missed")
        rest = instants[len(missed) :]
        if self.policy.catch_up == "latest" and rest:
            self.all(rest[:-1], "superseded")
            rest = rest[-1:]
        if self.policy.catch_up == "skip":
            late = [each for each in rest if each < now - GRACE]
            self.all(late, "overdue")
            rest = rest[len(late) :]
        for instant in rest:
            self.occur(instant, now)

    def occur(self, instant: float, now: float) -> None:
        """One occurrence, on its own."""
        if self.spent():
            return
        reason = self.refusal()
        if reason is not None:
            self.fate(instant, reason)
            self.skips += 1
            return
        if self.cooldown_until is not None and instant < self.cooldown_until:
            self.fate(instant, "cooldown")
            return
        self.admit(f"@{instant:g}", now, by_hand=False)
        self.fate(instant, "decided")

    def all(self, instants: list[float], reason: str) -> None:
        for instant in instants:
            self.fate(instant, reason)

    def fate(self, instant: float, decision: str) -> None:
        assert instant not in self.fates, f"{instant} is decided twice"
        self.fates[instant] = decision
        self.through = max(self.through, instant)

    # --- firing -----------------------------------------------------------------------------------

    def admit(self, name: str, now: float, *, by_hand: bool) -> None:
        run = Run(name, by_hand, self.policy)
        if self.crowded() and self.policy.overlap in {"cancel_other", "terminate_other"}:
            for other in self.unfinished():
                if self.policy.overlap == "terminate_other" or other.status != "running":
                    self.end(other, "cancelled")
                elif other.stop_by is None or other.stop_by > now + STOP_GRACE:
                    other.stop_by = now + STOP_GRACE
            for other in self.buffered():
                other.status = "skipped"
                self.skips = 0
        self.runs[name] = run
        if self.crowded_but(run):
            run.status = "buffered"
            if not by_hand:
                self.skips = 0
        else:
            self.fire(run, now)

    def crowded_but(self, run: Run) -> bool:
        run.status = "new"
        return self.crowded()

    def fire(self, run: Run, now: float) -> None:
        run.status = "pending"
        if not run.by_hand:
            self.fired += 1
            self.skips = 0
            if self.policy.cooldown is not None:
                self.cooldown_until = now + self.policy.cooldown

    def release(self, now: float) -> None:
        if self.status != "active":
            return
        for run in self.buffered():
            cools = self.cooldown_until is not None and now < self.cooldown_until
            if self.crowded() or (not run.by_hand and (cools or self.spent())):
                continue
            self.fire(run, now)

    def finish(self, now: float) -> None:
        """End the schedule at its limit."""
        if self.status != "active" or not self.spent():
            return
        for run in self.buffered():
            if not run.by_hand:
                run.status = "skipped"
                self.skips = 0
        if not self.buffered():
            self.status = "completed"

    def go_on(self, now: float) -> None:
        self.release(now)
        self.finish(now)

    # --- attempts ---------------------------------------------------------------------------------

    def end(self, run: Run, status: str) -> None:
        run.status, run.deadline, run.resume_at, run.stop_by = status, None, None, None
        self.skips = 0

    def fail(self, run: Run, outcome: str, now: float) -> None:
        policy = run.policy
        tries = 1 if self.status == "cancelled" else policy.max_attempts
        stopping = run.stop_by is not None
        if stopping:
            run.failures += 1
            self.end(run, "cancelled")
        elif run.failures + 1 < tries:
            pause = 0 if outcome == "lost" else min(policy.delay * 2**run.failures, 1800)
            run.failures += 1
            run.status, run.deadline, run.resume_at = "delayed", None, now + pause
        else:
            run.failures += 1
            self.end(run, self.last(outcome, tries))

    @staticmethod
    def last(outcome: str, tries: int) -> str:
        """How an execution ends after its last attempt."""
        if tries > 1:
            return "dead"
        return "timed_out" if outcome == "timed_out" else "failed"

    def expire(self, run: Run, now: float) -> None:
        if run.status != "running":
            return
        moments = [each for each in (run.deadline, run.stop_by) if each is not None]
        if not moments or min(moments) > now:
            return
        if min(moments) == run.stop_by:
            self.end(run, "cancelled")
        else:
            self.fail(run, "timed_out", now)

    # --- commands ---------------------------------------------------------------------------------

    def require_open(self) -> None:
        if self.status in {"completed", "cancelled"}:
            raise Refused

    def settle_all(self, now: float) -> None:
        self.wake(now)

    def pause(self, now: float) -> None:
        self.settle_all(now)
        self.require_open()
        self.status = "paused"

    def resume(self, now: float) -> None:
        if self.status == "paused":
            self.all(self.due(now), "paused")
        self.require_open()
        if self.status == "paused":
            self.status = "active"
            self.through = max(self.through, now)
        self.go_on(now)

    def update(self, policy: Policy, now: float) -> None:
        self.settle_all(now)
        if self.status == "paused":
            self.all(self.due(now), "paused")
        self.require_open()
        if policy != self.policy:
            if policy.every != self.policy.every:
                self.anchor = now
            self.policy = policy
            self.through = max(self.through, now)
            self.skips = 0
        self.go_on(now)

    def cancel(self, now: float) -> None:
        self.settle_all(now)
        if self.status == "paused":
            self.all(self.due(now), "paused")
        if self.status == "cancelled":
            return
        self.require_open()
        self.status = "cancelled"
        for run in self.unfinished():
            if run.status != "running":
                self.end(run, "cancelled")
        for run in self.buffered():
            run.status = "skipped"

    def trigger(self, key: str, now: float) -> None:
        self.wake(now)
        self.require_open()
        reason = self.refusal()
        if reason is None:
            self.admit(key, now, by_hand=True)

    def start(self, run: Run, now: float, *, local: bool) -> None:
        """Hand the next attempt to a worker."""
        if local:
            run.local = True
        else:
            self.wake(now)
            if not self.ready(run, now):
                raise Refused
            running = sum(each.status == "running" for each in self.runs.values())
            limit = self.policy.limit
            if limit is not None and len(self.unfinished()) > limit and running >= limit:
                raise Refused
            run.local = False
        run.status = "running"
        run.attempt += 1
        run.resume_at = None
        bound = run.policy.timeout or (None if local else SILENCE)
        run.deadline = None if bound is None else now + bound

    @staticmethod
    def ready(run: Run, now: float) -> bool:
        waits = run.status == "delayed" and run.resume_at is not None and run.resume_at <= now
        return run.status == "pending" or waits

    def report(self, run: Run, outcome: str, now: float) -> None:
        """Its worker says how the present attempt went."""
        self.wake(now)
        if run.status == "running":
            match outcome:
                case "succeeded":
                    self.end(run, "succeeded")
                case "cancelled":
                    self.end(run, "cancelled")
                case _:
                    self.fail(run, outcome, now)
        self.go_on(now)

    def cancel_run(self, run: Run, now: float) -> None:
        self.wake(now)
        if run.status == "cancelled":
            return
        if not run.unfinished and run.status != "buffered":
            raise Refused
        self.end(run, "cancelled")
        self.go_on(now)

    def owner_lost(self, now: float) -> None:
        """Another process takes over: what ran in the memory of the former one is lost."""
        lost = [run for run in self.runs.values() if run.status == "running" and run.local]
        for run in lost:
            self.fail(run, "lost", now)
        if lost:
            self.go_on(now)
