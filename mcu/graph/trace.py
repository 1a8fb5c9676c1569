"""From a torch module to a ``Graph``: trace with torch.fx, find every shape, lower to operators."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from mcu.errors import InputError
from mcu.graph.graph import Graph, bundle
from mcu.graph.lowering import Lowering
from mcu.graph.schedule import schedule


@dataclass(frozen=True)
class Traced:
    """A module as an fx ``GraphModule`` (sharing the module's parameters) beside its ``Graph``."""

    module: fx.GraphModule
    graph: Graph


def trace(module: nn.Module, input_shape: tuple[int, ...], frozen: Iterable[str] = (), multiple: int = 1) -> Traced:
    """Trace a convolutional network.

    Args:
        module: returns class scores ``(N, classes)`` for inputs ``(N, *input_shape)``.
        input_shape: ``(C, H, W)``, or ``(C, L)`` for 1-D signals, which become ``L x 1`` images.
        frozen: paths of layers whose output channels must all stay.
        multiple: neighbouring channels that stay or go together, in every group that divides into such units.

    Raises:
        InputError: if the network cannot be traced or has an operator mcusweep does not know.
    """
    if isinstance(module, fx.GraphModule):
        traced = module
    else:
        try:
            traced = fx.symbolic_trace(module)
        except Exception as error:
            raise InputError(
                f"network {type(module).__name__}: torch.fx cannot trace it ({_first_line(error)}); "
                "allowed are networks without data-dependent control flow"
            ) from error
    _propagate_shapes(traced, input_shape)
    _drop_idle_strides(traced)
    return Traced(traced, bundle(schedule(Lowering(traced, set(frozen)).build()), multiple))


def _drop_idle_strides(module: fx.GraphModule) -> None:
    """Set the stride to 1 along axes on which a convolution has one position anyway.

    The result is the same. With the stride left, oneDNN leaves weights that never meet the input out of the bfloat16
    gradient, and they take whatever was in memory (torch 2.13, inputs one pixel wide).
    """
    for node in module.graph.nodes:
        layer = module.get_submodule(str(node.target)) if node.op == "call_module" else None
        if not isinstance(layer, nn.Conv1d | nn.Conv2d) or isinstance(layer.padding, str):
            continue
        sizes = node.args[0].meta["tensor_meta"].shape[2:]
        reach = [dilation * (kernel - 1) for dilation, kernel in zip(layer.dilation, layer.kernel_size, strict=True)]
        single = [size + 2 * pad - far == 1 for size, pad, far in zip(sizes, layer.padding, reach, strict=True)]
        layer.stride = tuple(1 if one else stride for one, stride in zip(single, layer.stride, strict=True))


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _propagate_shapes(module: fx.GraphModule, input_shape: tuple[int, ...]) -> None:
    training = {name: child.training for name, child in module.named_modules()}
    module.eval()
    parameter = next(module.parameters(), torch.zeros(1))
    try:
        with torch.no_grad():
            ShapeProp(module).propagate(torch.zeros(1, *input_shape, device=parameter.device))
    except Exception as error:
        raise InputError(
            f"network: an input of shape {tuple(input_shape)} does not pass through it ({_first_line(error)})"
        ) from error
    finally:
        for name, child in module.named_modules():
            child.training = training[name]
