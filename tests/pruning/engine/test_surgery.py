"""Gates and surgery: a closed gate and a removed channel are the same network."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from mcu.errors import InputError
from mcu.int8.calibration import calibrate
from mcu.int8.folded_net import FoldedNet
from mcu.int8.quantize import quantise
from mcu.tracing.trace import trace
from pruning.engine import gates, surgery, widening
from pruning.engine.rewriting import Rewriter
from search_spaces.choices import NetworkChoice
from search_spaces.networks import build_network

SHAPE = (1, 28, 28)


class Mixed(nn.Module):
    """No batch normalisation, a concatenation tied by a sum, pre-activation, depth multiplier, flatten before dense."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(1, 10, 1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.mix = nn.Conv2d(16, 16, 3, padding=1)
        self.depthwise = nn.Conv2d(16, 32, 3, padding=1, groups=16)
        self.pool = nn.MaxPool2d(4)
        self.hidden, self.scores = nn.Linear(32 * 49, 20), nn.Linear(20, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        both = torch.cat([self.left(x).relu(), self.right(x)], 1)
        both = both + self.mix(self.norm(both).relu())
        return self.scores(self.hidden(self.pool(self.depthwise(both)).flatten(1)).relu())


def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    module = Mixed() if name == "mixed" else build_network(NetworkChoice(name=name), SHAPE, 10, 0)
    module.train()
    with torch.no_grad():
        for _ in range(3):
            module(torch.randn(8, *SHAPE))
    for child in module.modules():
        if isinstance(child, nn.BatchNorm2d):
            nn.init.uniform_(child.weight, 0.5, 1.5)
            nn.init.uniform_(child.bias, -0.5, 0.5)
    return module.eval()


@pytest.mark.parametrize("name", ["mixed", "resnet8", "ds-cnn", "mobilenet-v2", "plain-cnn"])
def test_a_shrunken_network_computes_what_the_gated_one_computed(name):
    traced = trace(network(name), SHAPE)
    bank = gates.attach(traced.module, traced.graph)
    generator = np.random.default_rng(0)
    kept = [
        np.sort(generator.permutation(group.size)[: generator.integers(1, group.size + 1)])
        for group in traced.graph.groups
    ]
    inputs = torch.randn(4, *SHAPE)
    bank.set_hard(kept)
    with torch.no_grad():
        wanted = traced.module(inputs)
        smaller = surgery.shrink(traced.module, traced.graph, kept)
        gates.detach(traced.module)
        got = traced.module(inputs)
    assert torch.allclose(got, wanted, atol=1e-4 * float(wanted.abs().max()))
    again = trace(traced.module, SHAPE).graph
    assert again.widths.tolist() == smaller.widths.tolist() == [len(members) for members in kept]


def test_optimiser_state_is_cut_with_its_parameters():
    traced = trace(network("resnet8"), SHAPE)
    optimizer = torch.optim.SGD(traced.module.parameters(), 0.1, momentum=0.9)
    traced.module(torch.randn(4, *SHAPE)).square().sum().backward()
    optimizer.step()
    before = copy.deepcopy(optimizer.state)
    parameter = next(p for p in traced.module.parameters() if p.dim() == 4)
    buffer = optimizer.state[parameter]["momentum_buffer"].clone()
    kept = [np.arange(0, group.size, 2) for group in traced.graph.groups]
    surgery.shrink(traced.module, traced.graph, kept, Rewriter([optimizer]))
    assert len(before) == len(optimizer.state)
    assert all(s["momentum_buffer"].shape == p.shape for p, s in optimizer.state.items())
    assert torch.equal(optimizer.state[parameter]["momentum_buffer"], buffer[::2])


OPTIMIZERS = {
    "SGD": lambda p: torch.optim.SGD(p, 0.01, momentum=0.9),
    "Adam": lambda p: torch.optim.Adam(p, amsgrad=True),
    "AdamW": torch.optim.AdamW,
    "RMSprop": lambda p: torch.optim.RMSprop(p, momentum=0.9, centered=True),
    "NAdam": torch.optim.NAdam,
    "Adagrad": torch.optim.Adagrad,
    "Adafactor": torch.optim.Adafactor,
    "Rprop": torch.optim.Rprop,
    "ASGD": torch.optim.ASGD,
}


def first_convolution(graph):
    return f"{graph.ops[0].layer}.weight"


def trained(module, optimizer):
    loss = module(torch.randn(4, *SHAPE)).square().sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_state_of_any_optimiser_follows_channels_that_leave_and_come_back(name):
    traced = trace(network("resnet8"), SHAPE)
    optimizer = OPTIMIZERS[name](traced.module.parameters())
    trained(traced.module, optimizer)
    parameter = traced.module.get_parameter(first_convolution(traced.graph))
    before = {k: v.clone() for k, v in optimizer.state[parameter].items() if isinstance(v, torch.Tensor) and v.dim()}
    kept = [np.arange(0, group.size, 2) for group in traced.graph.groups]
    smaller = surgery.shrink(traced.module, traced.graph, kept, Rewriter([optimizer]))
    for key, value in before.items():
        assert torch.equal(optimizer.state[parameter][key], value[::2] if len(value) > 1 else value), key
    trained(traced.module, optimizer)
    widening.widen(traced.module, smaller, traced.graph.widths, Rewriter([optimizer]))
    for key, value in before.items():
        assert optimizer.state[parameter][key].shape == value.shape, key
    trained(traced.module, optimizer)


def test_an_optimiser_whose_state_cannot_follow_is_refused_by_name():
    traced = trace(network("resnet8"), SHAPE)
    optimizer = torch.optim.LBFGS(traced.module.parameters(), max_iter=1)

    def closure():
        optimizer.zero_grad()
        loss = traced.module(torch.randn(4, *SHAPE)).square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    kept = [np.arange(1) for _ in traced.graph.groups]
    with pytest.raises(InputError, match="LBFGS: its state"):
        surgery.shrink(traced.module, traced.graph, kept, Rewriter([optimizer]))


@pytest.mark.parametrize("how", ["shrink", "widen"])
def test_a_loss_that_somebody_holds_does_not_disturb_the_next_step(how):
    traced = trace(network("resnet8"), SHAPE)
    optimizer = torch.optim.SGD(traced.module.parameters(), 0.01)
    held = trained(traced.module, optimizer)
    if how == "shrink":
        kept = [np.arange(2) for _ in traced.graph.groups]
        surgery.shrink(traced.module, traced.graph, kept, Rewriter([optimizer]))
    else:
        widening.widen(traced.module, traced.graph, traced.graph.widths + 1, Rewriter([optimizer]))
    trained(traced.module, optimizer)
    assert held.grad_fn is not None


def test_soft_gates_sum_to_the_width_and_rank_by_importance():
    bank = gates.GateBank([32, 8])
    bank.importance = torch.rand(40, generator=torch.Generator().manual_seed(0))
    bank.rerank()
    bank.set_soft(torch.tensor([10.0, 4.0], dtype=torch.float64), torch.tensor([0.5, 0.5]))
    opened = bank.values[:-1].split([32, 8])
    assert [round(float(part.sum()), 1) for part in opened] == [10.0, 4.0]
    best = bank.best(np.array([3, 2]))
    assert set(best[0]) == set(bank.importance[:32].topk(3).indices.tolist())


def test_attaching_open_gates_changes_nothing():
    module = network("resnet8")
    inputs = torch.randn(4, *SHAPE)
    with torch.no_grad():
        wanted = module(inputs)
        traced = trace(module, SHAPE)
        gates.attach(traced.module, traced.graph)
        assert torch.equal(traced.module(inputs), wanted)


@pytest.mark.parametrize("name", ["mixed", "resnet8", "ds-cnn", "mobilenet-v2"])
def test_a_widened_network_computes_the_same_and_can_learn_with_its_new_channels(name):
    traced = trace(network(name), SHAPE)
    generator = np.random.default_rng(1)
    kept = [np.arange(generator.integers(1, group.size + 1)) for group in traced.graph.groups]
    smaller = surgery.shrink(traced.module, traced.graph, kept)
    inputs = torch.randn(4, *SHAPE)
    with torch.no_grad():
        wanted = traced.module(inputs)
    widths = np.minimum(smaller.widths + 3, traced.graph.widths)
    wider = widening.widen(traced.module, smaller, widths)
    with torch.no_grad():
        got = traced.module(inputs)
    assert torch.allclose(got, wanted, atol=1e-4 * float(wanted.abs().max()))
    assert trace(traced.module, SHAPE).graph.widths.tolist() == wider.widths.tolist() == widths.tolist()
    traced.module(inputs).square().sum().backward()
    assert all(parameter.grad is not None for parameter in traced.module.parameters())


@pytest.mark.parametrize("name", ["mixed", "resnet8", "ds-cnn", "mobilenet-v2", "plain-cnn"])
def test_idle_channels_stay_zero_and_training_is_as_without_them(name):
    traced = trace(network(name), SHAPE)
    traced.module.double()  # rounding errors grow in training
    kept = [np.arange(group.size - 1) for group in traced.graph.groups]
    exact = surgery.shrink(traced.module, traced.graph, kept)
    padded = copy.deepcopy(traced.module)
    idle = widening.widen(padded, exact, traced.graph.widths, idle=True)
    images, labels = torch.randn(3, 16, *SHAPE, dtype=torch.float64), torch.randint(0, 10, (3, 16))
    for module in (traced.module, padded):
        module.train()
        optimizer = torch.optim.SGD(module.parameters(), 0.01, 0.9, weight_decay=5e-4, nesterov=True)
        for x, y in zip(images, labels, strict=True):
            optimizer.zero_grad()
            nn.functional.cross_entropy(module(x).flatten(1), y).backward()
            optimizer.step()
    smaller = surgery.shrink(padded, idle, kept)
    assert smaller.widths.tolist() == exact.widths.tolist()
    with torch.no_grad():
        assert torch.allclose(padded.eval()(images[0]), traced.module.eval()(images[0]), atol=1e-7)
    for tensor, value in surgery.layer_tensors(padded, smaller).items():
        assert torch.allclose(value, surgery.layer_tensors(traced.module, exact)[tensor], atol=1e-7), tensor


def test_idle_channels_hold_nothing_after_steps():
    traced = trace(network("resnet8"), SHAPE)
    kept = [np.arange(group.size - 2) for group in traced.graph.groups]
    exact = surgery.shrink(traced.module, traced.graph, kept)
    widening.widen(traced.module, exact, exact.widths + 2, idle=True)
    optimizer = torch.optim.SGD(traced.module.train().parameters(), 0.1, 0.9, weight_decay=5e-4, nesterov=True)
    for _ in range(3):
        optimizer.zero_grad()
        traced.module(torch.randn(8, *SHAPE)).square().sum().backward()
        optimizer.step()
    stem = next(layer for layer in traced.module.modules() if isinstance(layer, nn.Conv2d))
    norm = next(layer for layer in traced.module.modules() if isinstance(layer, nn.BatchNorm2d))
    assert not stem.weight[-2:].any()
    assert not norm.weight[-2:].any()
    assert not norm.bias[-2:].any()
    assert stem.weight[:-2].any()


@pytest.mark.parametrize("name", ["mixed", "resnet8", "ds-cnn", "mobilenet-v2", "plain-cnn"])
def test_idle_channels_hold_nothing_after_int8_steps_and_leave_without_a_trace(name):
    traced = trace(network(name), SHAPE)
    kept = [np.arange(max(1, group.size - 2)) for group in traced.graph.groups]
    exact = surgery.shrink(traced.module, traced.graph, kept)
    idle = widening.widen(traced.module, exact, traced.graph.widths, idle=True)
    folded = FoldedNet(idle, traced.module.eval())
    images = torch.randn(16, *SHAPE)
    calibrate(folded, images)
    folded.fake_quantise(True)
    optimizer = torch.optim.SGD(folded.parameters(), 1e-3, 0.9, weight_decay=5e-4, nesterov=True)
    untrained = surgery.narrowed(folded, kept)
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(folded(images), torch.arange(16) % 10).backward()
        optimizer.step()
    trained = surgery.narrowed(folded, kept)
    assert trained.graph.widths.tolist() == exact.widths.tolist()
    assert [tensor.shape[3] for tensor in quantise(trained).tensors] == [tensor.channels for tensor in exact.tensors]
    total = sum(parameter.abs().sum() for parameter in folded.parameters())
    assert torch.allclose(sum(parameter.abs().sum() for parameter in trained.parameters()), total, rtol=1e-5)
    assert not all(torch.equal(*pair) for pair in zip(trained.parameters(), untrained.parameters(), strict=True))
    with torch.no_grad():
        trained.fake_quantise(False)
        folded.fake_quantise(False)
        wanted = folded(images)
        assert torch.allclose(trained(images), wanted, atol=1e-4 * float(wanted.abs().max()))


def test_widths_near_a_multiple_of_eight_are_evened_out():
    traced = trace(network("plain-cnn"), SHAPE)
    widths = np.array([24, 23, 22, 21, 14, 7, 6])[: len(traced.graph.groups)]
    even = widening.even_widths(traced.graph, widths, np.full(len(widths), 100))
    assert even.tolist() == [24, 24, 24, 24, 16, 8, 8][: len(widths)]
    assert widening.even_widths(traced.graph, widths, widths).tolist() == widths.tolist()
    many = np.array([29, 61, 57, 122, 116, 227, 243])[: len(widths)]
    assert (
        widening.even_widths(traced.graph, many, np.full(len(many), 500)).tolist()
        == ([32, 64, 57, 128, 120, 232, 256][: len(many)])
    )
    pairs = trace(network("plain-cnn"), SHAPE, multiple=2).graph
    halves = np.array([12, 11, 10, 3, 3, 3, 3])[: len(widths)]
    assert (
        widening.even_widths(pairs, halves, np.full(len(widths), 100)).tolist()
        == [12, 12, 10, 4, 4, 4, 4][: len(widths)]
    )


def test_narrowing_is_not_widening():
    traced = trace(network("resnet8"), SHAPE)
    with pytest.raises(ValueError, match="below"):
        widening.widen(traced.module, traced.graph, traced.graph.widths - 1)
