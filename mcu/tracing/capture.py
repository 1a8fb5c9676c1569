"""Capture of a module as a graph of ATen operators: however it is written, the same few dozen operators result.

``torch.export`` runs the module once on tensors without values. In-place forms, functional and method calls, keyword
arguments and arithmetic on shapes need no rules of their own after that. The module is captured in evaluation mode:
what it does only in training mode (auxiliary outputs, noise, stochastic depth) is not part of the network; dropout is.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import fx, nn
from torch.export.graph_signature import ConstantArgument, InputKind, OutputKind

from mcu.errors import InputError
from mcu.graph.places import raised_at
from mcu.graph.ports import Shapes, shapes_of
from mcu.tracing.interface import Interface, names_of, registered

BATCH = 3
"""Examples in the batch that is captured; no operator of a network may depend on it."""


@dataclass(frozen=True)
class Captured:
    """A module as ATen operators.

    Attributes:
        module: what was captured, without wrappers.
        graph: placeholders, then operators in order of execution.
        names: placeholder -> parameter, buffer or constant it stands for.
        tensors: parameters, buffers and constants by name.
        inputs: placeholders of the data.
        outputs: nodes that are returned; one may stand there twice.
        interface: how the module is called and what it returns.
    """

    module: nn.Module
    graph: fx.Graph
    names: Mapping[str, str]
    tensors: Mapping[str, torch.Tensor]
    inputs: tuple[fx.Node, ...]
    outputs: tuple[fx.Node, ...]
    interface: Interface

    def of(self, module: nn.Module) -> Captured | None:
        """The same operators on the tensors of another module; None if it has another structure."""
        other = unwrapped(module)
        mine, theirs = ([(path, type(child)) for path, child in m.named_modules()] for m in (self.module, other))
        tensors = _tensors(other)
        if mine != theirs or _forms(tensors) != _forms(_tensors(self.module)):
            return None
        return replace(self, module=other, tensors={**self.tensors, **tensors})


def _tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    return {
        **dict(module.named_buffers(remove_duplicate=False)),
        **dict(module.named_parameters(remove_duplicate=False)),
    }


def _forms(tensors: Mapping[str, torch.Tensor]) -> list[tuple[str, torch.Size, torch.dtype]]:
    return [(name, tensor.shape, tensor.dtype) for name, tensor in tensors.items()]


def capture(module: nn.Module, input_shape: Shapes) -> Captured:
    """Capture a module in evaluation mode; the module is not changed.

    Args:
        module: takes tensors of these shapes as its first arguments.
        input_shape: without the batch; of several inputs a shape for each.

    Raises:
        InputError: if the module does not accept the input, has data-dependent control flow, or is wrapped in a way
            that is not supported.
    """
    module = unwrapped(module)
    for name, parameter in module.named_parameters():
        if parameter.is_floating_point() and parameter.dtype is not torch.float32:
            raise InputError(f"network: parameter '{name}' is {parameter.dtype}; allowed is float32: call .float()")
    device = next(iter(module.parameters()), torch.zeros(())).device
    examples = tuple(torch.zeros(BATCH, *shape, device=device) for shape in shapes_of(input_shape))
    with evaluating(module), _quietly():
        program = _exported(module, examples)
    signature = program.graph_signature
    names = {spec.arg.name: cast(str, spec.target) for spec in signature.input_specs if spec.target is not None}
    tensors = {
        **{name: t for name, t in program.constants.items() if isinstance(t, torch.Tensor)},
        **_tensors(module),
    }
    nodes = {node.name: node for node in program.graph.nodes}
    inputs = [nodes[spec.arg.name] for spec in signature.input_specs if spec.kind is InputKind.USER_INPUT]
    leaves = [spec.arg for spec in signature.output_specs if spec.kind is OutputKind.USER_OUTPUT]
    constants = {place: leaf.value for place, leaf in enumerate(leaves) if isinstance(leaf, ConstantArgument)}
    outputs = [nodes[leaf.name] for place, leaf in enumerate(leaves) if place not in constants]
    if not outputs:
        raise InputError(f"{forward_of(module)}: it returns no tensor")
    form = program.call_spec.out_spec
    returned = tuple(name for place, name in enumerate(names_of(form)) if place not in constants)
    shapes = tuple(tuple(node.meta["val"].shape[1:]) for node in outputs)
    names_in = tuple(node.name for node in inputs)
    interface = Interface(names_in, returned, shapes, form, constants, shapes_of(input_shape))
    return Captured(module, program.graph, names, tensors, tuple(inputs), tuple(outputs), interface)


def _exported(module: nn.Module, examples: tuple[torch.Tensor, ...]) -> torch.export.ExportedProgram:
    try:
        return torch.export.export(module, examples, strict=False)
    except Exception as error:
        with suppress(Exception):
            if registered(module(*examples)):
                return _exported(module, examples)
        raise _refusal(module, examples, error) from error


def unwrapped(module: nn.Module) -> nn.Module:
    """The module inside ``torch.compile`` and ``DataParallel``.

    Raises:
        InputError: for a scripted module, a compiled one deeper inside, or what is no module.
    """
    if not isinstance(module, nn.Module):
        raise InputError(f"network = {module!r}: allowed is a torch.nn.Module")
    while True:
        if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            module = module.module
        elif isinstance(module, torch._dynamo.OptimizedModule):
            module = cast(nn.Module, module._orig_mod)
        else:
            break
    for path, child in module.named_modules():
        where = f"network layer '{path}'" if path else f"network {type(module).__name__}"
        if isinstance(child, torch.jit.ScriptModule):
            raise InputError(f"{where} is scripted by torch.jit; give the module itself, before torch.jit")
        if isinstance(child, torch._dynamo.OptimizedModule):
            raise InputError(f"{where} is compiled by torch.compile; give the module itself, before torch.compile")
    return module


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; afterwards every submodule is back in its previous mode."""
    training = {child: child.training for child in module.modules()}
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for child, mode in training.items():
            child.training = mode


@contextmanager
def _quietly() -> Iterator[None]:
    """Without torch's own account of what went wrong: the refusal says it."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def forward_line(module: nn.Module) -> tuple[str, int]:
    """File and line of a network's forward; ``("", 0)`` where they are not known."""
    code = getattr(type(module).forward, "__code__", None)
    return (code.co_filename, code.co_firstlineno) if code else ("", 0)


def forward_of(module: nn.Module) -> str:
    """A network with the file and line of its forward."""
    file, line = forward_line(module)
    return f"network {type(module).__name__}" + (f" ({Path(file).name}:{line})" if file else "")


def _refusal(module: nn.Module, examples: tuple[torch.Tensor, ...], error: Exception) -> InputError:
    """Why a module could not be captured, in a user's words."""
    file, line, text = raised_at(error)
    where = f"network {type(module).__name__}" + (f" ({Path(file).name}:{line})" if file else "")
    if any(isinstance(p, nn.parameter.UninitializedParameter) for p in module.parameters()):
        return InputError(
            f"{where}: a lazy layer without weights; run the network once on an input before it is returned"
        )
    if "missing a required argument" in str(error) or "required positional argument" in str(error):
        return InputError(
            f"{forward_of(module)}: its forward takes more inputs than the {len(examples)} given here: give an example "
            "or a shape for each: Pruner(example_input=(image, scalars)), check --input 3x64x64 --input 4"
        )
    try:
        module(*examples)
    except Exception as failure:
        file, line, _ = raised_at(failure)
        at = f" ({Path(file).name}:{line})" if file else ""
        shape = " and ".join(str(tuple(example.shape[1:])) for example in examples)
        return InputError(f"network: an input of shape {shape} does not pass through it{at}: {first_line(failure)}")
    if "data-dependent" in str(error) or "DataDependent" in type(error).__name__:
        return InputError(
            f"{where}: `{text[:80]}` depends on the values of a tensor; allowed is control flow by shapes and constants"
        )
    return InputError(f"{where}: torch.export cannot trace it ({first_line(error)})")


def first_line(error: BaseException) -> str:
    """The first line of an error's message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def arguments(node: fx.Node) -> dict[str, Any]:
    """The arguments of an ATen operator by the names in its schema, defaults included."""
    schema = cast(Any, node.target)._schema.arguments
    given = dict(zip((argument.name for argument in schema), node.args, strict=False)) | node.kwargs
    return {argument.name: given.get(argument.name, argument.default_value) for argument in schema}
