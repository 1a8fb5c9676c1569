"""An executor whose events are written down beforehand, and sweeps on it."""

from __future__ import annotations

from collections import deque

from fake_sweep import run

from orchestrator.executors.base import Event, Executor, Finished
from orchestrator.spec import TrialResult, TrialSpec
from orchestrator.storage.frames import trials_frame
from orchestrator.storage.store import Store


class ScriptedExecutor(Executor):
    """Ends attempts in the driver's own process as ``script`` says; its clock jumps so that no test waits."""

    def __init__(self, script=None, capacity: int = 2) -> None:
        self.script = script or (lambda attempt, spec, nth: [Finished(attempt, good(spec))])
        self.room = capacity
        self.seen: list[TrialSpec] = []
        self.stopped: list[str] = []
        self.withdrawn: list[str] = []
        self.queue: deque[Event] = deque()
        self.clock = 0.0

    @property
    def capacity(self) -> int:
        return self.room

    def submit(self, attempt: str, spec: TrialSpec) -> None:
        self.seen.append(spec)
        nth = sum(other == spec for other in self.seen)
        self.queue.extend(self.script(attempt, spec, nth))

    def poll(self, timeout: float) -> list[Event]:
        self.clock += timeout
        events, self.queue = list(self.queue), deque()
        return events

    def stop(self, attempt: str) -> None:
        self.stopped.append(attempt)

    def withdraw(self, attempt: str) -> None:
        self.withdrawn.append(attempt)

    def shutdown(self) -> None:
        pass

    def now(self) -> float:
        return self.clock


def good(spec: TrialSpec) -> TrialResult:
    quality = float(spec.hyperparameters["quality"])
    return TrialResult(
        state="complete", val_accuracy=quality, accuracy=quality, flash=30000, sram=30000, macs=10**6, violation=0.0
    )


def scripted(storage: str, sweep, script=None, **more):
    executor = ScriptedExecutor(script)
    report = run(storage, sweep, make_executor=lambda *_: executor, **more)
    return report, executor


def frame_of(storage: str):
    store = Store(storage)
    frame = trials_frame(store, store.study())
    store.close()
    return frame
