"""Tracing: shapes, folding, padding, channel groups, and what is refused."""

import numpy as np
import pytest
import torch
from torch import nn

from mcu.cost.arena import lifetimes, peak_live
from mcu.errors import InputError
from mcu.graph.graph import FIXED
from mcu.graph.kinds import Activation, Kind
from mcu.int8.folded_net import FoldedNet
from mcu.int8.structure import structure_of_graph
from mcu.resource_model import ResourceModel
from mcu.tracing.trace import trace
from search_spaces.choices import NetworkChoice
from search_spaces.networks import build_network
from search_spaces.networks.registry import BUILT_IN


def network(name: str, shape: tuple[int, int, int], classes: int = 10) -> nn.Module:
    return build_network(NetworkChoice(name=name), shape, classes, 0)


@pytest.mark.parametrize(
    ("name", "shape", "classes", "macs"),
    [("resnet8", (3, 32, 32), 10, 12_501_632), ("ds-cnn", (1, 49, 10), 12, 2_656_768)],
)
def test_macs_equal_the_published_models(name, shape, classes, macs):
    model = ResourceModel(trace(network(name, shape, classes), shape).graph)
    assert model.exact(model.dense_widths).macs == macs


def test_resnet8_has_the_published_peak_of_activations():
    graph = trace(network("resnet8", (3, 32, 32)), (3, 32, 32)).graph
    assert peak_live(lifetimes(structure_of_graph(graph))) == 49_152


def test_batch_norm_and_activation_are_folded():
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU6(), nn.Flatten(), nn.Linear(4 * 36, 2))
    ops = trace(module, (1, 8, 8)).graph.ops
    assert [(op.kind, op.activation, op.norm) for op in ops] == [
        (Kind.CONV, Activation.RELU6, "1"),
        (Kind.CONV, Activation.NONE, None),
    ]
    assert ops[1].kernel == (6, 6)


def test_batch_norm_after_an_activation_stays_an_operator_of_its_own():
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU6(), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 36, 2))
    x = torch.randn(16, 1, 8, 8)
    module.train()(x)
    traced = trace(module.eval(), (1, 8, 8))
    assert [(op.kind, op.activation, op.norm) for op in traced.graph.ops] == [
        (Kind.CONV, Activation.RELU6, None),
        (Kind.DEPTHWISE, Activation.NONE, "2"),
        (Kind.CONV, Activation.NONE, None),
    ]
    assert torch.allclose(FoldedNet(traced.graph, traced.module)(x), module(x), atol=1e-5)


def test_symmetric_padding_at_stride_two_costs_a_pad_operator_and_same_padding_does_not():
    symmetric = nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    same = nn.Sequential(
        nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(1, 4, 3, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    )
    assert [op.kind for op in trace(symmetric, (1, 28, 28)).graph.ops][:2] == [Kind.PAD, Kind.CONV]
    first = trace(same, (1, 28, 28)).graph.ops[0]
    assert (first.kind, first.padding) == (Kind.CONV, ((0, 1), (0, 1)))


class Branches(nn.Module):
    """A sum of a concatenation and a convolution, then a depthwise layer that doubles the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(1, 10, 1)
        self.mix = nn.Conv2d(16, 16, 3, padding=1)
        self.depthwise = nn.Conv2d(16, 32, 3, padding=1, groups=16)
        self.scores = nn.Linear(32, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        both = torch.cat([self.left(x).relu(), self.right(x)], 1)
        return self.scores(self.depthwise(self.mix(both) + both).mean((2, 3)))


def test_concatenation_and_sum_split_a_convolution_into_the_groups_it_is_tied_to():
    graph = trace(Branches(), (1, 8, 8)).graph
    assert [(g.size, g.producers) for g in graph.groups] == [
        (6, ("left", "mix", "depthwise")),
        (10, ("right", "mix", "depthwise")),
    ]
    depthwise = graph.tensors[graph.ops[-3].output]
    assert np.bincount(depthwise.groups).tolist() == [12, 20]


def test_frozen_layers_and_class_scores_are_fixed():
    graph = trace(Branches(), (1, 8, 8), frozen=["left"]).graph
    assert [group.producers[0] for group in graph.groups] == ["right"]
    assert (graph.tensors[graph.outputs[0].tensor].groups == FIXED).all()


def test_one_dimensional_signals_become_columns():
    module = nn.Sequential(nn.Conv1d(6, 8, 5, 2), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(8, 4))
    graph = trace(module, (6, 100)).graph
    assert (graph.tensors[0].height, graph.tensors[0].width, graph.ops[0].kernel) == (100, 1, (5, 1))


@pytest.mark.parametrize("name", [name for name in BUILT_IN if name != "grid-cnn"])
def test_groups_agree_with_the_dependency_groups_of_torch_pruning(name):
    tp = pytest.importorskip("torch_pruning")
    shape = (6, 100, 1) if name == "tiny-cnn1d" else (1, 28, 28)
    module = network(name, shape)
    graph = trace(module, shape).graph
    dependencies = tp.DependencyGraph().build_dependency(module, torch.zeros(1, *shape))
    paths = {child: path for path, child in module.named_modules()}
    theirs = set()
    for group in dependencies.get_all_groups(ignored_layers=[module.get_submodule(graph.ops[-1].layer)]):
        writers = {
            paths[item.dep.target.module]
            for item in group
            if dependencies.is_out_channel_pruning_fn(item.dep.handler)
            and isinstance(item.dep.target.module, (nn.Conv2d, nn.Linear))
        }
        theirs.add(frozenset(writers))
    assert theirs == {frozenset(group.producers) for group in graph.groups}


@pytest.mark.parametrize(
    ("module", "says"),
    [
        (
            nn.Sequential(nn.Conv2d(1, 4, 3), nn.GELU()),
            "layer '1': GELU (nn.GELU, F.gelu) has no int8 kernel in mcusweep; use nn.SiLU or nn.Hardswish",
        ),
        (nn.Sequential(nn.Conv2d(1, 4, 3, padding_mode="reflect")), "padding_mode"),
        (nn.Sequential(nn.Conv2d(1, 4, 3), nn.AvgPool2d(3, 2, 1, count_include_pad=False)), "SAME"),
        (nn.Sequential(nn.Linear(7, 3)), "does not pass"),
    ],
)
def test_what_has_no_kernel_is_named(module, says):
    shape = (1, 8, 8)
    with pytest.raises(InputError) as caught:
        trace(module, shape)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


class Forks(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else -x


@pytest.mark.parametrize(
    ("module", "says"),
    [(Forks(), r"\(test_trace.py:\d+\): `return x if x.sum\(\) > 0 else -x` depends on")],
)
def test_control_flow_is_refused(module, says):
    with pytest.raises(InputError, match=says):
        trace(module, (1, 8, 8))


def test_tracing_keeps_the_training_mode():
    module = network("resnet8", (1, 28, 28))
    module.train()
    module.get_submodule(next(n for n, m in module.named_modules() if isinstance(m, nn.BatchNorm2d))).eval()
    before = [child.training for child in module.modules()]
    trace(module, (1, 28, 28))
    assert [child.training for child in module.modules()] == before


def test_a_stride_over_a_single_position_is_dropped_and_changes_nothing():
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(2, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8)
    )
    x = torch.randn(4, 2, 3, 1)
    before = module(x)
    traced = trace(nn.Sequential(*module, nn.Flatten(), nn.Linear(8, 3)), (2, 3, 1)).module
    assert [layer.stride for layer in traced.modules() if isinstance(layer, nn.Conv2d)] == [(2, 1), (2, 1)]
    torch.testing.assert_close(module(x), before)


def test_weights_that_never_meet_the_input_have_no_gradient_in_bfloat16():
    plain = nn.Sequential(nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8), nn.Flatten(), nn.Linear(8, 3))
    module = trace(plain, (8, 1, 1)).module
    x = torch.randn(16, 8, 1, 1).contiguous(memory_format=torch.channels_last)
    for size in (32, 72, 144) * 5:  # memory that was used before
        del_me = torch.full((size,), 1e30)
        del del_me
        with torch.autocast("cpu", torch.bfloat16):
            module(x).sum().backward()
    gradient = plain[0].weight.grad.flatten(1)
    assert gradient[:, [0, 1, 2, 3, 5, 6, 7, 8]].abs().max() == 0
    assert gradient[:, 4].abs().min() > 0
