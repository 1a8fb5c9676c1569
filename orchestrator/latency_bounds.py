"""``budgets.latency`` as multiply-accumulates, by the best figures there are when a study begins."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch

from mcu.devices import Device, find_device
from mcu.errors import InputError
from mcu.firmware import choose_plan, core_of, instructions_within, predict_instructions
from mcu.firmware.front_end_run import measure_front_end
from mcu.front_end import FrontEnd
from mcu.graph.ports import Shapes, shapes_of
from mcu.int8.calibration import Calibration, calibrate
from mcu.int8.folded_net import FoldedNet
from mcu.int8.model import Int8Model
from mcu.int8.quantize import quantise
from mcu.latency import Cycles
from mcu.terms import RuntimeName
from mcu.tracing.trace import Traced
from orchestrator.planning.inputs import told
from orchestrator.planning.preflight import input_tasks, traced_network
from orchestrator.queries.latency import measured_cycles
from orchestrator.storage.store import Store
from pruning.engine.surgery import shrink
from pruning.training.rehearsal import rehearse
from search_spaces.sweep import SweepConfig

HALVINGS = 8
"""Of the width multipliers in which the widest network that takes no more than a time is looked for."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """A network of the sweep on one input.

    Attributes:
        label: for messages.
        traced: the network as a trial begins with it.
        input_shape: of one example.
        front_end: whose instructions come out of the same time.
    """

    label: str
    traced: Traced
    input_shape: Shapes
    front_end: FrontEnd | None = None
    _models: dict[float, Int8Model] = field(default_factory=dict)

    def at(self, scale: float) -> Int8Model:
        """The network narrowed by a width multiplier from 0 (one channel in every layer) to 1, in int8.

        Its weights are random: programs cost the same with any. Raises InputError if it fails with fewer channels.
        """
        if scale not in self._models:
            try:
                self._models[scale] = self._narrowed(scale)
            except RuntimeError:
                rehearse(self.traced, self.input_shape)  # says in one line what fails
                raise
        return self._models[scale]

    def _narrowed(self, scale: float) -> Int8Model:
        random = torch.Generator().manual_seed(0)
        examples = tuple(torch.randn(2, *shape, generator=random) for shape in shapes_of(self.input_shape))
        module, graph = copy.deepcopy(self.traced.module).cpu(), self.traced.graph
        kept = [np.arange(max(1, int(scale * group.size))) for group in graph.groups]
        folded = FoldedNet(shrink(module, graph, kept), module.eval())
        calibrate(folded, examples, Calibration.MINMAX)
        return quantise(folded)


def with_latency(sweep: SweepConfig, storage: str) -> SweepConfig:
    """The sweep with its bound on latency as multiply-accumulates of each device, which its study keeps.

    Cycles per instruction are those of models measured on a device in the database, else those of its core.
    Instructions per multiply-accumulate are predicted for each network of the sweep on each of its inputs, at the
    largest width multiplier whose program takes no more time; the fewest multiply-accumulates are the bound. Where the
    budget bounds the C program, the instructions of the front end of sound come out of the same time.

    Raises:
        InputError: the time is too short for a network, or the tools that count a front end's instructions are missing
            (``ToolsMissing``).
    """
    latency, devices = sweep.budgets.latency, sweep.budgets.devices
    if latency is None or devices is None:
        return sweep
    store, candidates = _there(storage), candidates_of(sweep)
    macs = {}
    for device in map(find_device, devices):
        cycles = None if store is None else measured_cycles(store, device)
        macs[device.name] = min(_macs_within(device, latency, cycles, candidate) for candidate in candidates)
    return sweep.model_copy(update={"latency_macs": macs})


def _there(storage: str) -> Store | None:
    """The database, if there is one yet; what is wrong with it is said when it is opened for writing."""
    try:
        return Store(storage)
    except InputError:
        return None


def candidates_of(sweep: SweepConfig) -> list[Candidate]:
    """Every network of a sweep on every input. Raises InputError if one cannot be loaded, built or traced."""
    counts, found = sweep.budgets.runtime is RuntimeName.FIRMWARE, []
    for inputs, task in input_tasks(sweep).items():
        for choice in sweep.network.choices():
            label = f"{choice.name} ({told(inputs)})" if inputs else choice.name
            traced = traced_network(choice, task)[0]
            found.append(Candidate(label, traced, task.input_shape, task.front_end if counts else None))
    return found


def _macs_within(device: Device, latency: int, cycles: Cycles | None, candidate: Candidate) -> int:
    """Multiply-accumulates of the widest network whose program takes no more microseconds than ``latency``."""
    core = core_of(device)
    before = 0 if candidate.front_end is None else measure_front_end(candidate.front_end, core).instructions
    allowed = instructions_within(device, latency, cycles, before)

    def taken(scale: float) -> int:
        model = candidate.at(scale)
        return predict_instructions(model, core, choose_plan(model, core.name, device.budget()).plan)

    try:
        scale = _widest(taken, allowed)
    except InputError:  # none is predicted for the core, or C kernels do not express the network
        return max(int(allowed / core.instructions_per_mac), 1)
    if scale is None:
        least = 1000 * (before + taken(0.0)) * (cycles or core.cycles).bound / device.clock_hz
        raise InputError(
            f"budgets.latency of {latency / 1000:g} ms: on {device.name} {candidate.label} takes about {least:.3g} ms "
            "with one channel in every layer: allow more time, or leave it out"
        )
    return max(candidate.at(scale).macs() * allowed // taken(scale), 1)


def _widest(taken: Callable[[float], int], allowed: int) -> float | None:
    """The largest width multiplier that takes no more instructions than allowed; None if even 0 does."""
    if taken(1.0) <= allowed:
        return 1.0
    if taken(0.0) > allowed:
        return None
    fits, exceeds = 0.0, 1.0
    for _ in range(HALVINGS):
        middle = (fits + exceeds) / 2
        fits, exceeds = (middle, exceeds) if taken(middle) <= allowed else (fits, middle)
    return fits
