import numpy as np
import pytest
import torch
from torch import nn

from mcu.cost.arena import predict_arena
from mcu.errors import InputError
from mcu.int8.calibration import calibrate
from mcu.int8.folded_net import FoldedNet
from mcu.int8.quantize import correct_biases, equalise, quantise
from mcu.int8.reference_interpreter import ReferenceInterpreter, dequantise
from mcu.int8.structure import structure_of, structure_of_graph
from mcu.measure import model_input
from mcu.tflite import tflm
from mcu.tflite.flatbuffer_size import predict_flash
from mcu.tflite.writer import write_tflite
from mcu.tracing.trace import trace


def separable() -> nn.Module:
    """A depthwise-separable stack whose channels have very unequal ranges."""
    torch.manual_seed(1)

    def block(inner: int, outer: int, stride: int) -> list[nn.Module]:
        return [
            nn.Conv2d(inner, inner, 3, stride, 1, groups=inner, bias=False), nn.BatchNorm2d(inner), nn.ReLU(),
            nn.Conv2d(inner, outer, 1, bias=False), nn.BatchNorm2d(outer), nn.ReLU(),
        ]  # fmt: skip

    network = nn.Sequential(
        nn.Conv2d(1, 8, 3, 1, 1), nn.BatchNorm2d(8), nn.ReLU(), *block(8, 12, 1), *block(12, 16, 1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5),
    )  # fmt: skip
    for _ in range(5):
        network(torch.randn(16, 1, 12, 12))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data = torch.exp(torch.randn_like(module.weight))
            module.bias.data = 0.5 * torch.randn_like(module.bias)
    return network.eval()


@pytest.fixture
def folded() -> FoldedNet:
    network = separable()
    traced = trace(network, (1, 12, 12))
    return FoldedNet(traced.graph, traced.module)


X = torch.randn(64, 1, 12, 12, generator=torch.Generator().manual_seed(3))


def int8_scores(network: FoldedNet) -> np.ndarray:
    model = quantise(network)
    codes = ReferenceInterpreter(model).run(model_input(model, X.numpy())).reshape(len(X), -1)
    return dequantise(codes, model.tensors[model.output])


def error(network: FoldedNet) -> float:
    network.fake_quantise(False)
    return float(np.abs(int8_scores(network) - network(X).detach().numpy()).mean())


def test_fake_quantisation_foretells_the_int8_scores(folded):
    calibrate(folded, X)
    exact = folded(X).detach().numpy()
    folded.fake_quantise(True)
    imitated, actual = folded(X).detach().numpy(), int8_scores(folded)
    scale = folded.grids()[folded.graph.outputs[0].tensor][0]
    assert np.abs(actual - imitated).mean() < scale
    assert np.abs(actual - imitated).mean() < 0.3 * np.abs(actual - exact).mean()


def test_the_graph_predicts_the_quantised_model(folded):
    calibrate(folded, X)
    model = quantise(folded)
    structure = structure_of_graph(folded.graph)
    data = write_tflite(model)
    assert predict_flash(structure) == len(data)
    assert structure.macs() == model.macs() == structure_of(model).macs()
    if tflm.available():
        assert predict_arena(structure) == tflm.measure_arena(data)


def test_weights_are_symmetric_and_biases_integers(folded):
    calibrate(folded, X)
    for op in quantise(folded).ops:
        if op.weights is not None:
            assert op.weights.dtype == np.int8
            assert op.weights.min() >= -127
            assert op.bias.dtype == np.int32
            axes = (0, 1, 2) if op.kind == "depthwise" else (1, 2, 3)
            assert np.all(np.abs(op.weights).max(axes) == 127)


def test_equalisation_keeps_the_function_and_evens_the_ranges(folded):
    before = folded(X)
    spread = ranges_spread(folded)
    assert equalise(folded) == 5
    assert torch.allclose(folded(X), before, atol=1e-4)
    assert ranges_spread(folded) < 0.7 * spread


def ranges_spread(network: FoldedNet) -> float:
    logs = [weight.detach().abs().amax((1, 2, 3)).log().std() for weight in network.weights.values()]
    return float(sum(logs))


def test_bias_correction_brings_the_mean_score_closer(folded):
    calibrate(folded, X)
    with torch.no_grad():
        target = folded(X).mean(0).numpy()
        for weight in folded.weights.values():
            weight += 0.02 * weight.abs().amax()  # an error of one sign, as coarse rounding makes
    plain = np.abs(int8_scores(folded).mean(0) - target).mean()
    reference = folded(X).mean(0).detach().numpy()
    correct_biases(folded, X)
    corrected = np.abs(int8_scores(folded).mean(0) - reference).mean()
    assert corrected < max(plain, 0.01)


def test_dead_channels_and_large_biases_survive(folded):
    with torch.no_grad():
        folded.weights["0"][0] = 0.0
        folded.biases["0"][0] = 3.0
    calibrate(folded, X)
    assert error(folded) < 0.1
    assert np.all(np.isfinite(quantise(folded).ops[0].weight_scales))


def test_uncalibrated_or_broken_networks_are_refused(folded):
    with pytest.raises(InputError, match="calibrate"):
        quantise(folded)
    calibrate(folded, X)
    with torch.no_grad():
        folded.weights["0"][0, 0, 0, 0] = float("nan")
    with pytest.raises(InputError, match="not a finite number"):
        quantise(folded)
