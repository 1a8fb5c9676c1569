"""Trials as Ray Core tasks: on this machine's own Ray, or on a cluster that is already there.

A trial runs in a thread of a streaming-generator task, which yields its rungs and at last its result. Retries
are the driver's (``max_retries=0``). Stopping goes through a small actor that exists only once it is needed.
"""

from __future__ import annotations

import os
import queue
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing leaves the machine
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DISABLE_IMPORT_WARNING": "1",
    "RAY_TASK_MAX_RETRIES": "0",
}
for _name, _value in _QUIET.items():  # Ray reads them on import
    os.environ.setdefault(_name, _value)

import ray  # noqa: E402
import ray.exceptions  # noqa: E402

from orchestrator.executors.attempt import WorkerSetting, run_attempt  # noqa: E402
from orchestrator.executors.base import (  # noqa: E402
    Event,
    Executor,
    ExecutorError,
    Finished,
    LossReason,
    Lost,
    Reported,
    Started,
)
from orchestrator.spec import Rung, TrialResult, TrialSpec  # noqa: E402

OBJECT_STORE_BYTES = 256 * 1024 * 1024
MOST_EVENTS = 1000  # of one poll: a trial that reports without pause must not hold the driver
CONNECT_SECONDS = 5.0
STOP_BOARD = "mcusweep-stops"
_NAMESPACE = "mcusweep"


class _StopBoard:
    """Names of the attempts that should stop."""

    def __init__(self) -> None:
        self._attempts: set[str] = set()

    def add(self, attempt: str) -> None:
        self._attempts.add(attempt)

    def holds(self, attempt: str) -> bool:
        return attempt in self._attempts


def _should_stop(board: str, attempt: str) -> bool:
    try:
        return bool(ray.get(ray.get_actor(board).holds.remote(attempt), timeout=10))
    except (ValueError, ray.exceptions.RayError):  # nobody was ever stopped, or the board is gone
        return False


def _attempt(setting: WorkerSetting, board: str, attempt: str, spec_json: str) -> Iterator[tuple[str, Any]]:
    """The body of the Ray task: yields ``started``, each ``rung``, then ``done``."""
    messages: queue.Queue[tuple[str, Any]] = queue.Queue()
    cancelled = threading.Event()

    def report(rung: Rung) -> bool:
        messages.put(("rung", rung.model_dump_json()))
        return not cancelled.is_set() and not _should_stop(board, attempt)

    def work() -> None:
        messages.put(("done", run_attempt(setting, spec_json, report).model_dump_json()))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield "started", (socket.gethostname(), os.getpid())
        kind = ""
        while kind != "done":
            try:
                kind, content = messages.get(timeout=0.5)
            except queue.Empty:
                continue
            yield kind, content
    finally:
        cancelled.set()  # a cancelled task must not leave its trial running in a reused process
        thread.join()


class RayExecutor(Executor):
    """Attempts as Ray tasks of ``cpus_per_trial`` CPUs each; ``workers`` of them, or as many as there is room for.

    Raises:
        ExecutorError: if Ray does not start, or no cluster answers at ``address``.
    """

    def __init__(
        self,
        setting: WorkerSetting,
        workers: int | None,
        *,
        cpus_per_trial: int = 1,
        address: str | None = None,
        use_gpu: bool = False,
    ) -> None:
        self._setting = setting
        self._own_cluster = address is None
        start_ray(workers, cpus_per_trial, address)
        resources = ray.cluster_resources()
        room = max(1, int(resources.get("CPU", 1)) // cpus_per_trial)
        self._capacity = min(workers, room) if workers is not None else room
        gpus = min(1.0, resources.get("GPU", 0) / self._capacity) if use_gpu else 0.0
        self._board_name = f"{STOP_BOARD}-{os.getpid()}-{time.monotonic_ns()}"
        self._board: Any = None
        task = ray.remote(_attempt)
        self._task = task.options(
            num_cpus=cpus_per_trial, num_gpus=gpus, max_retries=0, num_returns="streaming", name="mcusweep-trial"
        )
        self._running: dict[str, Any] = {}

    @property
    def capacity(self) -> int:
        """How many attempts can run at the same time."""
        return self._capacity

    def submit(self, attempt: str, spec: TrialSpec) -> None:
        """Start an attempt."""
        try:
            self._running[attempt] = self._task.remote(self._setting, self._board_name, attempt, spec.model_dump_json())
        except ray.exceptions.RayError as error:
            raise ExecutorError(f"Ray takes no more trials: {_line(error)}") from error

    def poll(self, timeout: float) -> list[Event]:
        """Events since the last call; waits up to ``timeout`` seconds for the first."""
        if not self._running:
            time.sleep(timeout)
            return []
        events: list[Event] = []
        ready = self._ready(timeout)
        while ready and len(events) < MOST_EVENTS:
            events.extend(self._next(attempt) for attempt in ready)
            ready = self._ready(0) if self._running else []
        return events

    def _ready(self, timeout: float) -> list[str]:
        names = {id(generator): attempt for attempt, generator in self._running.items()}
        try:
            ready, _ = ray.wait(list(self._running.values()), timeout=timeout, num_returns=1)
        except (ray.exceptions.RayError, ConnectionError) as error:
            raise ExecutorError(f"Ray is gone: {_line(error)}") from error
        return [names[id(generator)] for generator in ready]

    def _next(self, attempt: str) -> Event:
        try:
            kind, content = ray.get(next(self._running[attempt]))
        except ray.exceptions.OutOfMemoryError as error:
            return self._lose(attempt, LossReason.OUT_OF_MEMORY, _line(error))
        except ray.exceptions.WorkerCrashedError as error:
            return self._lose(attempt, LossReason.WORKER_DIED, _line(error))
        except (ray.exceptions.RayError, StopIteration) as error:
            return self._lose(attempt, LossReason.EXECUTOR_LOST, _line(error))
        if kind == "started":
            host, pid = content
            return Started(attempt, host, pid)
        if kind == "rung":
            return Reported(attempt, Rung.model_validate_json(content))
        del self._running[attempt]
        return Finished(attempt, TrialResult.model_validate_json(content))

    def _lose(self, attempt: str, reason: LossReason, detail: str) -> Lost:
        del self._running[attempt]
        return Lost(attempt, reason, detail)

    def stop(self, attempt: str) -> None:
        """Ask an attempt to stop at its next rung."""
        if attempt not in self._running:
            return
        if self._board is None:
            self._board = ray.remote(_StopBoard).options(num_cpus=0, name=self._board_name).remote()
        self._board.add.remote(attempt)

    def shutdown(self) -> None:
        """End the trials now, and Ray itself where this executor started it."""
        if not ray.is_initialized():
            return
        if not self._own_cluster:
            for generator in self._running.values():
                with suppress(ray.exceptions.RayError):
                    ray.cancel(generator, force=True)
        self._running = {}
        self._board = None
        ray.shutdown()


def start_ray(workers: int | None, cpus_per_trial: int, address: str | None) -> None:
    """Start Ray on this machine, or join the cluster at ``address``; one more try when the first fails.

    Raises:
        ExecutorError: if both tries fail.
    """
    if address is not None:
        _check_reachable(address)
    quiet = {"logging_level": "ERROR", "log_to_driver": False, "namespace": _NAMESPACE}
    if address is not None:
        options: dict[str, Any] = {"address": address}
    else:
        cpus = workers * cpus_per_trial if workers is not None else None
        options = {
            "address": "local",
            "num_cpus": cpus,
            "include_dashboard": False,
            "object_store_memory": OBJECT_STORE_BYTES,
        }
    for last in (False, True):
        try:
            ray.init(**options, **quiet)
            return
        except Exception as error:  # Ray raises whatever its parts raise
            ray.shutdown()
            if last:
                where = f"join the Ray cluster at {address}" if address else "start Ray on this machine"
                raise ExecutorError(f"cannot {where}: {_line(error)}; `--executor local` does without Ray") from error
            time.sleep(1.0)


def _check_reachable(address: str) -> None:
    """Refuse a ``host:port`` nobody listens at: Ray itself would try for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdecimal():
        return  # "auto" and the like
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ExecutorError(
            f"--address {address}: no Ray cluster answers there ({error}); start one with `ray start --head`"
        ) from None


def _line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
