"""The plan of a stored trial's C program: what was measured is what is exported."""

from __future__ import annotations

import json

from mcu.budget import Budget
from mcu.cost.firmware_memory import plan_memory
from mcu.firmware import choose_plan
from mcu.runtime import Runtime
from mcu.terms import RuntimeName
from orchestrator.worker.firmware_plan import plan_facts, plan_of
from random_nets import causal_net, separable_net


def test_the_plan_that_was_measured_is_exported() -> None:
    model, device = separable_net(), "stm32f446re"
    least = plan_memory(model)
    for sram in (None, "1MB", choose_plan(model, "cortex-m4f").chosen.ram):
        runtime = Runtime(RuntimeName.FIRMWARE, device, budget=Budget(sram=sram))
        choice = runtime.choose_plan(model)
        facts = json.loads(json.dumps(plan_facts(choice) | {"spec": {"device": device}}))
        for asked in (None, device, "nucleo-f446re"):
            plan, told = plan_of(model, facts, asked)
            assert (plan.offsets, plan.strips) == (choice.plan.offsets, choice.plan.strips)
            assert told == choice.told()
    roomy, told = plan_of(model, facts, "stm32h743zi")
    assert roomy.total >= choice.plan.total
    assert "the fastest within 1920KB flash, 512KB SRAM" in told
    assert plan_of(model, {})[0].offsets == least.offsets  # of a version that knew one plan


def test_a_stream_has_its_own_plan_whatever_was_measured() -> None:
    model = causal_net(width=8)
    facts = plan_facts(Runtime(RuntimeName.FIRMWARE, "stm32f446re").choose_plan(model))
    plan, told = plan_of(model, facts, "nrf52832", hop=1)
    assert plan.stream is not None
    assert not told
    assert plan_facts(None) == {}
