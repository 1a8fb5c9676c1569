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
from mcu.graph.kinds import Activation, Kind
from mcu.graph.layers import Affine
from mcu.graph.ports import Shapes, each, shapes_of
from mcu.int8.calibration import Calibration, calibrate
from mcu.int8.folded_net import FoldedNet
from mcu.int8.quantize import quantise
from mcu.terms import TaskKind
from mcu.tracing.proof import Inputs, agree, random_like, require_equal
from mcu.tracing.trace import Traced
from pruning.engine import gates, surgery
from pruning.training.evaluation import channels_last
from pruning.training.precision import has_fast_bf16

DRAWS = 2
"""Random widths at which the narrowed network is compared, besides one channel in every group."""

BATCH = 4
"""Examples of the steps that are tried."""


def rehearse(traced: Traced, input_shape: Shapes, seed: int = 0) -> None:
    """Narrow a network to several widths and train it for a step at two, with gates and with fake quantisation.

    Args:
        traced: not changed.
        input_shape: of one example; of several inputs a shape for each.
        seed: of weights, widths and data.

    Raises:
        InputError: if the narrowed network computes a different result, or a step fails.
    """
    generator = torch.Generator().manual_seed(seed)
    network = copy.deepcopy(traced.module).cpu()
    _randomise(network, generator)
    x = tuple(torch.randn(BATCH, *shape, generator=generator) for shape in shapes_of(input_shape))
    narrow, graph = copy.deepcopy(network), traced.graph
    if graph.groups:
        graph = _compare(network, narrow, graph, np.random.default_rng(seed), x)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        _step(network, traced.graph, x)
        _step(narrow, graph, x)


LEFT_OUT = ("log_softmax", "softmax")
SQUASHED = ("sigmoid", "tanh")
ONE_SIDED = ("relu", "relu6", "hard_swish", "elu")


def require_end(traced: Traced, kind: TaskKind, own_loss: bool = False, own_loop: bool = False) -> None:
    """Refuse a network whose last operator keeps its outputs from being what they are read as.

    Args:
        traced: the network.
        kind: of the task.
        own_loss, own_loop: whether the user's loss or loop is in place of the built-in one.

    Raises:
        InputError: naming the operator.
    """
    notes = [note.partition(" at the end")[0] for note in traced.notes]
    last = next((name for name in LEFT_OUT if name in notes), "") or _last(traced.graph)
    wrong: tuple[str, ...]
    if kind in (TaskKind.REGRESSION, TaskKind.RECONSTRUCTION):
        wrong, read = (*LEFT_OUT, *SQUASHED, *ONE_SIDED), "deviations from a mean, of both signs and any size"
    elif own_loop:
        return  # which sees what the network returns, and scores are by what is largest
    elif own_loss:
        wrong, read = LEFT_OUT, "what the exported model computes, without it"
    else:
        wrong, read = (*SQUASHED, *(LEFT_OUT if kind is TaskKind.MULTI_LABEL else ())), "logits"
    if last in wrong:
        raise InputError(f"network: it ends in {last}, but its outputs are taken for {read}: leave {last} out")


def _last(graph: Graph) -> str:
    """What makes the values of a network's first output; empty if it is nothing that limits them."""
    wanted = graph.outputs[0].tensor
    for op in reversed(graph.ops):
        if op.output != wanted:
            continue
        if op.kind in (Kind.RESHAPE, Kind.SLICE, Kind.GATHER, Kind.RESIZE):
            wanted = op.inputs[0]
            continue
        if op.activation is not Activation.NONE:
            return str(op.activation)
        return "sigmoid" if op.kind is Kind.LOGISTIC else str(op.kind)
    return ""


def _randomise(network: nn.Module, generator: torch.Generator) -> None:
    with torch.no_grad():
        for layer in network.modules():
            for name, tensor in (*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)):
                if tensor.is_floating_point() and not (isinstance(layer, Affine) and "running" in name):
                    tensor.copy_(random_like(name, tensor, generator))


def _choices(graph: Graph, generator: np.random.Generator) -> Iterator[list[np.ndarray]]:
    """Members that stay, of those that stayed before: as many as chance will have it, then one of every group."""
    sizes = [group.size for group in graph.groups]
    for draw in range(DRAWS + 1):
        widths = [int(generator.integers(1, size + 1)) if draw < DRAWS else 1 for size in sizes]
        yield [np.sort(generator.choice(size, width, replace=False)) for size, width in zip(sizes, widths, strict=True)]
        sizes = widths


def _compare(
    network: fx.GraphModule, narrow: fx.GraphModule, graph: Graph, generator: np.random.Generator, x: Inputs
) -> Graph:
    """A network without channels, the same with their gates shut, and its operators must compute the same.

    Args:
        network: gets gates for the time being.
        narrow: a copy that loses channels, again and again.
        graph: of both.
        generator: of the channels.
        x: inputs.

    Returns:
        The graph of what ``narrow`` is in the end.
    """
    bank = gates.attach(network.eval(), graph)
    narrow.eval()
    kept = [np.arange(group.size) for group in graph.groups]
    for staying in _choices(graph, generator):
        kept = [members[those] for members, those in zip(kept, staying, strict=True)]
        bank.set_hard(kept)
        graph = surgery.shrink(narrow, graph, staying)
        try:
            _require_same(network, narrow, graph, x)
        except InputError:  # rounding, where values grow large: double precision decides
            _require_same(network.double(), narrow.double(), graph, tuple(given.double() for given in x))
            network.float()
            narrow.float()
    gates.detach(network)
    return graph


def _require_same(network: nn.Module, narrow: fx.GraphModule, graph: Graph, x: Inputs) -> None:
    try:
        with torch.no_grad():
            pairs = zip(each(narrow(*x)), each(network(*x)), strict=True)
            same = all(agree(found.flatten(1), wanted.flatten(1)) for found, wanted in pairs)
    except RuntimeError as error:
        raise _failure("with fewer channels", error) from error
    if not same:
        raise InputError("network: removing channels changes its outputs (a defect in mcusweep; please report it)")
    require_equal(narrow, graph, x)


def _step(network: fx.GraphModule, graph: Graph, x: Inputs) -> None:
    """One step with gates and one with int8 arithmetic imitated, as a job takes them."""
    network.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = tuple(map(channels_last, x))
    try:
        if graph.groups:
            gates.attach(network, graph).watch()
        _backward(network, images)
        gates.detach(network)
        folded = FoldedNet(graph, network.eval())
        calibrate(folded, images, Calibration.MINMAX)
        folded.fake_quantise(True)
        _backward(folded, images)
        quantise(folded)
    except RuntimeError as error:
        raise _failure("in training", error) from error


def _backward(network: nn.Module, images: Inputs) -> None:
    with torch.autocast("cpu", torch.bfloat16, enabled=has_fast_bf16(torch.device("cpu"))):
        scores = torch.cat([output.flatten(1) for output in each(network(*images))], 1)
    F.cross_entropy(scores.float(), torch.arange(len(scores)) % scores.shape[1]).backward()


def _failure(when: str, error: Exception) -> InputError:
    return InputError(f"network: it fails {when}: {' '.join(str(error).split())[:200]}")
