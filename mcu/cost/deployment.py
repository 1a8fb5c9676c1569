"""The file that is deployed: the model, with our arena plan in it where that pays."""

from __future__ import annotations

from dataclasses import dataclass

from mcu.cost.arena import Plan, lifetimes, plan_activations, plan_around, predict_arena
from mcu.cost.planner import best_plan
from mcu.int8.model import Int8Model
from mcu.int8.structure import Structure, structure_of
from mcu.tflite.flatbuffer_size import predict_flash
from mcu.tflite.tflm import ArenaUse
from mcu.tflite.writer import write_tflite


@dataclass(frozen=True)
class Deployment:
    """What the deployed file will cost.

    Attributes:
        flash: bytes of the file.
        arena: bytes of the interpreter's arena.
        plan: the plan written into the file; None leaves planning to TFLM.
    """

    flash: int
    arena: ArenaUse
    plan: Plan | None


def predict_deployment(model: Structure | Int8Model) -> Deployment:
    """Decide about the plan and predict the cost, exactly.

    Our plan goes into the file if it saves more bytes of arena than it adds to the file.
    """
    structure = structure_of(model) if isinstance(model, Int8Model) else model
    flash, theirs = predict_flash(model), plan_activations(structure)
    buffers = lifetimes(structure)
    fixed = enumerate(best_plan(buffers).offsets[: len(structure.shapes)])
    ours = plan_around(buffers, dict(fixed))  # TFLM places what kernels ask for
    if ours.total < theirs.total:
        planned = predict_flash(model, offline_plan=True)
        if theirs.total - ours.total > planned - flash:
            return Deployment(planned, predict_arena(structure, ours), ours)
    return Deployment(flash, predict_arena(structure, theirs), None)


def write_deployment(model: Int8Model) -> bytes:
    """The .tflite file, with our arena plan if that pays."""
    plan = predict_deployment(model).plan
    offsets = dict(enumerate(plan.offsets[: len(model.tensors)])) if plan else None
    return write_tflite(model, offsets)
