from dataclasses import replace

import numpy as np
import pytest

from mcu.budget import Budget, Resources
from mcu.cost.deployment import write_deployment
from mcu.cost.firmware_memory import plan_memory, plans_of
from mcu.errors import InputError
from mcu.firmware import predict_firmware, toolchain
from mcu.front_end import FrontEnd
from mcu.int8.structure import structure_of
from mcu.resource_model import ResourceModel
from mcu.runtime import LINKER_SLACK, STACK_SLACK, Runtime, RuntimeName
from mcu.tracing.trace import trace
from random_nets import separable_net
from search_spaces.choices import NetworkChoice
from search_spaces.networks import build_network

FIRMWARE = Runtime(RuntimeName.FIRMWARE, "stm32f446re")


def test_the_same_network_costs_differently_on_the_two_runtimes():
    graph = trace(build_network(NetworkChoice(name="resnet8"), (1, 28, 28), 10, 0), (1, 28, 28)).graph
    widths = np.maximum(1, graph.widths // 3)
    tflm, firmware = ResourceModel(graph).exact(widths), ResourceModel(graph, FIRMWARE).exact(widths)
    assert tflm.macs == firmware.macs
    assert firmware.sram < tflm.sram, "our program has no interpreter structures in RAM"


def test_prediction_never_promises_less_flash_than_the_linker_finds(random_model):
    if advice := toolchain().advice():
        pytest.skip(advice)
    for seed in range(6):
        model = random_model(seed)
        flash, sram = FIRMWARE.predict(structure_of(model))
        budget = Budget(flash=flash, sram=sram)
        built = replace(FIRMWARE, budget=budget).measure(model, write_deployment(model))
        assert budget.admits(Resources(built.flash, built.sram, built.macs))
        assert built.flash > 0.97 * flash
        assert built.sram >= sram - 48


def test_a_model_is_within_the_budget_if_any_of_its_plans_is_and_the_fastest_of_these_is_built():
    model = separable_net()
    structure, core = structure_of(model), "cortex-m4f"
    plans = plans_of(structure)
    smallest = plan_memory(structure)
    whole, strips = (predict_firmware(model, core, plan) for plan in (plans[0], smallest))
    assert whole.flash < strips.flash
    assert strips.ram < whole.ram
    for least, other in ((whole, strips), (strips, whole)):
        tight = Budget(flash=least.flash + LINKER_SLACK, sram=least.ram + STACK_SLACK)
        bounded = replace(FIRMWARE, budget=tight)
        assert tight.admits(Resources(*bounded.predict(structure), 0))
        assert bounded.choose_plan(model).chosen.used == Resources(least.flash, least.ram, 0), other
    roomy = replace(FIRMWARE, budget=Budget(sram="1MB"))
    assert roomy.predict(structure) == FIRMWARE.predict(structure) != (whole.flash, whole.ram)
    found = roomy.choose_plan(model)
    assert found.chosen.instructions <= 1.01 * found.whole.instructions
    interpreter = Runtime(device="stm32f446re", budget=Budget(flash=1, sram=strips.ram + STACK_SLACK))
    assert interpreter.choose_plan(model).chosen.ram == strips.ram  # its flash bounds a file, not the program


def test_the_front_end_of_sound_is_part_of_what_firmware_may_use(random_model):
    if advice := toolchain().advice():
        pytest.skip(advice)
    listening = Runtime(RuntimeName.FIRMWARE, "stm32f446re", FrontEnd())
    model = random_model(0)
    alone, both = (runtime.predict(structure_of(model)) for runtime in (FIRMWARE, listening))
    flash, ram = listening.before()
    assert both == (alone[0] + flash, alone[1] + ram)
    assert flash > 4 * FrontEnd().dct().size  # its tables alone
    assert ram >= 4 * FrontEnd().fft
    assert all(low <= whole for low, whole in zip(listening.floor(structure_of(model)), both, strict=True))
    measured = [runtime.measure(model, b"") for runtime in (FIRMWARE, listening)]
    assert (measured[1].flash - measured[0].flash, measured[1].sram - measured[0].sram) == (flash, ram)
    assert Runtime(front_end=FrontEnd()).before() == (0, 0)  # TensorFlow Lite Micro: the file and the arena alone


@pytest.mark.parametrize(("device", "says"), [(None, "no device"), ("esp32", "Cortex-M, RISC-V")])
def test_firmware_needs_a_device_it_is_built_for(device, says):
    with pytest.raises(InputError, match=says):
        Runtime(RuntimeName.FIRMWARE, device)
