"""Trials in a pool of local processes, without Ray; a killed process loses only its own attempt."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

from orchestrator.executors.attempt import AttemptFault, WorkerSetting, extend_path, limit_threads, run_attempt
from orchestrator.executors.base import Event, Executor, ExecutorError, Finished, LossReason, Lost, Reported, Started
from orchestrator.spec import EpochReport, TrialResult, TrialSpec
from orchestrator.streams import settle_streams

GRACE_SECONDS = 5.0
_SPAWN = multiprocessing.get_context("spawn")  # a forked torch hangs


@dataclass
class _Worker:
    process: SpawnProcess
    connection: Connection
    attempt: str | None = None


class LocalExecutor(Executor):
    """Up to ``workers`` attempts at a time, each in its own process; processes are reused."""

    def __init__(self, setting: WorkerSetting, workers: int) -> None:
        self._setting = setting
        self._capacity = workers
        self._idle: list[_Worker] = []
        self._busy: dict[str, _Worker] = {}

    @property
    def capacity(self) -> int:
        """How many attempts can run in parallel."""
        return self._capacity

    def submit(self, attempt: str, spec: TrialSpec) -> None:
        """Start an attempt on an idle process, or on a new one."""
        worker = self._take()
        worker.attempt = attempt
        self._busy[attempt] = worker
        with suppress(OSError):  # if it just died, the next poll reports the attempt lost
            worker.connection.send(("run", attempt, spec.model_dump_json()))

    def _take(self) -> _Worker:
        while self._idle:
            worker = self._idle.pop()
            if worker.process.is_alive():
                return worker
            worker.connection.close()
        ours, theirs = _SPAWN.Pipe()
        process = _SPAWN.Process(target=serve, args=(theirs, self._setting), daemon=True)
        try:
            process.start()
        except OSError as error:
            raise ExecutorError(f"cannot start a worker process: {error.strerror}") from error
        theirs.close()
        return _Worker(process, ours)

    def poll(self, timeout: float) -> list[Event]:
        """Events since the last call; waits up to ``timeout`` seconds for the first."""
        events: list[Event] = []
        waitables = {worker.connection: worker for worker in self._busy.values()}
        sentinels = {worker.process.sentinel: worker for worker in self._busy.values()}
        ready = wait([*waitables, *sentinels], timeout)
        workers = [waitables.get(item) or sentinels[item] for item in ready]  # type: ignore[call-overload, index]
        for worker in {id(worker): worker for worker in workers}.values():
            events += self._drain(worker)
        return events

    def _drain(self, worker: _Worker) -> list[Event]:
        events: list[Event] = []
        alive = worker.process.is_alive()  # asked first: what it sent before it died is read below
        try:
            while worker.attempt is not None and worker.connection.poll():
                events.append(self._event(worker, worker.connection.recv()))
        except (EOFError, OSError):
            alive = False
        if worker.attempt is not None and not alive:
            events.append(self._lose(worker))
        return events

    def _event(self, worker: _Worker, message: tuple[str, str, object]) -> Event:
        kind, attempt, content = message
        if kind == "started":
            return Started(attempt, socket.gethostname(), int(str(content)))
        if kind == "report":
            return Reported(attempt, EpochReport.model_validate_json(str(content)))
        del self._busy[attempt]
        worker.attempt = None
        self._idle.append(worker)
        if kind == "fault":
            reason, _, detail = str(content).partition(" ")
            return Lost(attempt, LossReason(reason), detail)
        return Finished(attempt, TrialResult.model_validate_json(str(content)))

    def _lose(self, worker: _Worker) -> Lost:
        attempt = str(worker.attempt)
        del self._busy[attempt]
        worker.attempt = None
        worker.process.join(GRACE_SECONDS)
        worker.connection.close()
        code = worker.process.exitcode
        how = f"signal {-code}" if code is not None and code < 0 else f"exit status {code}"
        starved = code == -signal.SIGKILL and _memory_is_short()
        reason = LossReason.OUT_OF_MEMORY if starved else LossReason.WORKER_DIED
        return Lost(attempt, reason, f"worker process {worker.process.pid} ended with {how}")

    def withdraw(self, attempt: str) -> None:
        """End an attempt now, with its process."""
        worker = self._busy.pop(attempt, None)
        if worker is not None:
            worker.process.kill()
            worker.process.join(GRACE_SECONDS)
            worker.connection.close()

    def stop(self, attempt: str) -> None:
        """Ask an attempt to stop at its next report."""
        worker = self._busy.get(attempt)
        if worker is not None:
            with suppress(OSError):  # gone already
                worker.connection.send(("stop", attempt, ""))

    def shutdown(self) -> None:
        """End all processes now: idle ones by closing their pipe, so that they clean up; busy ones are killed."""
        idle, busy = self._idle, list(self._busy.values())
        self._idle, self._busy = [], {}
        for worker in busy:
            worker.process.terminate()
        for worker in [*idle, *busy]:
            worker.connection.close()
        for worker in [*idle, *busy]:
            worker.process.join(GRACE_SECONDS)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()


def _memory_is_short() -> bool:
    """Whether the system's memory is so short that a SIGKILL most likely came from the out-of-memory killer."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return False
    figures = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    return figures.get("MemAvailable", 1) < 0.02 * figures.get("MemTotal", 1)


def serve(connection: Connection, setting: WorkerSetting) -> None:
    """Main loop of a worker process: runs attempts until the driver closes the pipe or dies."""
    settle_streams(answers=False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's to handle
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    limit_threads(setting.threads)
    extend_path(setting.paths)
    while True:
        try:
            kind, attempt, content = connection.recv()
        except (EOFError, OSError):
            return
        if kind == "run":
            _serve_one(connection, setting, attempt, content)


def _serve_one(connection: Connection, setting: WorkerSetting, attempt: str, spec_json: str) -> None:
    connection.send(("started", attempt, os.getpid()))
    stopped = False

    def report(epoch: EpochReport) -> bool:
        nonlocal stopped
        connection.send(("report", attempt, epoch.model_dump_json()))
        while connection.poll():
            kind, which, _ = connection.recv()
            stopped = stopped or (kind == "stop" and which == attempt)
        return not stopped

    try:
        result = run_attempt(setting, spec_json, report)
    except AttemptFault as fault:
        connection.send(("fault", attempt, f"{fault.reason.value} {fault}"))
        return
    connection.send(("done", attempt, result.model_dump_json()))


def _leave_with_parent() -> None:
    """End this process as soon as its driver is gone, however that died."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
