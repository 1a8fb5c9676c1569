"""A dry run of what a job does to a network: narrowing, gates, a training step, fake quantisation.

A network that passes does not fail later with an error of torch: a layer that cannot lose channels, a shape that is
valid only in the dense network or a missing gradient is found in a second and refused with its source line.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import fx, nn

from mcu.errors import InputError
from mcu.graph.graph import Graph
from mcu.graph.layers import Affine
from mcu.int8.folded_net import FoldedNet
from mcu.int8.quantize import quantise
from mcu.tracing.proof import agree, random_like, require_equal
from mcu.tracing.trace import Traced
from pruning.engine import gates, surgery
from pruning.training.evaluation import channels_last
from pruning.training.precision import has_fast_bf16

DRAWS = 2
"""Random widths at which the narrowed network is compared, besides one channel in every group."""

BATCH = 4
"""Examples of the steps that are tried."""


def rehearse(traced: Traced, input_shape: tuple[int, ...], seed: int = 0) -> None:
    """Narrow a network to several widths and train it for a step at two, with gates and with fake quantisation.

    Args:
        traced: not changed.
        input_shape: of one example.
        seed: of weights, widths and data.

    Raises:
        InputError: if the narrowed network computes a different result, or a step fails.
    """
    generator = torch.Generator().manual_seed(seed)
    network = copy.deepcopy(traced.module).cpu()
    _randomise(network, generator)
    x = torch.randn(BATCH, *input_shape, generator=generator)
    for kept in _choices(traced.graph, np.random.default_rng(seed)):
        _compare(network, traced.graph, kept, x)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        _step(copy.deepcopy(network), traced.graph, x)
        narrow = copy.deepcopy(network)
        halves = [np.arange(max(1, group.size // 2)) for group in traced.graph.groups]
        _step(narrow, surgery.shrink(narrow, traced.graph, halves), x)


def _randomise(network: nn.Module, generator: torch.Generator) -> None:
    with torch.no_grad():
        for layer in network.modules():
            for name, tensor in (*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)):
                if tensor.is_floating_point() and not (isinstance(layer, Affine) and "running" in name):
                    tensor.copy_(random_like(name, tensor, generator))


def _choices(graph: Graph, generator: np.random.Generator) -> Iterator[list[np.ndarray]]:
    """Members that stay: of random widths, then one of every group."""
    for _ in range(DRAWS):
        widths = [int(generator.integers(1, group.size + 1)) for group in graph.groups]
        yield [
            np.sort(generator.choice(group.size, width, replace=False))
            for group, width in zip(graph.groups, widths, strict=True)
        ]
    yield [np.array([int(generator.integers(group.size))]) for group in graph.groups]


def _compare(network: fx.GraphModule, graph: Graph, kept: list[np.ndarray], x: torch.Tensor) -> None:
    """A network without channels, the same with their gates shut, and its operators must compute the same."""
    if not graph.groups:
        return
    gated, narrow = copy.deepcopy(network).eval(), copy.deepcopy(network).eval()
    bank = gates.attach(gated, graph)
    bank.set_hard(kept)
    smaller = surgery.shrink(narrow, graph, kept)
    try:
        with torch.no_grad():
            same = agree(narrow(x).flatten(1), gated(x).flatten(1))
    except RuntimeError as error:
        raise _failure("with fewer channels", error) from error
    if not same:
        raise InputError("network: removing channels changes its outputs (a defect in mcusweep; please report it)")
    require_equal(narrow, smaller, x)


def _step(network: fx.GraphModule, graph: Graph, x: torch.Tensor) -> None:
    """One step with gates and one with int8 arithmetic imitated, as a job takes them."""
    network.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = channels_last(x)
    try:
        if graph.groups:
            gates.attach(network, graph).watch()
        _backward(network, images)
        gates.detach(network)
        folded = FoldedNet(graph, network.eval())
        folded.calibrate(images)
        folded.fake_quantise(True)
        _backward(folded, images)
        quantise(folded)
    except RuntimeError as error:
        raise _failure("in training", error) from error


def _backward(network: nn.Module, images: torch.Tensor) -> None:
    with torch.autocast("cpu", torch.bfloat16, enabled=has_fast_bf16(torch.device("cpu"))):
        scores = network(images).flatten(1)
    F.cross_entropy(scores.float(), torch.arange(len(images)) % scores.shape[1]).backward()


def _failure(when: str, error: Exception) -> InputError:
    return InputError(f"network: it fails {when}: {' '.join(str(error).split())[:200]}")
