"""Check that a cluster node has the same software as the driver's machine, before it gets a trial."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

import ray
import ray.exceptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from orchestrator.executors.node_record import NodeRecord
from orchestrator.provenance import package_versions

DECISIVE = ("python", "torch", "numpy", "torch-pruning", "tflite-micro")
"""What a trial's result depends on; builds of one version for other hardware pass for equal."""

WAIT_SECONDS = 60.0
"""How long the driver waits for a first node to answer."""

NOT_YET = "it did not answer yet"


def look_around() -> tuple[str, dict[str, str]]:
    """Runs on a node: its name, and the versions of its packages."""
    return socket.gethostname(), package_versions()


def difference(here: Mapping[str, str], there: Mapping[str, str]) -> str | None:
    """One line on how a node differs from the driver's machine; None if it does not."""
    found = []
    for name in DECISIVE:
        ours, theirs = (versions.get(name, "").partition("+")[0] for versions in (here, there))
        if name == "python":
            ours, theirs = (version.rpartition(".")[0] for version in (ours, theirs))
        if ours != theirs:
            found.append(f"{name} {theirs or 'is not there'}, the driver has {ours or 'none'}")
    return "; ".join(found) or None


def failure(text: str) -> str:
    """One line on why a node could not be probed, from Ray's message."""
    if "ensure virtualenv exists" in text:
        return "a requirements.txt beside the sweep needs virtualenv there: pip install 'mcusweep[cluster]'"
    return " ".join(text.split())[:300]


class NodeProbe:
    """Probes every node once, and admits those that match the driver's machine."""

    def __init__(self, record: NodeRecord, tell: Callable[[str], None]) -> None:
        self._record, self._tell = record, tell
        self._here = package_versions()
        self._asked: dict[str, Any] = {}

    def look(self, nodes: Iterable[str]) -> None:
        """Probe new nodes, and process the available answers."""
        for node in nodes:
            if node not in self._asked:
                self._record.refuse(node, NOT_YET)
                where = NodeAffinitySchedulingStrategy(node, soft=False)
                self._asked[node] = ray.remote(look_around).options(
                    num_cpus=0, max_retries=0, scheduling_strategy=where, name="mcusweep-probe"
                ).remote()  # fmt: skip
        open_questions = {
            answer: node for node, answer in self._asked.items() if self._record.refused.get(node) == NOT_YET
        }
        ready, _ = (
            ray.wait(list(open_questions), num_returns=len(open_questions), timeout=0) if open_questions else ((), ())
        )
        for answer in ready:
            self._take(open_questions[answer], answer)

    def _take(self, node: str, answer: Any) -> None:
        try:
            host, there = ray.get(answer, timeout=2.0)
            reason = difference(self._here, there)
        except ray.exceptions.GetTimeoutError:
            return
        except ray.exceptions.RayError as error:
            host, reason = node[:12], failure(str(error))
        if reason is None:
            self._record.admit(node)
            return
        self._record.refuse(node, f"{host}: {reason}")
        self._tell(f"{host} gets no trials: {reason}")

    def wait(self, nodes: Iterable[str], seconds: float = WAIT_SECONDS) -> None:
        """Probe all nodes; returns when all have answered, or at least one and ``seconds`` have passed."""
        nodes, deadline = set(nodes), time.monotonic() + seconds
        patience = time.monotonic() + seconds / 10
        while time.monotonic() < deadline:
            with suppress(ray.exceptions.RayError):
                self.look(nodes)
            waiting = {node for node in nodes if self._record.refused.get(node) == NOT_YET}
            admitted = nodes - self._record.refused.keys()
            if not waiting or (admitted and time.monotonic() > patience):
                return
            time.sleep(0.2)
