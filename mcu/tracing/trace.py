"""From a torch module to a ``Graph``: capture, rebuild of canonical layers, shapes, operators, proof."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, cast

import torch
from torch import fx, nn

from mcu.errors import InputError
from mcu.graph.graph import Graph, bundle
from mcu.graph.places import is_within
from mcu.graph.ports import Shapes, shapes_of
from mcu.graph.schedule import schedule
from mcu.tracing.capture import Captured, capture, evaluating, first_line
from mcu.tracing.lowering import lower
from mcu.tracing.proof import prove
from mcu.tracing.rebuild import rebuilt


@dataclass(frozen=True)
class Traced:
    """A module as a canonical network beside its ``Graph``.

    Attributes:
        module: fx graph of plain layers that holds the module's own parameters, where they have the shape of a plain
            layer's; always in 2-D, whatever the module is.
        graph: the operators of the exported model.
        notes: messages on what the network leaves out.
    """

    module: fx.GraphModule
    graph: Graph
    notes: tuple[str, ...] = field(default=())


def trace(module: nn.Module, input_shape: Shapes, frozen: Iterable[str] = (), multiple: int = 1) -> Traced:
    """Trace a convolutional network, and prove that the result computes the same.

    Args:
        module: returns one tensor or several, in any nesting, such as logits ``(N, classes)``, for inputs
            ``(N, *input_shape)``; a canonical network is used as it is.
        input_shape: ``(C, H, W)``, ``(C, L)`` for signals, which become ``L x 1`` images, or ``(C,)``; of several
            inputs a shape for each.
        frozen: paths of layers, or of modules with layers in them, whose output channels must all stay.
        multiple: neighbouring channels that are kept or removed together, in every group whose size is a multiple of
            it.

    Raises:
        InputError: if the network cannot be traced, has an operator mcusweep does not know, or is not proven.
    """
    return Tracer(input_shape, frozen, multiple)(module)


DEEP = 12
"""Layers from which on a network without normalisation is hard to train."""


class Tracer:
    """Traces networks of the same structure; capture and proof run only once.

    Arguments, result and errors are those of ``trace``.
    """

    def __init__(self, input_shape: Shapes, frozen: Iterable[str] = (), multiple: int = 1) -> None:
        self.input_shape, self.frozen, self.multiple = input_shape, tuple(frozen), multiple
        self._known: Captured | None = None

    def __call__(self, module: nn.Module) -> Traced:
        """Trace one network."""
        if isinstance(module, fx.GraphModule) and module.meta.get("interface"):
            notes = list(module.meta.get("notes", ()))
            return Traced(module, self._lowered(module, notes), tuple(notes))
        captured = self._known.of(module) if self._known else None
        proven = captured is not None
        if captured is None:
            captured = capture(module, self.input_shape)
        network, builder = rebuilt(captured)
        network.meta["notes"] = tuple(builder.notes)
        graph = self._lowered(network, builder.notes)
        if not proven:
            prove(captured, self.input_shape, lambda network: lowered(network, self.input_shape))
            self._known = captured
        network.train(captured.module.training)
        return Traced(network, graph, tuple(builder.notes))

    def _lowered(self, network: fx.GraphModule, notes: list[str]) -> Graph:
        return lowered(network, self.input_shape, self.frozen, self.multiple, notes.append)


def lowered(
    network: fx.GraphModule,
    input_shape: Shapes,
    frozen: Collection[str] = (),
    multiple: int = 1,
    note: Callable[[str], None] | None = None,
) -> Graph:
    """The operators of a canonical network; ``note`` is told what is to be said about them."""
    _propagate_shapes(network, input_shape)
    _drop_idle_strides(network)
    graph = lower(network, frozen)
    _check_frozen(frozen, [op.layer for op in graph.ops if op.layer])
    if (
        note
        and len(layers := {op.layer for op in graph.ops if op.layer}) >= DEEP
        and not any(op.norm for op in graph.ops)
    ):
        note(
            f"none of its {len(layers)} layers is normalised: at the usual learning rates it may diverge or learn "
            "nothing; train it before batch normalisation is fused, or with a learning rate of 0.001 to 0.01"
        )
    return bundle(schedule(graph, note), multiple)


def _check_frozen(frozen: Collection[str], layers: list[str]) -> None:
    """Refuse a path that would freeze nothing."""
    for path in frozen:
        if not any(is_within(layer, (path,)) for layer in layers):
            hint = "".join(f"did you mean {name!r}? " for name in get_close_matches(path, layers, n=1))
            raise InputError(
                f"frozen: {path!r} is no layer with channels of its own; {hint}allowed are the paths of convolutions "
                "and dense layers, and of modules that hold some"
            )


def _drop_idle_strides(module: fx.GraphModule) -> None:
    """Set the stride to 1 along axes on which a convolution has one position anyway.

    The result is the same. With the stride left, oneDNN leaves weights that never meet the input out of the bfloat16
    gradient, and they take whatever was in memory (torch 2.13, inputs one pixel wide).
    """
    uses = Counter(node.target for node in module.graph.nodes if node.op == "call_module")
    for node in module.graph.nodes:
        layer = module.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(layer, nn.Conv2d) and uses[node.target] == 1:
            sizes, padding = node.args[0].meta["shape"][2:], cast(tuple[int, int], layer.padding)
            axes = zip(sizes, layer.kernel_size, layer.stride, layer.dilation, padding, strict=True)
            layer.stride = tuple(
                1 if size + 2 * pad - dilation * (kernel - 1) == 1 else stride
                for size, kernel, stride, dilation, pad in axes
            )


class _Shapes(fx.Interpreter):
    """Notes the shape of what every node yields."""

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if isinstance(value, torch.Tensor):
            n.meta["shape"] = tuple(value.shape)
        return value


def _propagate_shapes(module: fx.GraphModule, input_shape: Shapes) -> None:
    parameter = next(module.parameters(), torch.zeros(1))
    with evaluating(module):
        try:
            options: dict[str, Any] = {"device": parameter.device, "dtype": parameter.dtype}
            _Shapes(module).run(*(torch.zeros(1, *shape, **options) for shape in shapes_of(input_shape)))
        except Exception as error:
            raise InputError(
                f"network: an input of shape {tuple(input_shape)} does not pass through it ({first_line(error)})"
            ) from error
