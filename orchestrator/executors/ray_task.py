"""The body of a trial's Ray task: runs the attempt in a thread, and yields its messages, finally ``done``."""

from __future__ import annotations

import os
import queue
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import ray
import ray.exceptions

from orchestrator.executors.attempt import AttemptFault, WorkerSetting, fault_of, run_attempt
from orchestrator.executors.shipment import unpacked
from orchestrator.spec import EpochReport, TrialSpec
from orchestrator.worker.exchange import Luggage, cache_root
from orchestrator.worker.shared_task import LentTask, borrow

SIGN_SECONDS = 5.0
"""An attempt that has nothing else to say gives a sign of life after so long."""


class StopBoard:
    """The set of attempts that should stop."""

    def __init__(self) -> None:
        self._attempts: set[str] = set()

    def add(self, attempt: str) -> None:
        """Request that an attempt stops at its next report."""
        self._attempts.add(attempt)

    def holds(self, attempt: str) -> bool:
        """Whether an attempt should stop."""
        return attempt in self._attempts


def _should_stop(board: str, attempt: str) -> bool:
    try:
        return bool(ray.get(ray.get_actor(board).holds.remote(attempt), timeout=10))
    except (ValueError, ray.exceptions.RayError):  # nobody was ever stopped, or the board is gone
        return False


@dataclass(frozen=True)
class Trip:
    """Files for an attempt that shares no disk with the driver.

    Attributes:
        cache: name of the folder on the worker's own disk that stands for the artifact folder.
        bases: folders of the sweep's modules, whose shipment lies in the task's working folder.
        files: hash and a reference to the bytes, by path.
    """

    cache: str
    bases: tuple[str, ...]
    files: dict[str, tuple[str, Any]] = field(default_factory=dict)

    def arrive(self, setting: WorkerSetting, spec: TrialSpec) -> tuple[WorkerSetting, Luggage]:
        """The setting for this machine, after unpacking the files.

        Raises:
            OSError: the disk is full, or cannot be written.
        """
        root = cache_root(self.cache)
        hashes = {path: sha256 for path, (sha256, _) in self.files.items()}
        luggage = Luggage(root, spec, hashes, lambda path: ray.get(self.files[path][1]), time.monotonic)
        moves = {**setting.moves, **unpacked(self.bases, Path.cwd())}
        return replace(setting, artifacts=str(root), moves=moves), luggage


class _Attempt:
    """One attempt in a thread of its own; ``messages`` gets what it says."""

    def __init__(self, board: str, attempt: str) -> None:
        self.messages: queue.Queue[tuple[str, Any]] = queue.Queue()
        self.cancelled = threading.Event()
        self._board, self._attempt = board, attempt
        self._luggage: Luggage | None = None

    def run(self, setting: WorkerSetting, spec_json: str, trip: Trip | None) -> None:
        """Run it to its end."""
        try:
            if trip is not None:
                setting, self._luggage = trip.arrive(setting, TrialSpec.model_validate_json(spec_json))
            result = run_attempt(setting, spec_json, self._report)
            self._send(all_now=True)
            self.messages.put(("done", result.model_dump_json()))
        except Exception as error:  # of the attempt, or of the disk while files are sent
            fault = error if isinstance(error, AttemptFault) else fault_of(error)
            self.messages.put(("fault", (fault.reason.value, str(fault))))

    def _report(self, epoch: EpochReport) -> bool:
        self._send(all_now=False)
        self.messages.put(("report", epoch.model_dump_json()))
        return not self.cancelled.is_set() and not _should_stop(self._board, self._attempt)

    def _send(self, *, all_now: bool) -> None:
        if self._luggage is not None:
            for parcel in self._luggage.changes(all_now=all_now):
                self.messages.put(("file", parcel))

    def leave(self) -> None:
        """Clean up on this machine."""
        if self._luggage is not None:
            self._luggage.leave()


def attempt(
    setting: WorkerSetting, board: str, name: str, spec_json: str, lent: tuple[LentTask, ...] | None, trip: Trip | None
) -> Iterator[tuple[str, Any]]:
    """Yields ``started``, each ``report`` and ``file``, heartbeats (``alive``), then ``done`` or ``fault``."""
    if lent is not None:
        borrow(lent)
    running = _Attempt(board, name)
    thread = threading.Thread(target=running.run, args=(setting, spec_json, trip), daemon=True)
    thread.start()
    try:
        yield "started", (socket.gethostname(), os.getpid(), ray.get_runtime_context().get_node_id())
        kind, said = "", time.monotonic()
        while kind not in ("done", "fault"):
            try:
                kind, content = running.messages.get(timeout=0.5)
            except queue.Empty:
                if time.monotonic() - said < SIGN_SECONDS:
                    continue
                kind, content = "alive", None
            said = time.monotonic()
            yield kind, content
    finally:
        running.cancelled.set()  # a cancelled task must not leave its trial running in a reused process
        thread.join()
        running.leave()
