import copy

import numpy as np
import pytest
import torch
from torch import nn

from mcu.errors import InputError
from mcu.graph.graph import Kind
from mcu.int8.calibration import Calibration, calibrate
from mcu.int8.fake_quantisation import affine, rounded, rounded_weight, weight_scales
from mcu.int8.folded_net import FoldedNet
from mcu.int8.quantize import quantise
from mcu.int8.reference_interpreter import ReferenceInterpreter, quantise_input
from mcu.tflite import apart, tflm
from mcu.tflite.writer import write_tflite
from mcu.tracing.trace import trace


class Branched(nn.Module):
    """Batch norms, depthwise with multiplier, residual, concat, pools, lone batch norm, lone relu6, dense on 2x2."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU())
        self.wide = nn.Sequential(nn.Conv2d(6, 12, 3, 2, 1, groups=6, bias=False), nn.BatchNorm2d(12), nn.ReLU6())
        self.skip = nn.Conv2d(6, 12, 1, 2)
        self.pool = nn.AvgPool2d(3, 2, 1, count_include_pad=False)
        self.norm = nn.BatchNorm2d(12)
        self.left = nn.Conv2d(12, 4, (3, 1), padding=(1, 0), dilation=1)
        self.right = nn.Conv2d(12, 5, 3, padding=2, dilation=2)
        self.head = nn.Linear(9 * 2 * 2, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = torch.relu(self.wide(x) + self.skip(x))
        x = self.norm(self.pool(x))
        x = torch.cat([self.left(x), torch.relu(self.right(x))], 1)
        x = nn.functional.max_pool2d(nn.functional.relu6(x), 2)
        return self.head(x.flatten(1))


def trained(network: nn.Module, shape: tuple[int, ...]) -> nn.Module:
    torch.manual_seed(0)
    network.train()
    for _ in range(5):
        network(torch.randn(16, *shape))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    return network.eval()


@pytest.fixture
def branched() -> tuple[nn.Module, FoldedNet]:
    network = trained(Branched(), (3, 13, 13))
    traced = trace(network, (3, 13, 13))
    return network, FoldedNet(traced.graph, traced.module)


def test_folding_changes_no_output(branched):
    network, folded = branched
    x = torch.randn(8, 3, 13, 13)
    assert torch.allclose(folded(x), network(x), atol=1e-5)


def test_one_dimensional_signals_run_as_images():
    network = nn.Sequential(
        nn.Conv1d(2, 4, 5, 2, 2), nn.BatchNorm1d(4), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, 3)
    )
    network = trained(network, (2, 31))
    traced = trace(network, (2, 31))
    x = torch.randn(4, 2, 31)
    assert torch.allclose(FoldedNet(traced.graph, traced.module)(x), network(x), atol=1e-5)


def test_fake_quantisation_needs_calibration_and_can_be_switched_off(branched):
    _, folded = branched
    x = torch.randn(8, 3, 13, 13)
    with pytest.raises(InputError, match="calibrate"):
        folded.fake_quantise(True)
    exact = folded(x)
    calibrate(folded, x)
    folded.fake_quantise(True)
    assert 0 < (folded(x) - exact).abs().max() < 0.2 * exact.abs().max()
    folded.fake_quantise(False)
    assert torch.equal(folded(x), exact)


def test_gradients_pass_straight_through(branched):
    _, folded = branched
    x, y = torch.randn(32, 3, 13, 13), torch.randint(0, 7, (32,))
    calibrate(folded, x)
    folded.fake_quantise(True)
    optimiser = torch.optim.Adam(folded.parameters(), 0.02)
    losses = []
    for _ in range(20):
        loss = nn.functional.cross_entropy(folded(x), y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert all(parameter.grad is not None for parameter in folded.parameters())
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize("method", list(Calibration))
def test_ranges_hold_zero_and_start_there_after_a_relu(branched, method):
    _, folded = branched
    calibrate(folded, torch.randn(64, 3, 13, 13), method)
    for tensor, (scale, zero_point) in enumerate(folded.grids()):
        assert scale > 0
        assert -128 <= zero_point <= 127
        if folded.roots[tensor] in folded.rectified:
            assert zero_point == -128


def test_an_outlier_widens_minmax_but_not_percentile(branched):
    _, folded = branched
    x = torch.randn(256, 3, 13, 13)
    x[0, 0, 0, 0] = 1000.0
    scales = {}
    for method in Calibration:
        calibrate(folded, x, method)
        scales[method] = folded.grids()[folded.graph.inputs[0].tensor][0]
    assert scales[Calibration.MINMAX] > 3.9
    assert scales[Calibration.PERCENTILE] < 0.1
    assert scales[Calibration.MSE] < scales[Calibration.MINMAX]


def test_ranges_hold_the_rare_values_that_outputs_depend_on(branched):
    _, folded = branched
    x = 0.02 * torch.randn(256, 3, 13, 13)
    x[:8, :, :2, :2] += 9.0  # few values, and all that moves the scores
    errors = {}
    for method in (Calibration.MSE, Calibration.MINMAX, Calibration.OUTPUT):
        exact = folded(x)
        calibrate(folded, x, method)
        folded.fake_quantise(True)
        errors[method] = float((folded(x) - exact).detach().square().mean())
        folded.fake_quantise(False)
    assert errors[Calibration.MSE] != errors[Calibration.MINMAX]
    assert errors[Calibration.OUTPUT] == min(errors.values())


def test_ranges_travel_with_the_state_and_the_network_moves_types(branched):
    _, folded = branched
    calibrate(folded, torch.randn(16, 3, 13, 13))
    other = copy.deepcopy(folded)
    other.ranges.zero_()
    other._grids = None
    other.load_state_dict(folded.state_dict())
    assert other.grids() == folded.grids()
    assert folded.double().cpu().weights["0"].dtype is torch.float64


def test_affine_represents_zero_exactly():
    assert affine(0.0, 2.55) == (pytest.approx(0.01), -128)
    assert abs(affine(-1.0, 1.0)[1]) <= 1
    assert affine(0.5, 1.0)[1] == -128
    assert affine(0.0, 0.0)[0] > 0


@pytest.mark.parametrize(("scale", "zero_point"), [(0.031, -128), (0.0173, 5), (1.7, 0), (0.1, 127)])
def test_rounding_to_codes_is_torchs_own_with_its_gradients(scale, zero_point):
    generator = torch.Generator().manual_seed(0)
    x = 90 * scale * torch.randn(20_000, generator=generator)
    upstream = torch.randn(20_000, generator=generator)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    found = rounded(ours, scale, zero_point)
    wanted = torch.fake_quantize_per_tensor_affine(theirs, scale, zero_point, -128, 127)
    found.backward(upstream)
    wanted.backward(upstream)
    assert torch.equal(found, wanted)
    assert torch.equal(ours.grad, theirs.grad)
    assert (ours.grad == 0).any()


def test_bfloat16_training_is_near_float32_and_leaves_depthwise_layers_in_it(branched):
    _, folded = branched
    x = torch.randn(16, 3, 13, 13)
    calibrate(folded, x)
    folded.fake_quantise(True)
    depthwise = [op.output for op in folded.graph.ops if op.kind is Kind.DEPTHWISE]
    types = {}
    exact = folded(x)
    with torch.autocast("cpu", torch.bfloat16):
        (low,) = folded.run(x, observer=lambda tensor, value: types.setdefault(tensor, value.dtype))
    assert depthwise
    assert all(types[tensor] is torch.float32 for tensor in depthwise)
    assert torch.bfloat16 in types.values()
    assert (low - exact).abs().max() < 0.1 * exact.abs().max()


@pytest.mark.parametrize("shape", [(8, 3, 3, 3), (10, 64, 1, 1), (16, 1, 3, 3)])
def test_rounding_of_filters_is_torchs_own_with_its_gradients(shape):
    generator = torch.Generator().manual_seed(0)
    weight, upstream = torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)
    weight[0] = 0  # a filter without a range
    ours, theirs = weight.clone().requires_grad_(), weight.clone().requires_grad_()
    zeros = torch.zeros(len(weight), dtype=torch.int32)
    found = rounded_weight(ours)
    wanted = torch.fake_quantize_per_channel_affine(theirs, weight_scales(theirs), zeros, 0, -127, 127)
    found.backward(upstream)
    wanted.backward(upstream)
    assert torch.equal(found, wanted)
    assert torch.equal(ours.grad, theirs.grad)


@pytest.mark.skipif(not tflm.available(), reason="tflite-micro is not installed")
def test_a_convolution_that_is_shut_in_calibration_runs_on_the_interpreter_when_it_opens():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 4, 1, bias=False), nn.Conv2d(4, 4, 3, bias=False), nn.ReLU(), nn.Conv2d(4, 2, 4)
    )
    with torch.no_grad():
        network[0].weight.fill_(1e9)
        network[1].weight.fill_(-1.0)
    traced = trace(network, (1, 6, 6))
    folded = FoldedNet(traced.graph, traced.module)
    x = torch.rand(16, 1, 6, 6)
    calibrate(folded, torch.cat([x, -1e-9 * x]))
    model = quantise(folded)
    codes = np.random.default_rng(0).integers(-128, 128, (16, 6, 6, 1), dtype=np.int8)
    codes[:8] = -128
    assert np.array_equal(ReferenceInterpreter(model).run(codes), tflm.run(write_tflite(model), codes))


@pytest.mark.skipif(not tflm.available(), reason="tflite-micro is not installed")
def test_a_sum_that_is_shut_for_every_input_runs_on_the_interpreter(branched):
    network, _ = branched
    with torch.no_grad():
        network.skip.bias.fill_(-1000.0)
    traced = trace(network, (3, 13, 13))
    folded = FoldedNet(traced.graph, traced.module)
    x = torch.randn(16, 3, 13, 13)
    calibrate(folded, x)
    model = quantise(folded)
    data = write_tflite(model)
    apart.measure_arena(data)  # a sum too fine for the interpreter aborts it
    codes = quantise_input(x.permute(0, 2, 3, 1).contiguous().numpy(), model.tensors[model.input])
    assert np.array_equal(ReferenceInterpreter(model).run(codes), tflm.run(data, codes))
