"""Trials as Ray Core tasks: on a local Ray instance, or on an existing cluster.

A trial runs in a thread of a streaming-generator task, which yields its reports and finally its result. The driver
retries (``max_retries=0``). Stop requests go through a small actor that is created on demand.
"""

from __future__ import annotations

import math
import os
import queue
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import ray.exceptions

from mcu.errors import InputError
from orchestrator.executors.attempt import WorkerSetting, run_attempt
from orchestrator.executors.base import (
    Event,
    Executor,
    ExecutorLost,
    Finished,
    LossReason,
    Lost,
    Reported,
    Started,
)
from orchestrator.executors.ray_capacity import Need, capacity, nodes_alive, shortage
from orchestrator.executors.ray_cluster import OBJECT_STORE_BYTES, RayCluster, one_line
from orchestrator.spec import EpochReport, TrialResult, TrialSpec
from orchestrator.worker.shared_task import LentTask, borrow

LOOK_SECONDS = 3.0
MOST_EVENTS = 1000  # of one poll: a trial that reports without pause must not hold the driver
STOP_BOARD = "mcusweep-stops"


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


def _attempt(
    setting: WorkerSetting, board: str, attempt: str, spec_json: str, lent: LentTask | None
) -> Iterator[tuple[str, Any]]:
    """The body of the Ray task: yields ``started``, each ``report``, then ``done``."""
    if lent is not None:
        borrow(lent)
    messages: queue.Queue[tuple[str, Any]] = queue.Queue()
    cancelled = threading.Event()

    def report(epoch: EpochReport) -> bool:
        messages.put(("report", epoch.model_dump_json()))
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


def even_gpu_share(gpus: int, trials: int) -> float:
    """Fraction of a GPU with which ``trials`` trials run in parallel on ``gpus`` GPUs; 0 without a GPU.

    Ray places a fraction on a single GPU: three trials on two GPUs get a half each, as two thirds would let two run.
    """
    return 1 / math.ceil(trials / gpus) if gpus else 0.0


class RayExecutor(Executor):
    """Attempts as Ray tasks of ``cpus_per_trial`` CPUs each; ``workers`` of them, or as many as capacity allows.

    Args:
        address: of an existing cluster; our packages and the user's modules are sent to it.
        gpus_per_trial: a fraction of a GPU, such as 0.25; None divides the available ones evenly between the workers.
        lent: the task's data, put into the object store once and shared by all workers without a copy.

    Raises:
        ExecutorError: if Ray does not start, or no cluster answers at ``address``.
        InputError: if a trial fits on no node of it.
    """

    def __init__(
        self,
        setting: WorkerSetting,
        workers: int | None,
        *,
        cpus_per_trial: int = 1,
        address: str | None = None,
        use_gpu: bool = False,
        gpus_per_trial: float | None = None,
        lent: LentTask | None = None,
    ) -> None:
        self._setting = setting
        cpus = workers * cpus_per_trial if workers is not None else None
        store = OBJECT_STORE_BYTES + (lent.bytes if lent is not None else 0)
        self._cluster = RayCluster(cpus, address, object_store=store, code=setting.paths)
        self._lent = ray.put(lent) if lent is not None else None
        self._workers = workers
        try:
            self._need = self._checked_need(cpus_per_trial, gpus_per_trial, use_gpu)
        except InputError:
            self._cluster.close()
            raise
        self._board_name = f"{STOP_BOARD}-{os.getpid()}-{time.monotonic_ns()}"
        self._board: Any = None
        task = ray.remote(_attempt)
        self._task = task.options(
            num_cpus=cpus_per_trial, num_gpus=self._need.gpus, max_retries=0, num_returns="streaming",
            name="mcusweep-trial",
        )  # fmt: skip
        self._running: dict[str, Any] = {}

    def _checked_need(self, cpus: int, gpus: float | None, use_gpu: bool) -> Need:
        """What a trial takes of the cluster as it is now."""
        self._nodes, self._looked = nodes_alive(), time.monotonic()
        need = Need(cpus, 0.0)
        if use_gpu and gpus is None:
            held = capacity(need, self._nodes)
            trials = held if self._workers is None else min(self._workers, held)
            need = Need(cpus, even_gpu_share(int(sum(node.get("GPU", 0) for node in self._nodes)), max(1, trials)))
        elif use_gpu:
            need = Need(cpus, gpus or 0.0)
        lacking = shortage(need, self._nodes)
        if lacking is not None:
            raise InputError(f"[workers] cpus_per_trial = {cpus}, gpus_per_trial = {gpus}: {lacking}")
        return need

    def _look(self) -> None:
        if time.monotonic() - self._looked >= LOOK_SECONDS:
            with suppress(ray.exceptions.RayError, ConnectionError):  # `poll` notices a cluster that is gone
                self._nodes = nodes_alive()
            self._looked = time.monotonic()

    @property
    def capacity(self) -> int:
        """How many attempts can run in parallel; at least one, so that a pending one triggers an autoscaler."""
        self._look()
        held = capacity(self._need, self._nodes)
        return max(1, held if self._workers is None else min(self._workers, held))

    def obstacle(self) -> str | None:
        """Why no attempt can start, if no remaining node can hold one."""
        self._look()
        return shortage(self._need, self._nodes)

    def withdraw(self, attempt: str) -> None:
        """Cancel an attempt that has not started."""
        generator = self._running.pop(attempt, None)
        if generator is not None:
            with suppress(ray.exceptions.RayError):
                ray.cancel(generator, force=True)

    def submit(self, attempt: str, spec: TrialSpec) -> None:
        """Start an attempt."""
        try:
            self._running[attempt] = self._task.remote(
                self._setting, self._board_name, attempt, spec.model_dump_json(), self._lent
            )
        except ray.exceptions.RayError as error:
            raise ExecutorLost(f"Ray accepts no more trials: {one_line(error)}") from error

    def poll(self, timeout: float) -> list[Event]:
        """Events since the last call; waits up to ``timeout`` seconds for the first.

        Raises:
            ExecutorLost: if Ray was lost.
        """
        self._cluster.check()
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
            raise ExecutorLost(f"Ray is gone: {one_line(error)}") from error
        return [names[id(generator)] for generator in ready]

    def _next(self, attempt: str) -> Event:
        try:
            kind, content = ray.get(next(self._running[attempt]))
        except ray.exceptions.OutOfMemoryError as error:
            return self._lose(attempt, LossReason.OUT_OF_MEMORY, one_line(error))
        except ray.exceptions.WorkerCrashedError as error:
            return self._lose(attempt, LossReason.WORKER_DIED, one_line(error))
        except (ray.exceptions.RayError, StopIteration) as error:
            return self._lose(attempt, LossReason.EXECUTOR_LOST, one_line(error))
        if kind == "started":
            host, pid = content
            return Started(attempt, host, pid)
        if kind == "report":
            return Reported(attempt, EpochReport.model_validate_json(content))
        del self._running[attempt]
        return Finished(attempt, TrialResult.model_validate_json(content))

    def _lose(self, attempt: str, reason: LossReason, detail: str) -> Lost:
        del self._running[attempt]
        return Lost(attempt, reason, detail)

    def stop(self, attempt: str) -> None:
        """Ask an attempt to stop at its next report."""
        if attempt not in self._running:
            return
        if self._board is None:
            self._board = ray.remote(_StopBoard).options(num_cpus=0, name=self._board_name).remote()
        self._board.add.remote(attempt)

    def shutdown(self) -> None:
        """End the trials now, and Ray itself if this executor started it."""
        if not self._cluster.own and ray.is_initialized():
            for generator in self._running.values():
                with suppress(ray.exceptions.RayError):
                    ray.cancel(generator, force=True)
        self._running = {}
        self._board = None
        self._cluster.close()
