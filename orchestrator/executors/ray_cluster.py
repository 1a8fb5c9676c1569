"""Ray itself: start or join, health checks, and complete shutdown."""

from __future__ import annotations

import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray

from orchestrator.executors.base import ExecutorError, ExecutorLost
from orchestrator.executors.reaper import Reaper
from orchestrator.executors.shipment import Shipment
from orchestrator.processes import LocalProcess, descendants

OBJECT_STORE_BYTES = 256 * 1024 * 1024
CONNECT_SECONDS = 5.0
CHECK_SECONDS = 1.0
_AGAIN_SECONDS = 10.0
MOST_MISSES = 5  # of an own head none is forgiven; a head elsewhere may be slow to answer
ROOMS = ("mcu", "pruning", "search_spaces", "reports", "orchestrator", "mcusweep")
_ESSENTIAL = ("gcs_server", "raylet")
_NAMESPACE = "mcusweep"


class RayCluster:
    """A local Ray instance, ended with this object; or the cluster at ``address``, which is only disconnected.

    Args:
        cpus: of a local cluster; None for all CPUs of the machine.
        object_store: bytes of a local cluster's object store.
        shipment: the user's modules, sent to a remote cluster together with our packages.
        patience: seconds for which a cluster elsewhere is tried that does not answer.
        tell: is given one line for a person.

    Raises:
        ExecutorError: if it does not start, or ``address`` does not answer, also at a second attempt.
    """

    def __init__(
        self,
        cpus: int | None,
        address: str | None = None,
        *,
        object_store: int = OBJECT_STORE_BYTES,
        shipment: Shipment | None = None,
        patience: float = 0.0,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.own = address is None
        self._misses = 0
        self._checked = 0.0
        self._others = set(descendants(os.getpid()))
        self._reaper = Reaper() if self.own else None
        self._roots: list[LocalProcess] | None = None
        self._home = _home_for_ray()
        starting = threading.Event()
        threading.Thread(target=self._watch_until, args=(starting,), daemon=True).start()
        try:
            if address is None:
                _start(own_options(cpus, object_store), None)
            else:
                _await(address, patience, tell)
                with (shipment or Shipment((), {}, None)).pack() as folder:
                    _start(joined_options(address, Path(folder), shipment), address)
        except BaseException:
            self._bury()
            raise
        finally:
            starting.set()
        self._roots = self._new()
        self._essential = [process for process in self._roots if process.name in _ESSENTIAL] if self.own else []
        self._head = None if self.own else _gcs_address()

    def _watch_until(self, started: threading.Event) -> None:
        while not started.wait(0.3):  # a driver killed while Ray starts leaves nothing behind either
            self._watch()

    def _new(self) -> list[LocalProcess]:
        """Descendants of this process started since the start of Ray; Ray's processes once it runs."""
        if self._roots is not None:
            return [*self._roots, *descendants(*(root.pid for root in self._roots))]
        reaper = self._reaper.pid if self._reaper is not None else 0
        return [
            process for process in descendants(os.getpid()) if process not in self._others and process.pid != reaper
        ]

    def _watch(self) -> None:
        if self._reaper is not None:
            self._reaper.watch(self._new())

    def check(self) -> None:
        """Check the health of the cluster, at most once a second.

        Raises:
            ExecutorLost: if its head, or a local raylet, is gone. Ray itself would end this process
                about a minute later, without an exception.
        """
        now = time.monotonic()
        if now - self._checked < CHECK_SECONDS:
            return
        self._checked = now
        self._watch()
        for process in self._essential:
            if not process.alive:
                raise ExecutorLost(f"Ray is gone: one of its processes on this machine, {process.pid}, died")
        if self._head is not None:
            self._misses = 0 if answers(self._head) else self._misses + 1
            if self._misses >= MOST_MISSES:
                raise ExecutorLost(f"Ray is gone: its head at {self._head} does not answer")

    @property
    def reachable(self) -> bool:
        """Whether the head of a cluster elsewhere answers."""
        return ray.is_initialized() and self._head is not None and answers(self._head)

    def close(self) -> None:
        """Disconnect; a local cluster ends with every process it started."""
        self._watch()
        if any(not process.alive for process in self._essential):  # the others would hold us up for long
            for process in self._new():
                process.kill()
        if ray.is_initialized():
            ray.shutdown()
        self._bury()

    def _bury(self) -> None:
        if self._home is not None:
            self._home.cleanup()
            self._home = None
            del os.environ["HOME"]
        if self._reaper is not None:
            self._reaper.close()


def _home_for_ray() -> tempfile.TemporaryDirectory[str] | None:
    """A substitute home folder if none is known: Ray does not start without one."""
    if os.path.expanduser("~") != "~":  # pathlib raises without a home
        return None
    folder = tempfile.TemporaryDirectory(prefix="mcusweep-home-", ignore_cleanup_errors=True)
    os.environ["HOME"] = folder.name
    return folder


def own_options(cpus: int | None, object_store: int) -> dict[str, Any]:
    """Options for a local Ray instance, without dashboard."""
    return {"address": "local", "num_cpus": cpus, "include_dashboard": False, "object_store_memory": object_store}


def joined_options(address: str, folder: Path, shipment: Shipment | None) -> dict[str, Any]:
    """Options for joining a cluster: our packages and the user's modules, packed in a folder, are sent along."""
    _show_token()
    house = Path(__file__).resolve().parents[2]
    environment: dict[str, Any] = {
        "py_modules": [str(house / room) for room in ROOMS],
        "excludes": ["**/__pycache__/**"],
        "env_vars": {"RAY_USAGE_STATS_ENABLED": "0"},
    }
    if shipment is not None and shipment.files:
        environment["working_dir"] = str(folder)
    if shipment is not None and shipment.requirements is not None:
        environment["pip"] = str(shipment.requirements)
    return {"address": address, "runtime_env": environment}


def _await(address: str, patience: float, tell: Callable[[str], None]) -> None:
    """Wait until a server answers at an address.

    Raises:
        ExecutorError: nobody does, or it is of a kind that is not supported.
    """
    if address.startswith("ray://"):
        raise ExecutorError(
            f"--address {address}: the driver must run on a node of the cluster, as it keeps the files; start it there "
            "with `ray job submit -- mcusweep launch ... --address auto`, or give HOST:6379 of a head in your network"
        )
    deadline = time.monotonic() + patience
    while True:
        try:
            return _check_reachable(address)
        except ExecutorError as error:
            if time.monotonic() >= deadline:
                raise
            if patience:
                tell(f"{error}; trying for {deadline - time.monotonic():.0f} s more")
            time.sleep(min(_AGAIN_SECONDS, patience))


def _show_token() -> None:
    """Enable Ray's token authentication if the user has a token and did not configure it: the head may require it."""
    with suppress(ImportError):  # versions without tokens
        from ray._private.authentication import authentication_token_setup as tokens

        tokens.maybe_enable_token_auth_if_token_available(warn_if_disabled=False)


def _start(options: dict[str, Any], address: str | None) -> None:
    for last in (False, True):
        try:
            ray.init(**options, logging_level="ERROR", log_to_driver=False, namespace=_NAMESPACE)
            return
        except Exception as error:  # Ray raises whatever its parts raise
            ray.shutdown()
            if last:
                where = f"join the Ray cluster at {address}" if address else "start Ray on this machine"
                raise ExecutorError(
                    f"cannot {where}, tried twice: {one_line(error)}; `--executor local` works without Ray"
                ) from error
            time.sleep(1.0)


def _gcs_address() -> str | None:
    with suppress(Exception):  # a client connection does not know it
        return str(ray.get_runtime_context().gcs_address)
    return None


def answers(address: str, seconds: float = 2.0) -> bool:
    """Whether a server listens at ``host:port``."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=seconds).close()
    except (OSError, ValueError, OverflowError):
        return False
    return True


def _check_reachable(address: str) -> None:
    """Refuse a ``host:port`` without a server: Ray itself would try for minutes."""
    if address.rpartition(":")[2].isdecimal() and ":" in address and not answers(address, CONNECT_SECONDS):
        raise ExecutorError(f"--address {address}: no Ray cluster answers there; start one with `ray start --head`")


def one_line(error: BaseException) -> str:
    """Type and first line of an error."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
