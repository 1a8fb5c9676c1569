"""Check, before training, that the lowered graph computes the same as the user's module.

Both run in floating point on random inputs, in evaluation mode, with random weights and statistics in place of the
initial ones: with branches initialised to zero, errors would stay unnoticed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import fx, nn
from torch.func import functional_call
from torch.overrides import TorchFunctionMode

from mcu.errors import InputError
from mcu.graph.graph import Graph
from mcu.graph.places import place_of
from mcu.graph.ports import Shapes, each, shapes_of
from mcu.int8.folded_net import FoldedNet
from mcu.tracing.capture import BATCH, Captured, evaluating, first_line, forward_of
from mcu.tracing.rebuild import rebuilt

TOLERANCE = {torch.float64: 1e-7, torch.float32: 1e-3}
"""Largest difference, as a part of the largest value, that rounding makes over some hundred layers. Random weights may
let values grow by orders of magnitude on the way, so double precision is used wherever the module takes it."""

CANCELLED = 1e-2
"""Part of the values an operator reads that its result is measured against where that is smaller: behind products of
maps values are large, and a bounded activation leaves the rounding of large sums on small results."""

EXAMPLES = 2
"""Inputs compared; another number than was captured, so that a batch baked in is found."""

Lower = Callable[[fx.GraphModule], Graph]
Inputs = tuple[torch.Tensor, ...]


def prove(captured: Captured, input_shape: Shapes, lower: Lower, seed: int = 0) -> None:
    """Compare the captured module with its canonical network and that with its operators.

    Raises:
        InputError: naming the first operator that differs.
    """
    generator = torch.Generator().manual_seed(seed)
    device = next(iter(captured.module.parameters()), torch.zeros(())).device
    x = tuple(torch.randn(EXAMPLES, *shape, generator=generator).to(device) for shape in shapes_of(input_shape))
    tensors = random_tensors(captured, generator)
    try:
        double = {name: _doubled(tensor) for name, tensor in tensors.items()}
        wanted, changed = _returned(captured, double, tuple(part.double() for part in x))
        x, tensors = tuple(part.double() for part in x), double
    except RuntimeError:  # a module that makes tensors of float32 on its way
        wanted, changed = _returned(captured, tensors, x)
    if changed:
        _require_same_again(captured, changed, x, wanted)
    network, builder = rebuilt(captured, tensors)
    network.eval()
    graph = lower(network)
    values = canonical_values(network, x)
    for node, found, right in zip(captured.outputs, each(values["output"]), wanted, strict=True):
        finished = builder.finish[node](found) if node in builder.finish else found
        if not agree(finished.flatten(1), right.flatten(1)):
            _require_same_again(captured, tensors, x, wanted)
            raise InputError(_first_difference(captured, network, tensors, x))
    require_equal(network, graph, x, values)


def _returned(
    captured: Captured, tensors: Mapping[str, torch.Tensor], x: Inputs
) -> tuple[list[torch.Tensor], dict[str, torch.Tensor]]:
    """What the module returns, and all of its tensors after the call if it changed one."""
    given, versions = dict(tensors), {name: tensor._version for name, tensor in tensors.items()}
    with evaluating(captured.module), without_dropout():
        returned = functional_call(captured.module, given, tuple(part.clone() for part in x), tie_weights=False)
    same = all(given[name] is tensor and tensor._version == versions[name] for name, tensor in tensors.items())
    leaves = torch.utils._pytree.tree_leaves(returned)
    return [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)], {} if same else given


def _require_same_again(
    captured: Captured, tensors: Mapping[str, torch.Tensor], x: Inputs, wanted: list[torch.Tensor]
) -> None:
    again, _ = _returned(captured, tensors, x)
    if not all(agree(found.flatten(1), first.flatten(1)) for found, first in zip(again, wanted, strict=True)):
        raise InputError(
            f"{forward_of(captured.module)}: called again on the same input it returns something else: the network has "
            "state that its forward changes (a buffer or an attribute), or draws random numbers; allowed are networks "
            "whose output depends on their inputs alone"
        )


def _doubled(tensor: torch.Tensor) -> torch.Tensor:
    if not tensor.is_floating_point():
        return tensor
    found = tensor.detach().double()
    return nn.Parameter(found, requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else found


def require_equal(
    network: fx.GraphModule, graph: Graph, x: Inputs, values: Mapping[str, torch.Tensor] | None = None
) -> None:
    """Compare a canonical network with its operators in floating point.

    Raises:
        InputError: naming the first operator that differs.
    """
    values = canonical_values(network, x) if values is None else values
    found: dict[int, torch.Tensor] = {}
    with torch.no_grad():
        FoldedNet(graph, network).run(*x, observer=found.__setitem__)
    nodes = {node.name: node for node in network.graph.nodes}
    for op in graph.ops:
        read = max(float(found[tensor].abs().max()) for tensor in op.inputs)
        if op.node and not agree(found[op.output].flatten(1), values[op.node].flatten(1), CANCELLED * read):
            raise InputError(_says(place_of(nodes[op.node]), f"the exported {op.kind} operator"))


def agree(found: torch.Tensor, wanted: torch.Tensor, least: float = 1e-3) -> bool:
    """Whether two tensors are equal up to rounding."""
    if found.shape != wanted.shape:
        return False
    largest = float(wanted.abs().max()) if wanted.numel() else 0.0
    return float((found - wanted).abs().max()) <= TOLERANCE[wanted.dtype] * max(largest, least, 1e-3)


def random_tensors(captured: Captured, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Values for every parameter and running statistic that keep activations at about 1; other buffers are kept.

    Names of a shared tensor get the same value.
    """
    drawn: dict[int, torch.Tensor] = {}
    found: dict[str, torch.Tensor] = {}
    owned: dict[str, torch.Tensor] = {**dict(captured.module.named_parameters(remove_duplicate=False))}
    owned |= dict(captured.module.named_buffers(remove_duplicate=False))
    for name, tensor in owned.items():
        if id(tensor) not in drawn:
            drawn[id(tensor)] = random_like(name, tensor, generator)
        found[name] = drawn[id(tensor)]
    return found | {name: tensor for name, tensor in captured.tensors.items() if name not in found}


def random_like(name: str, tensor: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A value for a parameter or running statistic of this name that keeps a layer's outputs at about 1."""
    noise = torch.randn(tensor.shape, generator=generator).to(tensor.device)
    kind = name.rpartition(".")[2]
    if kind == "running_var":
        return 0.5 + noise.abs()
    if kind == "running_mean":
        return 0.3 * noise
    if not isinstance(tensor, nn.Parameter):
        return tensor.clone()
    if tensor.ndim >= 2:
        fan = max(1, tensor[0].numel())
        value = noise * (2 / fan) ** 0.5
    else:
        value = 1 + 0.3 * noise if kind == "weight" else 0.3 * noise
    return nn.Parameter(value, requires_grad=tensor.requires_grad)


def canonical_values(network: fx.GraphModule, x: Inputs) -> dict[str, Any]:
    """Value of every node of a network; ``output`` has those of all outputs."""
    recorder = _Recorder(network)
    with torch.no_grad():
        recorder.run(*x)
    return recorder.values


class _Recorder(fx.Interpreter):
    """Runs a graph and keeps the value of every node."""

    def __init__(self, network: Any, graph: fx.Graph | None = None) -> None:
        super().__init__(network, garbage_collect_values=False, graph=graph)
        self.values: dict[str, Any] = {}

    def run_node(self, node: fx.Node) -> Any:
        value = super().run_node(node)
        self.values[node.name] = value.clone() if isinstance(value, torch.Tensor) else value
        return value


class _NoDropout(TorchFunctionMode):
    """Dropout that is on whatever the mode is off here: the canonical network has it follow the mode."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if "dropout" not in getattr(func, "__name__", ""):
            return func(*args, **(kwargs or {}))
        x = args[0] if args else (kwargs or {})["input"]
        kept = x.clone()
        dropped = func(*args, **(kwargs or {}))
        return x.copy_(kept) if dropped.data_ptr() == x.data_ptr() else kept  # shares memory where dropout does


@contextmanager
def without_dropout() -> Iterator[None]:
    """No dropout at all, not even ``F.dropout(x)``, which torch leaves on in evaluation mode."""
    with _NoDropout():
        yield


def _first_difference(
    captured: Captured, network: fx.GraphModule, tensors: Mapping[str, torch.Tensor], x: Inputs
) -> str:
    """The first node whose value is not what the module computed there."""
    x = tuple(torch.cat([part, part])[:BATCH] for part in x)  # sizes of the captured batch are part of that graph
    recorder = _Recorder(nn.Module(), captured.graph)
    data = dict(zip(captured.inputs, x, strict=True))
    given = [
        data[node].clone() if node in data else tensors[captured.names[node.name]]
        for node in captured.graph.nodes
        if node.op == "placeholder"
    ]
    try:
        with torch.no_grad(), without_dropout():
            recorder.run(*given)
    except Exception as error:
        return f"network: its captured form fails ({first_line(error)})"
    found = canonical_values(network, x)
    for node in network.graph.nodes:
        wanted = recorder.values.get(str(node.meta.get("aten")))
        if not isinstance(wanted, torch.Tensor) or wanted.shape != found[node.name].shape:
            continue
        if not agree(found[node.name], wanted):
            return _says(place_of(node), "the canonical network")
    return _says(f"network {type(captured.module).__name__}", "its canonical form")


def _says(place: Any, what: str) -> str:
    return f"{place}: {what} computes a different result from the module (a defect in mcusweep; please report it)"
