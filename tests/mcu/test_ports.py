"""Networks with several inputs and outputs on every floor: torch, graph, int8 on three interpreters, C on a core."""

from __future__ import annotations

import subprocess
from collections import namedtuple
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from mcu.cost.arena import predict_arena, sufficient_arena
from mcu.cost.deployment import predict_deployment, write_deployment
from mcu.devices import find_device
from mcu.errors import InputError
from mcu.firmware import (
    LibraryModel,
    choose_plan,
    core_of,
    measure_firmware,
    predict_firmware,
    toolchain,
    write_library,
)
from mcu.firmware.library import LibraryFormat
from mcu.int8.calibration import calibrate
from mcu.int8.folded_net import FoldedNet
from mcu.int8.quantize import quantise
from mcu.int8.reference_interpreter import ReferenceInterpreter, dequantise
from mcu.int8.structure import structure_of_graph
from mcu.measure import evaluate, model_inputs
from mcu.tflite import apart, tflm
from mcu.tflite.reader import read_tflite
from mcu.tracing.trace import trace
from random_nets import several_ports_net

SHAPES = ((3, 8, 8), (4,))
needs_tflm = pytest.mark.skipif(not tflm.available(), reason="tflite-micro is not installed on this computer")

Pair = namedtuple("Pair", "box kind")


@dataclass
class Answer:
    box: torch.Tensor
    kinds: list[torch.Tensor | None]


FORMS = {
    "tuple": (lambda box, kind, inner: (box, kind), ("output_0", "output_1")),
    "dict, list": (
        lambda box, kind, inner: {"the box": box, "rest": [kind, inner]},
        ("the_box", "rest_0", "rest_1"),
    ),
    "named tuple": (lambda box, kind, inner: Pair(box, kind), ("box", "kind")),
    "data class": (lambda box, kind, inner: Answer(box, [None, kind]), ("box", "kinds_1")),
    "twice": (lambda box, kind, inner: (kind, kind, box), ("output_0", "output_1", "output_2")),
    "one in a dict": (lambda box, kind, inner: {"scores": kind}, ("scores",)),
}


class TwoHeads(nn.Module):
    """An image and a few scalars; a box and a class, and a map that is read again."""

    def __init__(self, form=FORMS["tuple"][0]):
        super().__init__()
        self.form = form
        self.first, self.second = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 6, 3, padding=1)
        self.box, self.kind = nn.Linear(10, 4), nn.Linear(10, 3)

    def forward(self, image, scalars, mask=None):
        inner = self.first(image).relu()
        both = torch.cat([self.second(inner).mean((2, 3)), scalars], 1)
        return self.form(self.box(both), self.kind(both), inner)


def int8_of(network, shapes, count=6):
    """The graph, the folded network, real inputs, the int8 model and its file."""
    traced = trace(network.eval(), shapes)
    folded = FoldedNet(traced.graph, traced.module.eval())
    x = tuple(torch.randn(count, *shape, generator=torch.Generator().manual_seed(0)) for shape in shapes)
    calibrate(folded, x)
    model = quantise(folded)
    return traced, folded, x, model, write_deployment(model)


@pytest.mark.parametrize("name", FORMS)
def test_what_a_network_returns_keeps_its_form_names_and_values(name):
    form, names = FORMS[name]
    network = TwoHeads(form).eval()
    traced = trace(network, SHAPES)
    assert [port.name for port in traced.graph.inputs] == ["image", "scalars"]
    assert tuple(port.name for port in traced.graph.outputs) == names
    x = torch.randn(2, 3, 8, 8), torch.randn(2, 4)
    interface = traced.module.meta["interface"]
    found, wanted = interface.returned(traced.module.eval()(*interface.given(x[:1], {"scalars": x[1]}))), network(*x)
    assert type(found) is type(wanted)
    torch.testing.assert_close(*(torch.utils._pytree.tree_leaves(y) for y in (found, wanted)), rtol=1e-4, atol=1e-5)


def test_all_channels_of_all_inputs_and_outputs_stay():
    graph = trace(TwoHeads(FORMS["dict, list"][0]), SHAPES).graph
    assert [group.name for group in graph.groups] == ["second"]  # the map of "first" is an output
    for port in (*graph.inputs, *graph.outputs):
        assert (graph.tensors[port.tensor].groups == -1).all()


def test_each_output_loses_its_own_softmax_and_is_proven_with_it():
    class Two(TwoHeads):
        def forward(self, image, scalars):
            box, kind = super().forward(image, scalars)
            return box.log_softmax(1), kind, kind.softmax(1)

    traced = trace(Two(), SHAPES)
    assert len(traced.notes) == 2
    assert traced.graph.outputs[1].tensor == traced.graph.outputs[2].tensor


def test_an_input_without_a_part_in_what_is_returned_is_refused():
    with pytest.raises(InputError, match=r"TwoHeads \(test_ports.py:\d+\): its input 'mask' has no part in what it"):
        trace(TwoHeads(), (*SHAPES, (2,)))


@needs_tflm
@pytest.mark.parametrize("name", ["dict, list", "twice"])
def test_interpreters_agree_and_file_and_arena_are_as_predicted(name):
    _, folded, x, model, data = int8_of(TwoHeads(FORMS[name][0]), SHAPES)
    predicted = predict_deployment(structure_of_graph(folded.graph))
    arena = apart.measure_arena(data)
    assert (len(data), arena) == (predicted.flash, predicted.arena)
    codes = model_inputs(model, [given.numpy() for given in x])
    ours = ReferenceInterpreter(model).invoke(codes)
    for found, theirs in zip(ours, apart.invoke(data, codes), strict=True):
        assert np.array_equal(found, theirs)
    read = read_tflite(data)
    assert (read.inputs, read.outputs) == (model.inputs, model.outputs)
    assert litert_by_name(data, dict(zip(("image", "scalars"), codes, strict=True))).keys() == {
        port.name for port in model.outputs
    }
    with torch.no_grad():
        for port, found, wanted in zip(model.outputs, ours, folded(*x), strict=True):
            real = dequantise(found, model.tensors[port.tensor]).transpose(0, 3, 1, 2).reshape(wanted.shape)
            assert np.abs(real - wanted.numpy()).max() < 0.1 * wanted.abs().max()
    with pytest.raises(InputError, match="the model has 2 inputs \\(image, scalars\\); allowed here is one"):
        evaluate(data, x[0].numpy(), np.zeros(6, np.int64))


def litert_by_name(data, codes):
    """The last example's outputs by the names of the file's signature."""
    litert = pytest.importorskip("ai_edge_litert.interpreter")
    runner = litert.Interpreter(model_content=data).get_signature_runner()
    return runner(**{name: values[-1:] for name, values in codes.items()})


@needs_tflm
@pytest.mark.parametrize("seed", range(8))
def test_random_models_with_several_ports(seed):
    model = several_ports_net(seed)
    data = write_deployment(model)
    predicted = predict_deployment(model)
    assert len(data) == predicted.flash
    assert tflm.measure_arena(data) == predicted.arena == predict_arena(model, predicted.plan)
    rng = np.random.default_rng(seed)
    codes = [rng.integers(-128, 128, (3, *model.tensors[p.tensor].shape[1:]), dtype=np.int8) for p in model.inputs]
    theirs = tflm.invoke(data, codes)
    for found, wanted in zip(ReferenceInterpreter(model).invoke(codes), theirs, strict=True):
        assert np.array_equal(found, wanted)
    from tflite_micro import runtime

    runtime.Interpreter.from_bytes(data, arena_size=sufficient_arena(model, predicted.plan)).invoke()


def test_firmware_of_several_ports_is_bit_exact_and_predicted():
    device = find_device("stm32f446re")
    core = core_of(device)
    if advice := toolchain(core.architecture).advice():
        pytest.skip(advice)
    _, _, x, model, data = int8_of(TwoHeads(FORMS["twice"][0]), SHAPES)
    codes = model_inputs(model, [given.numpy() for given in x])
    expected = tflm.invoke(data, codes) if tflm.available() else None
    found = measure_firmware(model, device, codes, expected)
    assert found.bit_exact
    predicted = predict_firmware(model, core.name, choose_plan(model).plan)
    assert predicted.flash == pytest.approx(found.flash_firmware, abs=32)
    assert predicted.ram == pytest.approx(found.sram_firmware, abs=16)


def test_a_library_takes_a_pointer_for_each_port(tmp_path):
    _, _, _, model, _ = int8_of(TwoHeads(), SHAPES)
    write_library(
        [LibraryModel("duo", model), LibraryModel("many", several_ports_net(3))], tmp_path, LibraryFormat.CMAKE
    )
    header = (tmp_path / "src" / "mcusweep_model.h").read_text()
    assert "void duo_invoke(const int8_t *in_image, const int8_t *in_scalars, int8_t *out_0, int8_t *out_1);" in header
    assert "#define DUO_INPUT_SCALARS_BYTES 4\n" in header
    command = "cmake -B build && cmake --build build && ctest --test-dir build"
    done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=False)
    if "cmake: not found" in done.stderr:
        pytest.skip("no cmake on this computer")
    assert done.returncode == 0, done.stdout + done.stderr
