"""The plan of a trial's C program: chosen when it is measured, kept in its deployment, built by every export."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple
from typing import TYPE_CHECKING, Any

from mcu.devices import find_device
from orchestrator.tables import printable

if TYPE_CHECKING:
    from mcu.cost.firmware_memory import FirmwarePlan
    from mcu.firmware import PlanChoice
    from mcu.int8.model import Int8Model

ENTRY = "firmware_plan"


def plan_facts(choice: PlanChoice | None) -> dict[str, Any]:
    """The entry of a deployment; empty for a model that the kernels cannot express."""
    if choice is None:
        return {}
    stages = choice.plan.strips.stages if choice.plan.strips else ()
    return {ENTRY: {"stages": [list(astuple(stage)) for stage in stages], "told": choice.told()}}


def plan_of(
    model: Int8Model, facts: Mapping[str, Any], device: str | None = None, hop: int | None = None
) -> tuple[FirmwarePlan, str]:
    """The plan of an exported program, and one line on it for readers.

    Args:
        facts: the trial's deployment. One without a plan is of a version that took the least memory with one stage.
        device: that the program is for, if it is not the trial's: then its limits say which plan it is.
        hop: as in ``write_project``.

    Raises:
        InputError: if the kernels cannot express an operator, or the input is no stream.
    """
    from mcu.cost.firmware_memory import plan_memory, plan_with
    from mcu.cost.stage import Stage
    from mcu.firmware import choose_plan
    from mcu.int8.structure import structure_of

    if hop is not None:
        return plan_memory(model, hop=hop), ""
    target = None if device is None else find_device(device)
    if target is not None and target.name != facts.get("spec", {}).get("device"):
        choice = choose_plan(model, target.core, target.budget())
        return choice.plan, choice.told()
    entry = facts.get(ENTRY)
    if entry is None:
        return plan_memory(model, several=False), ""
    stages = entry["stages"] if "stages" in entry else [entry["stage"]] if entry["stage"] else []  # one, once
    return plan_with(structure_of(model), [Stage(*stage) for stage in stages]), printable(entry["told"])
