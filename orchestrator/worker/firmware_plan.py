"""The plan of a trial's C program: chosen when it is measured, kept in its deployment, built by every export."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple
from typing import TYPE_CHECKING, Any

from mcu.budget import Budget, Resources
from mcu.devices import Device, find_device
from mcu.errors import InputError
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
        return _plan_of_step(model, facts, device, hop)
    target = None if device is None else find_device(device)
    if target is not None and target.name != facts.get("spec", {}).get("device"):
        choice = choose_plan(model, target.core, target.budget())
        return choice.plan, choice.told()
    entry = facts.get(ENTRY)
    if entry is None:
        return plan_memory(model, several=False), ""
    stages = entry["stages"] if "stages" in entry else [entry["stage"]] if entry["stage"] else []  # one, once
    return plan_with(structure_of(model), [Stage(*stage) for stage in stages]), printable(entry["told"])


def _plan_of_step(model: Int8Model, facts: Mapping[str, Any], device: str | None, hop: int) -> tuple[FirmwarePlan, str]:
    """The plan of a stream, and what its program takes with the front end of sound: other bytes than were measured."""
    from mcu.firmware import choose_plan

    target = target_of(facts, device)
    step = choose_plan(model, None if target is None else target.core, hop=hop).chosen
    flash, ram, front = step.flash, step.ram, facts.get("front_end")
    if front and front["cost"]:
        flash, ram = flash + front["cost"]["flash"], ram + front["cost"]["ram"] + 2 * front["parameters"]["window"]
    told = f"a step of {hop} {'row' if hop == 1 else 'rows'}, {ram:,} bytes of RAM and {flash:,} of flash"
    room = Budget() if target is None else target.budget()
    if target is None or room.admits(Resources(flash, ram, 0)):
        return step.plan, told
    return step.plan, f"{told}: more than the {room} that {target.name} leaves for a model"


def target_of(facts: Mapping[str, Any], device: str | None = None) -> Device | None:
    """The device that a program is for: the one asked for, else that of the trial with this deployment, if known.

    Raises:
        InputError: the one asked for is not in the catalogue.
    """
    if device is not None:
        return find_device(device)
    name = facts.get("spec", {}).get("device")
    try:
        return None if name is None else find_device(name)
    except InputError:  # of a package that is not installed any more
        return None
