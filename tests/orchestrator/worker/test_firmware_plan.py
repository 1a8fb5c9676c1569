"""The plan of a stored trial's C program: what was measured is what is exported."""

from __future__ import annotations

import json

from mcu.budget import Budget
from mcu.cost.firmware_memory import plan_memory
from mcu.cost.stage import Stage
from mcu.devices import find_device
from mcu.firmware import choose_plan, predict_firmware
from mcu.runtime import Runtime
from mcu.terms import RuntimeName
from orchestrator.worker.firmware_plan import ENTRY, plan_facts, plan_of
from random_nets import causal_net, plain_net, separable_net


def test_the_plan_that_was_measured_is_exported() -> None:
    model, device = separable_net(), "stm32f446re"
    least = plan_memory(model, several=False)
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
    # of versions that knew one plan, and one stage
    assert plan_of(model, {})[0].offsets == least.offsets
    assert plan_of(model, {ENTRY: {"stage": None, "told": ""}})[0] == plan_memory(model, by_strips=False)
    assert plan_of(model, {ENTRY: {"stage": [0, 5, 2], "told": ""}})[0].strips.stages == (Stage(0, 5, 2),)


def test_several_stages_are_exported_and_trials_of_versions_with_one_keep_theirs() -> None:
    model = plain_net()
    choice = choose_plan(model, "cortex-m4f")
    assert len(choice.plan.strips.links) == 2
    facts = json.loads(json.dumps(plan_facts(choice)))
    assert plan_of(model, facts) == (choice.plan, choice.told())
    assert len(plan_of(model, {})[0].strips.links) == 1


def test_a_stream_has_its_own_plan_whatever_was_measured() -> None:
    model = causal_net(width=8)
    facts = plan_facts(Runtime(RuntimeName.FIRMWARE, "stm32f446re").choose_plan(model))
    plan, told = plan_of(model, facts, "nrf52832", hop=1)
    taken = predict_firmware(model, "cortex-m4f", plan)
    assert plan.stream is not None
    assert told == f"a step of 1 row, {taken.ram:,} bytes of RAM and {taken.flash:,} of flash"
    assert plan_facts(None) == {}


def test_the_bytes_of_a_stream_include_its_front_end_and_are_compared_with_the_device() -> None:
    model = causal_net(width=8)
    network = predict_firmware(model, "cortex-m4f", plan_memory(model, hop=2))
    cost, room = {"flash": 6_000, "ram": 4_000, "instructions": 9}, find_device("nrf52832").budget()
    facts = {"spec": {"device": "nrf52832"}, "front_end": {"cost": cost, "parameters": {"window": 640}}}
    told = plan_of(model, facts, hop=2)[1]
    assert told == f"a step of 2 rows, {network.ram + 5_280:,} bytes of RAM and {network.flash + 6_000:,} of flash"
    cost["ram"] = room.sram
    assert plan_of(model, facts, hop=2)[1].endswith(f"of flash: more than the {room} that nrf52832 leaves for a model")
    assert "leaves" not in plan_of(model, facts | {"spec": {"device": "of a package that is gone"}}, hop=2)[1]
