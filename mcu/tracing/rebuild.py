"""The walk over a captured module: every ATen operator by its rule, until the canonical network is whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod
from typing import Any, NoReturn, cast

import torch
from torch import fx

from mcu.errors import InputError
from mcu.graph import layers
from mcu.graph.places import Place
from mcu.tracing.builder import Builder, Constant, Image, Rule, Value
from mcu.tracing.capture import Captured, arguments, first_line, forward_line, forward_of
from mcu.tracing.layout import flattened, plain
from mcu.tracing.refusals import FIRST, PRODUCTS, reason
from mcu.tracing.rules import rule_of


def rebuilt(captured: Captured, tensors: Mapping[str, torch.Tensor] | None = None) -> tuple[fx.GraphModule, Builder]:
    """The canonical network of a captured module, and the builder with notes on what was left out.

    Args:
        captured: the module as ATen operators.
        tensors: values to use instead of the module's own, by name.

    Raises:
        InputError: naming path and line of the first operator that no rule allows.
    """
    b = Builder(captured, tensors)
    _refuse_by_name(b)
    for node in captured.graph.nodes:
        b.present = node
        if node.op == "placeholder":
            _placeholder(b, node)
        elif node.op == "call_function":
            b.values[node] = _call(b, node)
            _check(b, node)
    returned = [_returned(b, *pair) for pair in enumerate(captured.outputs)]
    b.graph.output(returned[0] if len(returned) == 1 else tuple(returned))
    return _finished(b), b


def _finished(b: Builder) -> fx.GraphModule:
    """The network without what its outputs do not read; every input must have a part in them."""
    network = fx.GraphModule(b.root, b.graph)
    if network.graph.eliminate_dead_code():
        network.recompile()
    for node in network.graph.find_nodes(op="placeholder"):
        if not node.users:
            what = f"its input '{node.name}' has no part in what it returns"
            raise InputError(f"{forward_of(b.captured.module)}: {what}; leave it out")
    network.delete_all_unused_submodules()
    finish = {place: b.finish[node] for place, node in enumerate(b.captured.outputs) if node in b.finish}
    network.meta["interface"] = replace(b.captured.interface, finish=finish)
    return network


def _refuse_by_name(b: Builder) -> None:
    """Refuse what no network may hold before anything is said about the rest."""
    depending = set(b.captured.inputs)
    found: dict[str, fx.Node] = {}
    for node in b.captured.graph.nodes:
        read = node.all_input_nodes
        if depending.isdisjoint(read):
            continue
        depending.add(node)
        name = _name(node)
        if name not in PRODUCTS or depending.issuperset(read):
            found.setdefault(name, node)
    for name in (name for names in FIRST for name in names if name in found):
        b.present = found[name]
        _unknown(b, name)


def _placeholder(b: Builder, node: fx.Node) -> None:
    if node in b.captured.inputs:
        shape = tuple(node.meta["val"].shape)
        if not 2 <= len(shape) <= 4:
            raise InputError(f"network: an input of shape {shape[1:]}; allowed are (C,), (C, L) and (C, H, W)")
        sizes = cast(tuple[int, int, int, int], (*shape, *(1,) * (4 - len(shape))))
        entry = b.graph.placeholder(node.name)
        entry.meta |= {"place": Place(node.name, *forward_line(b.captured.module)), "aten": node.name}
        image = Image(entry, sizes, plain(sizes, len(shape)), row=len(shape) == 2)
        if len(shape) == 3:
            image = replace(image, node=b.node(layers.as_image, (entry,)))
        b.values[node] = image
    elif node.name in b.captured.names:
        name = b.captured.names[node.name]
        b.values[node] = Constant(b.tensors[name], name)


def _call(b: Builder, node: fx.Node) -> Value:
    if getattr(node.target, "__name__", "") == "getitem":
        source, index = node.args
        return cast(Value, cast(tuple[Any, ...], b.values[cast(fx.Node, source)])[cast(int, index)])
    operator = node.target
    if not isinstance(operator, torch._ops.OpOverload):
        b.refuse(f"{operator} is not an operator on tensors")
    given = {name: _value_of(b, value) for name, value in arguments(node).items()}
    if not any(isinstance(value, Image) for value in _leaves(given)):
        return _evaluated(b, node)
    name = _name(node)
    rule = rule_of(name)
    return _unknown(b, name) if rule is None else _applied(b, rule, node, given)


def _applied(b: Builder, rule: Rule, node: fx.Node, given: dict[str, Any]) -> Value:
    """What a rule makes of an operator; arguments it was not written for are refused, not raised."""
    try:
        return rule(b, node, given)
    except InputError:
        raise
    except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
        b.refuse(f"a form of it that mcusweep does not know ({first_line(error)})")


def _value_of(b: Builder, given: Any) -> Any:
    if isinstance(given, fx.Node):
        return b.values[given]
    if isinstance(given, list | tuple):
        return [_value_of(b, part) for part in given]
    return given


def _evaluated(b: Builder, node: fx.Node) -> Value:
    """Computed now, from parameters and constants alone."""

    def real(given: fx.Node) -> torch.Tensor:
        tensor = cast(Constant, b.values[given]).tensor
        return tensor.clone() if str(node.target.overloadpacket).endswith("_") else tensor  # type: ignore[union-attr]

    args, kwargs = fx.node.map_arg((node.args, node.kwargs), real)
    with torch.no_grad():
        result = cast(Any, node.target)(*args, **kwargs)
    if isinstance(result, tuple | list):
        return tuple(Constant(part) for part in result)
    return Constant(result)


def _check(b: Builder, node: fx.Node) -> None:
    """A rule must say of every dimension what it is: nothing passes that has another shape than in torch."""
    value, seen = b.values[node], node.meta.get("val")
    if "expand" in str(node.target):
        return  # its reader says what it makes of it
    if isinstance(value, Image) and isinstance(seen, torch.Tensor):
        shape = tuple(prod(piece.size for piece in dimension) for dimension in value.layout)
        if shape != tuple(seen.shape):
            b.refuse(f"a tensor of shape {tuple(seen.shape[1:])} that is not understood here")


def _returned(b: Builder, number: int, output: fx.Node) -> fx.Node:
    """The node of an output, which must be computed from the data."""
    b.present, value = output, b.values[output]
    if not isinstance(value, Image):
        name = b.captured.interface.outputs[number]
        raise InputError(f"{forward_of(b.captured.module)}: its output '{name}' does not depend on its input")
    _, channels, height, width = value.sizes
    if value.layout == flattened(value.sizes) and (height, width) != (1, 1):
        b.refuse(
            f"the logits are a flattened map of {channels} x {height} x {width}",
            "end in a dense layer, or in a global pool and one channel per class",
        )
    image = b.image(value)
    return image.node if image.row or len(value.layout) == 4 else b.row(image).node


def _name(node: fx.Node) -> str:
    """An operator's name in ATen."""
    return str(getattr(node.target, "overloadpacket", node.target)).removeprefix("aten.")


def _unknown(b: Builder, name: str) -> NoReturn:
    """Refuse an operator that has no rule."""
    if name in PRODUCTS and any(isinstance(b.values.get(read), Constant) for read in b.present.all_input_nodes):
        b.refuse(f"a product with a parameter by {name}", "use nn.Linear, or a 1x1 convolution")
    b.refuse(*reason(name))


def _leaves(given: Any) -> list[Any]:
    if isinstance(given, dict):
        return [leaf for value in given.values() for leaf in _leaves(value)]
    if isinstance(given, list | tuple):
        return [leaf for value in given for leaf in _leaves(value)]
    return [given]
