"""Specification, reports and result of a trial."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from mcu.board.latency import LATENCY
from mcu.budget import Resources
from mcu.terms import RuntimeName, TrialState
from search_spaces.budgets import TrialBudget
from search_spaces.choices import Choice, NetworkChoice, Scalar, TaskChoice, TrainingChoice

NETWORK = "network"
"""Name among a trial's artifacts of its trained float network, with which another trial may begin."""

VALIDATION = "validation"
"""Name among a trial's artifacts of how its model answered the validation samples."""

FILES = {
    "model": "model.tflite",
    "deployment": "deployment.json",
    "scores": "scores.json",
    VALIDATION: "validation.json",
    NETWORK: "network.safetensors",
    LATENCY: "latency.json",
}
"""The files a trial may leave, by their name among its artifacts; nothing else is taken in from elsewhere."""

IMPORTED = "imported"
"""Folder, among the files of trials, of those that came from elsewhere and are not trusted."""

FinalState = Literal[
    TrialState.COMPLETE, TrialState.FAILED, TrialState.INFEASIBLE, TrialState.STOPPED, TrialState.CANNOT
]
SpecHash = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


def canonical_json(value: Any) -> str:
    """Canonical JSON, equal for equal values: sorted keys, no blanks, no NaN.

    Raises:
        ValueError: if the value holds NaN or an infinity.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TrialSpec(Choice):
    """Everything that determines a trial's result: same spec on the same machine type, same result.

    Attributes:
        data: digest of the task's data, so that changed files are detected.
        code: digest of the source of the user's functions beside the sweep, so that changed ones are other trials.
        front_end_counts: whether the budget bounds the C front end of sound as well as the network's program.
        ancestor: hash of the specification whose trained network this trial starts from; None trains from scratch.
        parent: hash of the specification of the dense network at the root of the lineage, whose logits are distilled.
    """

    later = frozenset({"ancestor", "parent", "front_end_counts", "code"})

    task: TaskChoice
    data: str | None = None
    network: NetworkChoice
    method: str
    device: str | None = None
    runtime: RuntimeName = RuntimeName.TFLM
    budget: TrialBudget
    hyperparameters: dict[str, Scalar] = Field(default_factory=dict)
    seed: int
    training: TrainingChoice
    ancestor: SpecHash | None = None
    parent: SpecHash | None = None
    front_end_counts: bool = False
    code: str | None = None

    @property
    def leaves_network(self) -> bool:
        """Whether its trained network is kept for others: it belongs to a lineage, or is the dense network of one."""
        return self.ancestor is not None or not self.budget.bounds()

    def canonical(self) -> str:
        """Canonical JSON of the spec: what is stored and hashed."""
        return canonical_json(self.model_dump(mode="json"))

    def hash(self) -> str:
        """SHA-256 (hex) of the canonical JSON; equal specs have equal hashes."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()


class EpochReport(_Frozen):
    """One report of a running trial: its progress and current resources."""

    step: int
    epochs_done: float = 0.0
    val_accuracy: float | None = None
    flash: int | None = None
    sram: int | None = None
    macs: int | None = None
    phase: str = ""


class Artifact(_Frozen):
    """A file of a trial; ``path`` is relative to the artifact root."""

    path: str
    sha256: str
    bytes: int


class TrialResult(_Frozen):
    """Result of a worker. Accuracies are 0..1, sizes bytes, ``violation`` relative (0 is feasible).

    ``dense`` has the resources of the unpruned network.
    """

    state: FinalState
    reason: str | None = None
    accuracy: float | None = None
    float_accuracy: float | None = None
    val_accuracy: float | None = None
    flash: int | None = None
    sram: int | None = None
    sram_activations: int | None = None
    flash_firmware: int | None = None
    sram_firmware: int | None = None
    instructions: int | None = None
    macs: int | None = None
    violation: float | None = None
    feasible: bool | None = None
    binding_use: float | None = None
    measured: bool = False
    duration_s: float | None = None
    dense: Resources | None = None
    widths: dict[str, int] = Field(default_factory=dict)
    dense_widths: dict[str, int] = Field(default_factory=dict)
    trajectory: list[dict[str, Any]] = Field(default_factory=list)
    artifacts: dict[str, Artifact] = Field(default_factory=dict)
