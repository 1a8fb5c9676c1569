"""The executor interface: accepts attempts, returns events. Independent of studies, samplers and databases."""

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
    TIME_LIMIT = "time-limit"
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
    """An attempt returned a result, successful or not."""

    attempt: str
    result: TrialResult


@dataclass(frozen=True)
class Lost:
    """An attempt ended without a result because its worker died. It may be retried."""

    attempt: str
    reason: LossReason
    detail: str = ""


Event = Started | Reported | Finished | Lost


class ExecutorError(RunFailed):
    """The executor cannot start or continue; the message is one line."""


class ExecutorLost(ExecutorError):  # noqa: N818  (it reads as what happened)
    """The executor was lost during the run, for example with Ray's head node; a new one may continue."""

    passing = True


class Executor(ABC):
    """Runs attempts of trials; a context manager that leaves no process behind.

    The conformance suite in the tests defines the contract of every executor: each submitted attempt ends with
    exactly one Finished or Lost, reports come in order before it, and a dead worker costs only its own attempt.
    """

    @property
    @abstractmethod
    def capacity(self) -> int:
        """How many attempts can run in parallel."""

    @abstractmethod
    def submit(self, attempt: str, spec: TrialSpec) -> None:
        """Start an attempt; its id is part of every event."""

    @abstractmethod
    def poll(self, timeout: float) -> list[Event]:
        """Events since the last call; waits up to ``timeout`` seconds for the first.

        Raises:
            ExecutorError: if no attempt can run any more.
        """

    @abstractmethod
    def stop(self, attempt: str) -> None:
        """Ask an attempt to stop at its next report; it ends Finished, normally in state ``stopped``."""

    @abstractmethod
    def withdraw(self, attempt: str) -> None:
        """End an attempt now, whether it has started or not; the driver ignores later events of it."""

    def want(self, trials: int) -> None:
        """Hear how many attempts could run now, those that do included, for a pool of workers that can grow."""
        del trials

    def obstacle(self) -> str | None:
        """One line on why no attempt can start now; None if one can."""
        return None

    @abstractmethod
    def shutdown(self) -> None:
        """End all workers now; calling it twice is harmless."""

    def now(self) -> float:
        """Seconds on the executor's clock (virtual in simulation)."""
        import time

        return time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()
