"""Trials as Ray Core tasks: on a local Ray instance, or on an existing cluster.

A trial runs in a thread of a streaming-generator task, which yields its reports and finally its result. The driver
retries (``max_retries=0``). Stop requests go through a small actor that is created on demand. On a cluster elsewhere
nothing but the network is shared: see `orchestrator.worker.exchange`.
"""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray.exceptions

from mcu.errors import InputError
from orchestrator.executors.attempt import WorkerSetting
from orchestrator.executors.base import (
    Event,
    Executor,
    ExecutorError,
    ExecutorLost,
    Finished,
    LossReason,
    Lost,
    Reported,
    Started,
)
from orchestrator.executors.node_probe import NodeProbe
from orchestrator.executors.node_record import NodeRecord
from orchestrator.executors.ray_capacity import Need, Node, capacity, nodes_alive, shortage
from orchestrator.executors.ray_cluster import OBJECT_STORE_BYTES, RayCluster, one_line
from orchestrator.executors.ray_task import StopBoard, Trip
from orchestrator.executors.ray_task import attempt as body
from orchestrator.executors.shipment import Shipment
from orchestrator.spec import EpochReport, TrialResult, TrialSpec
from orchestrator.worker.exchange import accept, arrived, provisions
from orchestrator.worker.shared_task import LentTask

LOOK_SECONDS = 3.0
LOST_SECONDS = 60.0
"""An attempt that gave no sign of life for so long is lost; see `ray_task.SIGN_SECONDS`."""

FETCH_SECONDS = 2.0
"""How long one message may hold up the others; it is waited for beside them after that."""

MOST_EVENTS = 1000  # of one poll: a trial that reports without pause must not hold the driver
STOP_BOARD = "mcusweep-stops"
_REMEMBERED = 64  # files that lie in the object store for attempts to come


def even_gpu_share(gpus: int, trials: int) -> float:
    """Fraction of a GPU with which ``trials`` trials run in parallel on ``gpus`` GPUs; 0 without a GPU.

    Ray places a fraction on a single GPU: three trials on two GPUs get a half each, as two thirds would let two run.
    """
    return 1 / math.ceil(trials / gpus) if gpus else 0.0


@dataclass
class _Running:
    """An attempt that was submitted.

    Attributes:
        pending: a message that is ready elsewhere and did not arrive yet.
        heard: when it was heard of last; None before it began.
    """

    spec: TrialSpec
    generator: Any
    pending: Any = None
    heard: float | None = None
    host: str = ""
    node: str = ""


class RayExecutor(Executor):
    """Attempts as Ray tasks of ``cpus_per_trial`` CPUs each; ``workers`` of them, or as many as capacity allows.

    Args:
        address: of a cluster that is there already; our packages, the user's modules and all files are sent to it.
        gpus_per_trial: a fraction of a GPU, such as 0.25; None divides the available ones evenly between the workers.
        lent: the task's data, put into the object store once and shared by all workers without a copy.
        ship: files beside the sweep that its modules need, for a cluster.
        patience: seconds for which a cluster that does not answer is tried.
        tell: is given one line for a person.

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
        lent: Sequence[LentTask] = (),
        ship: Sequence[str] = (),
        patience: float = 0.0,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._setting, self._tell, self._workers = setting, tell, workers
        cpus = workers * cpus_per_trial if workers is not None else None
        store = OBJECT_STORE_BYTES + sum(task.bytes for task in lent)
        shipment = None if address is None else Shipment.of(setting.paths, ship)
        if shipment is not None and shipment.files:
            tell(str(shipment))
        self._cluster = RayCluster(cpus, address, object_store=store, shipment=shipment, patience=patience, tell=tell)
        self._lent = ray.put(tuple(lent)) if lent else None
        self._shipment = shipment
        self._record = NodeRecord()
        self._probe = NodeProbe(self._record, tell) if shipment is not None else None
        try:
            self._need = self._checked_need(cpus_per_trial, gpus_per_trial, use_gpu)
        except InputError:
            self._cluster.close()
            raise
        self._board_name = f"{STOP_BOARD}-{os.getpid()}-{time.monotonic_ns()}"
        self._board: Any = None
        self._task = ray.remote(body)
        self._running: dict[str, _Running] = {}
        self._stored: OrderedDict[str, Any] = OrderedDict()
        self._polled = time.monotonic()
        self._requested, self._asked = 0, -math.inf
        self.bytes_sent = self.bytes_taken = 0

    def _checked_need(self, cpus: int, gpus: float | None, use_gpu: bool) -> Need:
        """What a trial takes of the cluster as it is now."""
        self._nodes, self._looked = nodes_alive(), time.monotonic()
        if self._probe is not None:
            self._probe.wait(self._nodes)
        need = Need(cpus, 0.0)
        nodes = self._usable(need)
        if use_gpu and gpus is None:
            held = capacity(need, nodes)
            trials = held if self._workers is None else min(self._workers, held)
            need = Need(cpus, even_gpu_share(int(sum(node.get("GPU", 0) for node in nodes)), max(1, trials)))
        elif use_gpu:
            need = Need(cpus, gpus or 0.0)
        lacking = self._lacking(need)
        if lacking is not None:
            raise InputError(f"[workers] cpus_per_trial = {cpus}, gpus_per_trial = {gpus}: {lacking}")
        return need

    def _avoided(self, trial: str, need: Need) -> set[str]:
        """Nodes that a trial should avoid, if others can hold it."""
        return self._record.avoided(trial, (node for node, has in self._nodes.items() if need.held_by(has)))

    def _usable(self, need: Need) -> list[Node]:
        """What the nodes have that may get trials."""
        avoided = self._avoided("", need)
        return [has for node, has in self._nodes.items() if node not in avoided]

    def _lacking(self, need: Need) -> str | None:
        """One line that says why no node can hold a trial."""
        refused = [reason for node, reason in self._record.refused.items() if node in self._nodes]
        lacking = shortage(need, self._usable(need))
        return lacking if lacking is None or not refused else f"{lacking}; others are refused: {'; '.join(refused)}"

    def _look(self) -> None:
        if time.monotonic() - self._looked >= LOOK_SECONDS:
            with suppress(ray.exceptions.RayError, ConnectionError):  # `poll` notices a cluster that is gone
                self._nodes = nodes_alive()
                if self._probe is not None:
                    self._probe.look(self._nodes)
            self._looked = time.monotonic()

    @property
    def capacity(self) -> int:
        """How many attempts can run in parallel; at least one, which waits for a node."""
        self._look()
        held = capacity(self._need, self._usable(self._need))
        return max(1, held if self._workers is None else min(self._workers, held))

    def want(self, trials: int) -> None:
        """Tell the autoscaler of a cluster, every few seconds: attempts that fit nowhere are not submitted."""
        wanted = trials if self._workers is None else min(self._workers, trials)
        if self._cluster.own or wanted == self._requested or time.monotonic() - self._asked < LOOK_SECONDS:
            return
        self._asked = time.monotonic()
        with suppress(ray.exceptions.RayError, ConnectionError):  # `poll` notices a cluster that is gone
            self._need.request(wanted)
            self._requested = wanted

    def obstacle(self) -> str | None:
        """Why no attempt can start, if no remaining node can hold one."""
        self._look()
        return self._lacking(self._need)

    def withdraw(self, attempt: str) -> None:
        """End an attempt now, whether it has started or not."""
        self._cancel(attempt)

    def _cancel(self, attempt: str) -> None:
        running = self._running.pop(attempt, None)
        if running is not None:
            with suppress(ray.exceptions.RayError):
                ray.cancel(running.generator, force=True)

    def submit(self, attempt: str, spec: TrialSpec) -> None:
        """Start an attempt, away from nodes that failed it before."""
        avoided = self._avoided(spec.hash(), self._need)
        task = self._task.options(
            num_cpus=self._need.cpus, num_gpus=self._need.gpus, max_retries=0, num_returns="streaming",
            name="mcusweep-trial", label_selector=_keeping_off(avoided),
        )  # fmt: skip
        try:
            generator = task.remote(
                self._setting, self._board_name, attempt, spec.model_dump_json(), self._lent, self._trip(spec)
            )
        except ray.exceptions.RayError as error:
            raise ExecutorLost(f"Ray accepts no more trials: {one_line(error)}") from error
        self._running[attempt] = _Running(spec, generator)

    def _trip(self, spec: TrialSpec) -> Trip | None:
        """What an attempt is sent; None where it sees the driver's disk."""
        if self._shipment is None:
            return None
        root = Path(self._setting.artifacts)
        files = {path: self._stored_file(root / path) for path in provisions(root, spec)}
        cache = hashlib.sha256(f"{self._setting.artifacts} {ray.get_runtime_context().gcs_address}".encode())
        return Trip(cache.hexdigest()[:16], self._shipment.bases, files)

    def _stored_file(self, path: Path) -> tuple[str, Any]:
        """A file's hash, and a reference to its bytes in the object store."""
        data = path.read_bytes()
        sha256 = hashlib.sha256(data).hexdigest()
        if sha256 not in self._stored:
            self._stored[sha256] = ray.put(data)
            self.bytes_sent += len(data)
        self._stored.move_to_end(sha256)
        while len(self._stored) > _REMEMBERED:
            self._stored.popitem(last=False)
        return sha256, self._stored[sha256]

    def poll(self, timeout: float) -> list[Event]:
        """Events since the last call; waits up to ``timeout`` seconds for the first.

        Raises:
            ExecutorLost: if Ray was lost.
            ExecutorError: if what a trial sent cannot be written here.
        """
        self._cluster.check()
        if not self._running:
            time.sleep(timeout)
            return []
        events: list[Event] = self._silent()
        ready = self._ready(0 if events else timeout)
        while ready and len(events) < MOST_EVENTS:
            events.extend(event for attempt in ready if (event := self._next(attempt)) is not None)
            ready = self._ready(0) if self._running else []
        return events

    def _silent(self) -> list[Event]:
        """Attempts that gave no sign of life for too long; time in which nobody listened does not count."""
        now = time.monotonic()
        if now - self._polled > LOST_SECONDS / 4:
            for running in self._running.values():
                running.heard = running.heard and now
        self._polled = now
        lost: list[Event] = []
        for attempt, running in list(self._running.items()):
            if running.heard is not None and now - running.heard > LOST_SECONDS:
                self._cancel(attempt)
                detail = f"nothing was heard from {running.host} for {LOST_SECONDS:.0f} s"
                lost.append(Lost(attempt, LossReason.EXECUTOR_LOST, detail))
        return lost

    def _ready(self, timeout: float) -> list[str]:
        waited = {
            id(item): (attempt, item)
            for attempt, running in self._running.items()
            for item in (running.generator if running.pending is None else running.pending,)
        }
        try:
            ready, _ = ray.wait([item for _, item in waited.values()], timeout=timeout, num_returns=1)
        except (ray.exceptions.RayError, ConnectionError) as error:
            raise ExecutorLost(f"Ray is gone: {one_line(error)}") from error
        return [waited[id(item)][0] for item in ready]

    def _next(self, attempt: str) -> Event | None:
        running = self._running[attempt]
        try:
            message = next(running.generator) if running.pending is None else running.pending
            running.pending = message
            kind, content = ray.get(message, timeout=FETCH_SECONDS)
        except ray.exceptions.GetTimeoutError:
            return None  # on its way from a slow or cut off node
        except ray.exceptions.OutOfMemoryError as error:
            return self._lose(attempt, LossReason.OUT_OF_MEMORY, one_line(error))
        except ray.exceptions.WorkerCrashedError as error:
            return self._lose(attempt, LossReason.WORKER_DIED, one_line(error))
        except (ray.exceptions.RayError, StopIteration) as error:
            return self._lose(attempt, LossReason.EXECUTOR_LOST, one_line(error))
        running.pending, running.heard = None, time.monotonic()
        return self._event(attempt, running, kind, content)

    def _event(self, attempt: str, running: _Running, kind: str, content: Any) -> Event | None:
        if kind == "started":
            running.host, pid, running.node = content
            return Started(attempt, running.host, pid)
        if kind == "report":
            return Reported(attempt, EpochReport.model_validate_json(content))
        if kind == "file":
            self._keep(running.spec, content)
        elif kind == "fault":
            return self._fail(attempt, running, *content)
        elif kind == "done":
            return self._finish(attempt, running, TrialResult.model_validate_json(content))
        return None

    def _keep(self, spec: TrialSpec, parcel: Any) -> None:
        self.bytes_taken += len(parcel.data or b"")
        try:
            accept(Path(self._setting.artifacts), spec, parcel)
        except OSError as error:
            place = Path(self._setting.artifacts) / parcel.path
            raise ExecutorError(f"cannot write {place}, which a trial sent: {error.strerror}") from error

    def _fail(self, attempt: str, running: _Running, reason: str, text: str) -> Lost:
        if self._record.failed(running.node, running.spec.hash()):
            self._tell(f"{running.host} failed three trials in a row and gets no more: {text}")
        return self._lose(attempt, LossReason(reason), f"{running.host}: {text}")

    def _finish(self, attempt: str, running: _Running, result: TrialResult) -> Event:
        """A result counts once its files lie here."""
        notes = {note.path: note.sha256 for note in result.artifacts.values()}
        if self._shipment is not None and not arrived(Path(self._setting.artifacts), notes):
            return self._lose(
                attempt, LossReason.EXECUTOR_LOST, f"files of its result did not come from {running.host}"
            )
        self._record.succeeded(running.node)
        del self._running[attempt]
        return Finished(attempt, result)

    def _lose(self, attempt: str, reason: LossReason, detail: str) -> Lost:
        del self._running[attempt]
        return Lost(attempt, reason, detail)

    def stop(self, attempt: str) -> None:
        """Ask an attempt to stop at its next report."""
        if attempt not in self._running:
            return
        if self._board is None:
            self._board = ray.remote(StopBoard).options(num_cpus=0, name=self._board_name).remote()
        self._board.add.remote(attempt)

    def shutdown(self) -> None:
        """End the trials now, and Ray itself if this executor started it."""
        for attempt in list(self._running):
            if not self._cluster.own and ray.is_initialized():
                self._cancel(attempt)
        if self._requested and self._cluster.reachable:
            self._asked = -math.inf
            self.want(0)
        self._running = {}
        self._board = None
        self._stored.clear()
        self._cluster.close()


def _keeping_off(nodes: set[str]) -> dict[str, str] | None:
    """A label selector for all nodes but these."""
    if not nodes:
        return None
    return {"ray.io/node-id": f"!in({','.join(sorted(nodes))})"}
