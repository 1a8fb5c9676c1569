"""``check``: cost of a network, or why it is refused, before a sweep."""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mcu.errors import InputError
from orchestrator.cli.options import FormatName

if TYPE_CHECKING:
    from mcu.graph.graph import Graph
    from mcu.graph.ports import Port, Shapes

NetworkName = Annotated[
    str, typer.Argument(metavar="NETWORK", help="A network's name, or module:factory in this folder or a package.")
]
InputShape = Annotated[
    list[str],
    typer.Option(
        "--input", metavar="[NAME=]CxHxW", help="Shape of an input, such as 3x64x64; once for each argument of forward."
    ),
]
Classes = Annotated[int, typer.Option("--classes", metavar="COUNT", help="Number of logits it must return.", min=1)]
Width = Annotated[float, typer.Option("--width", metavar="FACTOR", help="Width multiplier, if the network has one.")]


def check(
    network: NetworkName,
    input_shape: InputShape,
    classes: Classes = 10,
    width: Width = 1.0,
    format_name: FormatName = "table",
) -> None:
    """Trace a network and prove it: what it costs dense and at its smallest, or the line that is refused and why."""
    if format_name not in ("table", "json"):
        raise InputError(f"--format {format_name!r}: must be table or json")
    answer = facts(network, input_shape, classes, width)
    if format_name == "json":
        typer.echo(json.dumps(answer, indent=2))
        return
    for name, value in answer.items():
        rows = value if isinstance(value, list) else [value]
        for row in rows:
            typer.echo(f"{name:<12} {_text(row)}")


def shape_of(text: str) -> tuple[int, ...]:
    """``3x64x64`` as a shape.

    Raises:
        InputError: for anything else.
    """
    parts = text.lower().replace("*", "x").split("x")
    if not 1 <= len(parts) <= 3 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise InputError(f"--input {text!r}: must be like 3x64x64 (channels, height, width), 6x128 or 640")
    return tuple(int(part) for part in parts)


def shapes_by(texts: Sequence[str], forward: Any = None) -> Shapes:
    """The shape of ``--input``, or those of several: as given, or in the order of the arguments of ``forward``.

    Raises:
        InputError: if a name is none of its arguments, or one before it has no shape.
    """
    named = [text.rpartition("=")[::2] for text in texts]
    shapes = [shape_of(text) for _, text in named]
    if forward is not None and any(name for name, _ in named):
        arguments = list(inspect.signature(forward).parameters)[: len(named)]
        given = dict(zip((name for name, _ in named), shapes, strict=True))
        if sorted(given) != sorted(arguments):
            told, wanted = ", ".join(name or "one without a name" for name, _ in named), ", ".join(arguments)
            raise InputError(f"--input: {told}; the first arguments of the network's forward are {wanted}")
        shapes = [given[name] for name in arguments]
    return shapes[0] if len(shapes) == 1 else tuple(shapes)


def facts(name: str, inputs: Sequence[str], classes: int, width: float = 1.0) -> dict[str, Any]:
    """Operators, notes and resources of a network; of a network with several inputs or outputs also these.

    Raises:
        InputError: naming the path and line of what is refused.
    """
    from pruning.engine.depth import shallowest
    from pruning.engine.landing import smallest
    from pruning.engine.network import Constraints
    from pruning.training.rehearsal import rehearse
    from search_spaces.choices import NetworkChoice
    from search_spaces.networks import build_network

    choice = NetworkChoice(name=name, width=width, base=str(Path.cwd()))
    module = build_network(choice, shapes_by(inputs), classes, seed=0, several=True)
    shape = shapes_by(inputs, module.forward)
    constraints = Constraints(shape)
    traced = constraints.trace(module)
    ports = {"inputs": traced.graph.inputs, "outputs": traced.graph.outputs}
    rehearse(traced, shape)
    model = constraints.model(traced.module)
    least = type(model)(shallowest(traced.module, constraints), constraints.runtime)
    return {
        "network": name,
        "operators": len(traced.graph.ops),
        "groups": len(traced.graph.groups),
        **{what: [_shown(traced.graph, one) for one in ports[what]] for what in ports if len(ports[what]) > 1},
        "dense": asdict(model.exact(model.dense_widths)),
        "smallest": asdict(smallest(least)),
        "notes": list(traced.notes),
    }


def _shown(graph: Graph, port: Port) -> str:
    tensor = graph.tensors[port.tensor]
    return f"{port.name} {tensor.channels}x{tensor.height}x{tensor.width}"


def _text(value: Any) -> str:
    from mcu.units import format_bytes, format_count

    if not isinstance(value, dict):
        return str(value)
    sizes = f"flash {format_bytes(value['flash'])}, SRAM {format_bytes(value['sram'])}"
    return f"{sizes}, {format_count(value['macs'])} MACs"


COMMANDS = (check,)
