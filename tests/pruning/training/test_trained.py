from __future__ import annotations

import pytest
import torch

from pruning.engine import depth
from pruning.engine.network import Constraints, PrunableNetwork
from pruning.training.trained import TrainedNetwork
from search_spaces.choices import NetworkChoice
from search_spaces.networks import build_network

CONSTRAINTS = Constraints((1, 16, 16))


def dense(seed: int) -> torch.nn.Module:
    return build_network(NetworkChoice(name="resnet8", width=0.5), (1, 16, 16), 10, seed=seed).eval()


def without_first_branch(module: torch.nn.Module) -> tuple[torch.nn.Module, list[depth.Removal]]:
    removals = [depth.branches(CONSTRAINTS.trace(module))[0].removal]
    return depth.without(CONSTRAINTS.trace(module).module, removals), removals


def test_a_network_that_lost_branches_twice_and_channels_is_built_again_from_a_dense_one(tmp_path):
    network = PrunableNetwork(dense(0), CONSTRAINTS)
    stages = []
    for _ in range(2):
        shorter, removals = without_first_branch(network.module)
        network.replace(shorter)
        stages.append(removals)
    network.keep([torch.arange(max(1, width - 1)).numpy() for width in network.graph.widths])
    trained = TrainedNetwork.of(network, stages)
    file = tmp_path / "network.safetensors"
    file.write_bytes(trained.encode())
    assert file.read_bytes() == trained.encode()
    again = TrainedNetwork.read(file)
    assert (again.edits, again.widths) == (trained.edits, trained.widths)
    images = torch.randn(3, 1, 16, 16)
    with torch.no_grad():
        assert torch.equal(again.build(dense(1), CONSTRAINTS).eval()(images), network.module.eval()(images))


def test_a_copy_does_not_follow_the_network():
    network = PrunableNetwork(dense(0), CONSTRAINTS)
    trained = TrainedNetwork.of(network, [])
    before = {name: tensor.clone() for name, tensor in trained.tensors.items()}
    with torch.no_grad():
        for tensor in network.tensors().values():
            tensor.add_(1)
    assert all(torch.equal(before[name], trained.tensors[name]) for name in before)


@pytest.mark.parametrize("name", ["ds-cnn", "resnet8"])
def test_surgery_keeps_the_layout_of_weights_in_memory(name):
    """A job that goes on from a checkpoint computes with the kernels of one that was never cut, to the last bit."""
    network = PrunableNetwork(build_network(NetworkChoice(name=name, width=0.25), (1, 16, 16), 10, seed=0), CONSTRAINTS)
    network.module.to(memory_format=torch.channels_last)
    before = {name: tensor.stride() for name, tensor in network.tensors().items()}
    network.load_layout(network.layout())
    assert {name: tensor.stride() for name, tensor in network.tensors().items()} == before
