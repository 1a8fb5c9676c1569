"""Which layers of a program run strip by strip: chosen by RAM, flash and instructions on the core.

Where a budget bounds RAM, the plan with the fewest predicted instructions within it; those within ``EQUAL`` of them
count as equally fast, and the smallest of these is taken. Where RAM has no bound, the plan with the least
``(RAM + additional flash) x instructions ^ TIME_WEIGHT``: one percent more instructions has to save about
``TIME_WEIGHT`` percent of the bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

from mcu.budget import Budget, Resources
from mcu.cost.firmware_memory import FirmwarePlan, plan_memory, plans_of
from mcu.firmware.cores import CORES, Core
from mcu.firmware.instructions import predict_instructions
from mcu.firmware.prediction import predict_firmware
from mcu.int8.model import Int8Model
from mcu.int8.structure import structure_of

TIME_WEIGHT = 5
EQUAL = 0.01
ANY_CORE = "cortex-m55"
"""Stands for a core that is not known: calls weigh most where a layer takes the fewest instructions."""


@dataclass(frozen=True)
class PlanCost:
    """What is predicted of a plan's program: bytes, and instructions, which are 0 if there is no other plan."""

    plan: FirmwarePlan
    flash: int
    ram: int
    instructions: int

    @property
    def used(self) -> Resources:
        """Without multiply-accumulates, which are the same in every plan."""
        return Resources(self.flash, self.ram, 0)

    @property
    def size(self) -> int:
        """Bytes of flash and RAM."""
        return self.flash + self.ram


@dataclass(frozen=True)
class PlanChoice:
    """The plan chosen, the one on whole maps, and why it is this one."""

    chosen: PlanCost
    whole: PlanCost
    why: str

    @property
    def plan(self) -> FirmwarePlan:
        """What ``write_project`` and the predictions take."""
        return self.chosen.plan

    def told(self) -> str:
        """One line: what runs strip by strip, what it saves and costs, and why."""
        own, whole, strips = self.chosen, self.whole, self.plan.strips
        if strips is None:
            return f"whole maps, {own.ram:,} bytes of RAM: {self.why}"
        ram = f"{own.ram:,} bytes of RAM instead of {whole.ram:,}"
        more = f"{own.instructions / whole.instructions - 1:+.1%} instructions"
        return f"{strips}, {ram}, {more}, {own.flash - whole.flash:+,} bytes of flash: {self.why}"


def choose_plan(
    model: Int8Model, core: str | None = None, budget: Budget | None = None, hop: int | None = None
) -> PlanChoice:
    """The plan of a model's program.

    Args:
        core: name of what it will run on; None, or one that firmware is not built for here, if that is not known.
        budget: bounds on flash and RAM of the program, as far as there are any.
        hop: rows by which a stream moves on from run to run; such a program has one plan.

    Raises:
        InputError: if the kernels cannot express an operator, or the input is no stream.
    """
    target = CORES.get(core or ANY_CORE, CORES[ANY_CORE])
    plans = plans_of(structure_of(model)) if hop is None else [plan_memory(model, hop=hop)]
    costs = [_cost(model, plan, target, len(plans) > 1) for plan in plans]
    whole, bounds = costs[0], budget or Budget()
    within = [cost for cost in costs if bounds.admits(cost.used)]
    if len(costs) == 1:
        return PlanChoice(whole, whole, "the only way" if hop is None else "a step of a stream")
    if not within:
        closest = min(costs, key=lambda cost: (bounds.violation(cost.used), cost.size))
        return PlanChoice(closest, whole, f"none is within {bounds}, this is closest")
    if bounds.sram is None:
        best = min(within, key=lambda cost: _score(cost, whole))
        limit = "" if bounds.flash is None else f" within {bounds}"
        return PlanChoice(best, whole, f"RAM has no bound: 1 % of time for {TIME_WEIGHT} % of memory{limit}")
    fewest = min(cost.instructions for cost in within)
    fast = [cost for cost in within if cost.instructions <= (1 + EQUAL) * fewest]
    return PlanChoice(min(fast, key=lambda cost: cost.size), whole, f"the fastest within {bounds}")


def _cost(model: Int8Model, plan: FirmwarePlan, core: Core, counted: bool) -> PlanCost:
    taken = predict_firmware(model, core.name, plan)
    return PlanCost(plan, taken.flash, taken.ram, predict_instructions(model, core, plan) if counted else 0)


def _score(cost: PlanCost, whole: PlanCost) -> float:
    bytes_ = cost.ram + cost.flash - whole.flash
    return float(bytes_ * (cost.instructions / whole.instructions) ** TIME_WEIGHT)
