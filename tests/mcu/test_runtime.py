import numpy as np
import pytest

from mcu.budget import Budget, Resources
from mcu.cost.deployment import write_deployment
from mcu.errors import InputError
from mcu.firmware import toolchain
from mcu.int8.structure import structure_of
from mcu.resource_model import ResourceModel
from mcu.runtime import Runtime, RuntimeName
from mcu.tracing.trace import trace
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
        built = FIRMWARE.measure(model, write_deployment(model))
        assert Budget(flash=flash, sram=sram).admits(Resources(built.flash, built.sram, built.macs))
        assert built.flash > 0.97 * flash
        assert built.sram > 0.97 * sram


@pytest.mark.parametrize(("device", "says"), [(None, "no device"), ("esp32", "Cortex-M and RISC-V")])
def test_firmware_needs_a_device_it_is_built_for(device, says):
    with pytest.raises(InputError, match=says):
        Runtime(RuntimeName.FIRMWARE, device)
