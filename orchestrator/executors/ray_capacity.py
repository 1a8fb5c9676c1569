"""Which trials the nodes of a Ray cluster can hold: Ray itself would wait forever for a suitable node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import ray
from ray.autoscaler.sdk import request_resources

MOST_REQUESTED = 1000

Node = Mapping[str, float]


@dataclass(frozen=True)
class Need:
    """Resources of one trial: whole CPUs, and GPUs or a fraction of one."""

    cpus: int
    gpus: float

    def held_by(self, node: Node) -> int:
        """Trials that a node can run in parallel. A fraction of a GPU is on a single GPU."""
        by_cpus = int(node.get("CPU", 0)) // self.cpus
        if not self.gpus:
            return by_cpus
        gpus = int(node.get("GPU", 0))
        by_gpus = gpus * int(1 / self.gpus + 1e-9) if self.gpus < 1 else int(gpus / self.gpus)
        return min(by_cpus, by_gpus)

    def request(self, trials: int) -> None:
        """Let Ray's autoscaler provide room for so many trials, running ones included; the latest request holds."""
        bundle: dict[str, float] = {"CPU": self.cpus} | ({"GPU": self.gpus} if self.gpus else {})
        request_resources(bundles=[bundle] * min(trials, MOST_REQUESTED))

    def __str__(self) -> str:
        return _amount(self.cpus, "CPU") + (f" and {_amount(self.gpus, 'GPU')}" if self.gpus else "")


def nodes_alive() -> dict[str, Node]:
    """Total resources of each node of the cluster, used or free, by its id."""
    return {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}


def capacity(need: Need, nodes: Sequence[Node]) -> int:
    """Trials that the nodes can run in parallel."""
    return sum(need.held_by(node) for node in nodes)


def shortage(need: Need, nodes: Sequence[Node]) -> str | None:
    """One line on why no node can hold a trial; None if one can."""
    if capacity(need, nodes):
        return None
    there = sorted({(int(node.get("CPU", 0)), int(node.get("GPU", 0))) for node in nodes}, reverse=True)
    have = (
        "; ".join(f"{_amount(cpus, 'CPU')}, {_amount(gpus, 'GPU')}" for cpus, gpus in there) or "nothing, all are gone"
    )
    return f"no node of the Ray cluster can hold a trial, which needs {need}; nodes have {have}"


def _amount(count: float, what: str) -> str:
    return f"{count:g} {what}" + ("" if 0 < count <= 1 else "s")
