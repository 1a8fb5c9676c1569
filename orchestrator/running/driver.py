"""The driver: queries the sampler, submits trials to the executor, stores results. The only writer of the database.

The database is authoritative. Every step is committed before the next one that depends on it, so the driver can be
killed at any time: `reconcile` recovers the state, finished trials are never run again, unfinished ones keep their
specification and seed, and results of abandoned attempts are rejected.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

from mcu.terms import FINAL_STATES, TrialState
from mcu.units import format_duration
from orchestrator.executors.base import Event, Finished, LossReason, Lost, Reported, Started
from orchestrator.planning.planned_trial import PlannedTrial, Trained
from orchestrator.running.disk_guard import DiskShort
from orchestrator.running.interrupts import Wish
from orchestrator.running.parts import DriverParts
from orchestrator.running.queue import Queue
from orchestrator.running.warm_start import past_of
from orchestrator.samplers.base import Context
from orchestrator.samplers.observation import observe
from orchestrator.spec import EpochReport, TrialResult, TrialSpec
from orchestrator.storage.connection import StoreError
from orchestrator.storage.optuna_mirror import MirroredTrial
from orchestrator.storage.search import read_trial
from orchestrator.storage.store import StoredTrial
from orchestrator.storage.study_lock import StudyLock
from search_spaces.choices import Scalar

POLL_SECONDS = 0.5
HEARTBEAT_SECONDS = 10.0
CHECKPOINT_SECONDS = 60.0
COUNTED_LOSSES = tuple(
    reason.value for reason in LossReason if reason not in (LossReason.DRIVER_DIED, LossReason.INTERRUPTED)
)


@dataclass(frozen=True)
class Work:
    """A trial in the database without a result."""

    trial_id: int
    number: int
    spec: TrialSpec
    failures: int = 0
    not_before: float = 0.0


class Driver:
    """Runs the trials of one study that have no result yet. Hold the study's lock while it runs.

    Raises (from `run`):
        StoreError: the database failed; stored results are kept.
        ExecutorError: no trial can run any more.
        DiskShort: too little space is left to begin another trial.
    """

    def __init__(self, parts: DriverParts, lock: StudyLock) -> None:
        self._parts, self._lock = parts, lock
        self._waiting: deque[Work] = deque()
        self._running: dict[str, Work] = {}
        self._begun: dict[str, float] = {}
        self._queue = Queue(parts.plan.lineage)
        self._last_heartbeat = self._last_checkpoint = 0.0
        self._noted_wish = Wish.GO_ON
        self._shortage: str | None = None
        self._obstacle: str | None = None

    def run(self) -> bool:
        """Run until every planned trial has a result; False if the user interrupted."""
        parts = self._parts
        earlier = self.reconcile()
        parts.watcher.begin(parts.plan, earlier, parts.executor.capacity)
        try:
            while self._step():
                pass
        finally:
            self._give_up(LossReason.INTERRUPTED)
            parts.executor.shutdown()
            parts.watcher.close()
        return parts.interrupts.wish is Wish.GO_ON or not self._unfinished()

    def _step(self) -> bool:
        """One round: fill the workers, wait for events, take them in. False when there is nothing left to do."""
        parts = self._parts
        wish = parts.interrupts.wish
        self._tell_wish(wish)
        if wish is Wish.STOP_NOW:
            return False
        if wish is Wish.GO_ON and not self._disk_is_short():
            self._fill()
        elif wish is not Wish.GO_ON:
            self._withdraw_what_waits()
        if not self._running and (wish is not Wish.GO_ON or not self._unfinished()):
            return False
        startable = len(self._waiting) + self._queue.ready if wish is Wish.GO_ON else 0
        parts.executor.want(len(self._running) + startable)
        for event in parts.executor.poll(POLL_SECONDS):
            self._take_in(event)
        self._end_overdue()
        self._tell_obstacle()
        self._heartbeat()
        parts.watcher.tick()
        return True

    def _disk_is_short(self) -> bool:
        """Whether no trial may begin for want of space; the line is told once, and ends the run once nothing runs."""
        shortage = self._parts.disk.shortage()
        if shortage is not None and not self._running and self._unfinished():
            raise DiskShort(shortage)
        if shortage is not None and self._shortage is None:
            self._parts.watcher.note(f"{shortage}; finishing {len(self._running)} running trials")
        self._shortage = shortage
        return shortage is not None

    def _unfinished(self) -> bool:
        return bool(self._waiting or self._running or len(self._queue))

    def _tell_wish(self, wish: Wish) -> None:
        if wish is self._noted_wish:
            return
        self._noted_wish = wish
        if wish is Wish.FINISH_RUNNING:
            running = len(self._begun)
            self._parts.watcher.note(f"interrupted: finishing {running} running trials; Ctrl-C again stops now")

    def _withdraw_what_waits(self) -> None:
        """Take back attempts that no worker has begun: after an interrupt only those that run are waited for."""
        for attempt in [attempt for attempt in self._running if attempt not in self._begun]:
            self._parts.executor.withdraw(attempt)
            self._parts.store.end_attempt(attempt, LossReason.INTERRUPTED.value)
            self._waiting.append(self._running.pop(attempt))

    def _end_overdue(self) -> None:
        """End attempts that exceed the time limit."""
        limit, now = self._parts.retries.longest_run, self._parts.executor.now()
        for attempt in [attempt for attempt, begun in self._begun.items() if now - begun > limit]:
            self._parts.executor.withdraw(attempt)
            work = self._running[attempt]
            self._ended(attempt)
            detail = f"it ran for more than {format_duration(limit)}, which [workers] time_limit allows"
            self._retry(attempt, work, LossReason.TIME_LIMIT, detail)

    def _tell_obstacle(self) -> None:
        """Say once that nothing can begin, and once that it can again."""
        obstacle = self._parts.executor.obstacle()
        if obstacle != self._obstacle:
            self._obstacle = obstacle
            self._parts.watcher.note(f"{obstacle}; waiting for one" if obstacle else "trials can start again")

    def _heartbeat(self) -> None:
        now = time.monotonic()  # not the executor's clock: others judge it by theirs
        if now - self._last_heartbeat < HEARTBEAT_SECONDS:
            return
        self._last_heartbeat = now
        self._lock.renew()
        if now - self._last_checkpoint >= CHECKPOINT_SECONDS:
            self._last_checkpoint = now
            self._parts.store.checkpoint()

    # taking up

    def reconcile(self) -> list[tuple[TrialSpec, TrialResult]]:
        """Recover the state of an earlier driver; returns the finished trials. Call it before sampling.

        Raises:
            InputError: trials are left to run, and the data or the user's code have changed since the others ran.
        """
        parts = self._parts
        parts.store.give_up_open_attempts(parts.study, LossReason.DRIVER_DIED.value)
        failures: dict[int, int] = {}
        for attempt in parts.store.attempts(parts.study):
            failures[attempt["number"]] = failures.get(attempt["number"], 0) + (attempt["reason"] in COUNTED_LOSSES)
        planned = len(parts.plan.trials)  # trials merged in from another database lie behind the plan
        stored = [trial for trial in parts.store.trials(parts.study) if trial.number < planned]
        if not parts.study.simulated and sum(trial.state in FINAL_STATES for trial in stored) < planned:
            parts.plan.require_unchanged({trial.number: trial.spec for trial in stored})
        self._remind_sampler(stored)
        for trial in stored:
            if trial.state not in FINAL_STATES:
                work = Work(trial.id, trial.number, trial.spec, failures.get(trial.number, 0))
                self._waiting.append(work)
        self._queue = Queue(parts.plan.lineage, (trial.number for trial in stored))
        for trial in stored:
            planned_trial = parts.plan.trials[trial.number]
            if trial.result is not None:
                self._note_network(planned_trial, trial.spec, trial.result)
            if planned_trial.is_sampled:
                parts.budgets.restore(planned_trial, trial.spec, trial.result)
        self._remind_stop_rule(stored)
        return [(trial.spec, trial.result) for trial in stored if trial.result is not None]

    def _remind_stop_rule(self, stored: list[StoredTrial]) -> None:
        """Give the stop rule the reports and ends of finished trials; unfinished ones report theirs again."""
        parts = self._parts
        rivals = [trial for trial in stored if parts.plan.trials[trial.number].repeats is None]
        finished = {trial.number: trial for trial in rivals if trial.result is not None}
        for row in parts.store.epoch_reports(parts.study):
            trial = finished.get(row["number"])
            if trial is not None:
                report = EpochReport(**{name: row[name] for name in EpochReport.model_fields})
                parts.stop_rule.judge(trial.number, trial.spec, report)
        for trial in finished.values():
            if trial.result is not None:
                parts.stop_rule.ended(trial.number, trial.spec, trial.result)

    def _remind_sampler(self, stored: list[StoredTrial]) -> None:
        parts = self._parts
        parts.mirror.complete([(self._mirrored(trial.number, trial.spec), trial.result) for trial in stored])
        for trial in stored:
            planned = parts.plan.trials[trial.number]
            if planned.is_sampled:
                parts.sampler.restore(past_of(trial, planned.index))

    # handing out

    def _fill(self) -> None:
        work = self._work()
        while len(self._running) < self._parts.executor.capacity:
            trial = next(work, None)
            if trial is None:
                return
            self._hand_out(trial)

    def _work(self) -> Iterator[Work]:
        """Trials that may start now: those of earlier attempts first, then new ones."""
        now = self._parts.executor.now()
        for _ in range(len(self._waiting)):
            work = self._waiting.popleft()
            if work.not_before <= now:
                yield work
            else:
                self._waiting.append(work)
        while (number := self._queue.next(self._parts.executor.capacity)) is not None:
            new = self._ask(self._parts.plan.trials[number])
            if new is not None:
                yield new

    def _ask(self, planned: PlannedTrial) -> Work | None:
        """Write a planned trial whose ancestor is through; None if an equal one gave its result already."""
        parts = self._parts
        spec = self._specify(planned)
        trial_id = parts.store.add_trial(parts.study, planned.number, spec)
        parts.mirror.start(self._mirrored(planned.number, spec))
        work = Work(trial_id, planned.number, spec)
        equal = None if parts.study.simulated else parts.store.equal_result(spec.hash())
        if equal is None:
            return work
        origin, result = equal
        parts.store.finish_without_attempt(trial_id, result, reused_from=origin)
        self._conclude(work, result, origin)
        return None

    def _specify(self, planned: PlannedTrial) -> TrialSpec:
        """The specification of a planned trial: with sampled hyperparameters, or that of the trial it repeats."""
        parts = self._parts
        if planned.repeats is not None:
            again = read_trial(parts.store, parts.study, planned.repeats)
            assert again is not None, "a trial is repeated after it has ended"
            return TrialSpec.model_validate(again["spec"] | {"seed": planned.seed})
        chosen: dict[str, Scalar] = {}
        if planned.is_sampled:
            planned = replace(planned, budget=parts.budgets.of(planned))
            seeds = parts.plan.sweep.sweep.seeds or 1
            context = Context(planned.budget, planned.network.name, len(parts.plan.cells), seeds)
            chosen = parts.sampler.suggest(planned.method, planned.index, context)
        return parts.plan.spec(planned, chosen, self._queue.start(planned))

    def _mirrored(self, number: int, spec: TrialSpec) -> MirroredTrial:
        planned = self._parts.plan.trials[number]
        space = {} if not planned.is_sampled else self._parts.plan.spaces[planned.method]
        return MirroredTrial(number, spec, space, planned.index)

    def _note_network(self, planned: PlannedTrial, spec: TrialSpec, result: TrialResult) -> None:
        """Let those go on that waited for a trial's trained network, with it or without."""
        if planned.is_parent or self._parts.plan.lineage.inherits(planned):
            left = result.state == TrialState.COMPLETE and spec.leaves_network and self._parts.left_network(result)
            self._queue.ended(planned.number, Trained(spec.hash(), spec.budget, result.dense) if left else None)

    def _hand_out(self, work: Work) -> None:
        attempt = self._parts.store.begin_attempt(work.trial_id)
        self._running[attempt] = work
        self._parts.executor.submit(attempt, work.spec)
        self._parts.watcher.started(work.number, work.spec)

    # taking in

    def _take_in(self, event: Event) -> None:
        parts = self._parts
        work = self._running.get(event.attempt)
        if work is None:
            return  # an attempt that was given up
        match event:
            case Started(attempt, host, pid):
                self._begun[attempt] = parts.executor.now()
                parts.store.note_worker(attempt, host, pid)
            case Reported(attempt, report):
                parts.store.add_report(attempt, report)
                parts.watcher.reported(work.number, report)
                if self._is_behind(work, report):
                    parts.executor.stop(attempt)
            case Finished(attempt, result):
                parts.keep(result)
                accepted = parts.store.finish_attempt(attempt, result)
                self._ended(attempt)
                if accepted:
                    self._conclude(work, result, None)
            case Lost(attempt, reason, detail):
                self._ended(attempt)
                self._retry(attempt, work, reason, detail)

    def _is_behind(self, work: Work, report: EpochReport) -> bool:
        """Whether the stop rule ends a trial; never one whose result is asked for with another seed."""
        parts = self._parts
        repeats = parts.plan.trials[work.number].repeats is not None
        return not repeats and parts.stop_rule.judge(work.number, work.spec, report)

    def _ended(self, attempt: str) -> None:
        del self._running[attempt]
        self._begun.pop(attempt, None)

    def _conclude(self, work: Work, result: TrialResult, reused_from: str | None) -> None:
        parts = self._parts
        planned = parts.plan.trials[work.number]
        parts.mirror.finish(self._mirrored(work.number, work.spec), result)
        if planned.is_sampled:
            parts.sampler.learn(planned.method, planned.index, observe(result, work.spec.budget, work.spec.runtime))
            parts.budgets.ended(planned, work.spec, result)
        self._note_network(planned, work.spec, result)
        if planned.repeats is None:
            parts.stop_rule.ended(work.number, work.spec, result)
        parts.on_result()
        parts.watcher.finished(work.number, work.spec, result, reused_from)

    def _retry(self, attempt: str, work: Work, reason: LossReason, detail: str) -> None:
        parts = self._parts
        failures = work.failures + (reason.value in COUNTED_LOSSES)
        parts.store.end_attempt(attempt, reason.value, detail)
        retried = failures < parts.retries.max_attempts
        parts.watcher.lost(work.number, reason, detail, retried)
        if retried:
            later = parts.executor.now() + parts.retries.wait(max(1, failures))
            self._waiting.append(Work(work.trial_id, work.number, work.spec, failures, later))
            return
        given_up = TrialResult(state=TrialState.FAILED, reason=f"gave up after {failures} attempts: {reason}: {detail}")
        parts.store.finish_without_attempt(work.trial_id, given_up)
        self._conclude(work, given_up, None)

    def _give_up(self, reason: LossReason) -> None:
        """Plan what still runs again; a database that gave out keeps it open for the next `reconcile`."""
        for attempt in list(self._running):
            try:
                self._parts.store.end_attempt(attempt, reason.value)
            except StoreError:
                return
            del self._running[attempt]
