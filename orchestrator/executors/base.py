"""The executor: takes attempts, answers with events. It knows nothing of studies, samplers or databases."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Self

from orchestrator.failures import RunFailed
from orchestrator.spec import EpochReport, TrialResult, TrialSpec


class LossReason(StrEnum):
    """Why an attempt ended without a result."""

    WORKER_DIED = "worker-died"
    OUT_OF_MEMORY = "out-of-memory"
    EXECUTOR_LOST = "executor-lost"
    ENVIRONMENT = "environment"
    DRIVER_DIED = "driver-died"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class Started:
    """An attempt began on a worker."""

    attempt: str
    host: str
    pid: int


@dataclass(frozen=True)
class Reported:
    """An attempt reported an epoch."""

    attempt: str
    report: EpochReport


@dataclass(frozen=True)
class Finished:
    """An attempt gave a result, good or bad."""

    attempt: str
    result: TrialResult


@dataclass(frozen=True)
class Lost:
    """An attempt ended without a result: its worker is gone. It may be tried again."""

    attempt: str
    reason: LossReason
    detail: str = ""


Event = Started | Reported | Finished | Lost


class ExecutorError(RunFailed):
    """The executor as a whole cannot start or go on; one line that says why."""


class ExecutorLost(ExecutorError):  # noqa: N818  (it reads as what happened)
    """The executor ran and is gone, as when Ray's head dies; another one may go on."""

    passing = True


class Executor(ABC):
    """Runs attempts of trials; a context manager that leaves no process behind.

    The conformance suite in the tests states what every executor holds to: each submitted attempt ends with
    exactly one Finished or Lost, reports come in order before it, and a dead worker costs only its own attempt.
    """

    @property
    @abstractmethod
    def capacity(self) -> int:
        """How many attempts can run at the same time."""

    @abstractmethod
    def submit(self, attempt: str, spec: TrialSpec) -> None:
        """Start an attempt; its id comes back in every event."""

    @abstractmethod
    def poll(self, timeout: float) -> list[Event]:
        """Events since the last call; waits up to ``timeout`` seconds for the first.

        Raises:
            ExecutorError: if nothing can run any more.
        """

    @abstractmethod
    def stop(self, attempt: str) -> None:
        """Ask an attempt to stop at its next report; it ends Finished, normally in state ``stopped``."""

    def withdraw(self, attempt: str) -> None:  # noqa: B027  (an executor in which nothing waits has nothing to do)
        """Take back an attempt that has not begun; what it still reports is ignored."""

    def obstacle(self) -> str | None:
        """One line that says why no attempt can begin now; None as long as one can."""
        return None

    @abstractmethod
    def shutdown(self) -> None:
        """End all workers now; calling it twice is harmless."""

    def now(self) -> float:
        """Seconds on the clock that attempts run by (the simulated executor's is virtual)."""
        import time

        return time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()
