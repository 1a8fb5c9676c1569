"""The operators of an exported model while rules add them: their tensors, and which channels belong together."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from torch import fx

from mcu.graph.channels import Atoms, assign_groups
from mcu.graph.graph import Graph, Op
from mcu.graph.kinds import Activation, Kind
from mcu.graph.places import is_within, place_of
from mcu.graph.ports import Port
from mcu.graph.windows import NO_PADDING, Pair
from mcu.int8.lookup import FIXED_RANGES

_ORDERED = (
    Kind.MAX_POOL, Kind.AVG_POOL, Kind.PAD, Kind.PADV2, Kind.CONCAT, Kind.RESIZE, Kind.BILINEAR, Kind.SLICE,
    Kind.GATHER,
)  # fmt: skip
"""Operators whose outputs are not below zero where their inputs are not."""


@dataclass(frozen=True)
class Value:
    """What an fx node stands for: a tensor, with zeros, or less than any value, still to be added around it."""

    tensor: int
    padding: tuple[Pair, Pair] = NO_PADDING
    constant: float = 0.0


class Operators:
    """Operators and tensors in the order in which they are added.

    Attributes:
        frozen: paths of layers whose output channels all stay.
        values: what each fx node stands for.
        shapes: name, height and width of every tensor.
        tensor_atoms: the atoms of every tensor, one for each channel.
        joined: where tensors have been laid side by side, the tensor that is all of them.
    """

    def __init__(self, frozen: Collection[str]) -> None:
        self.frozen = frozen
        self.values: dict[fx.Node, Value] = {}
        self.ops: list[Op] = []
        self.atoms = Atoms()
        self.shapes: list[tuple[str, int, int]] = []
        self.tensor_atoms: list[Any] = []
        self.joined: dict[tuple[int, ...], int] = {}
        self._writers: set[int] = set()
        self._uses: dict[str, tuple[Any, ...]] = {}

    def graph(self, inputs: tuple[Port, ...], outputs: tuple[Port, ...]) -> Graph:
        """All of them, the channels in groups."""
        tensors, groups = assign_groups(self.ops, self.tensor_atoms, self.shapes, self.atoms, self._writers)
        return Graph(tensors, tuple(self.ops), groups, inputs, outputs)

    # --- what is added -------------------------------------------------------------------------------------

    def tensor(self, name: str, height: int, width: int, atoms: Any) -> int:
        """A new tensor."""
        self.shapes.append((name, height, width))
        self.tensor_atoms.append(atoms)
        return len(self.shapes) - 1

    def emit(self, node: fx.Node, op: Op, atoms: Any, *, writer: bool = False) -> None:
        """Add the operator that computes a node; a ``writer`` has weights for each of its output channels."""
        tensor = self.tensor(op.name, *size_of(node)[1:], atoms)
        self.insert(replace(op, output=tensor, anchor=node.name, node=node.name), writer=writer)
        self.values[node] = Value(tensor)

    def insert(self, op: Op, *, writer: bool = False) -> int:
        """Add an operator on the way to a node; returns its output."""
        if writer:
            self._writers.add(len(self.ops))
        self.ops.append(op)
        return op.output

    def apply(self, node: fx.Node, kind: Kind, tensor: int, **fields: Any) -> None:
        """Add an operator without weights that keeps the channels of a tensor."""
        self.emit(node, Op(kind, path_of(node), (tensor,), -1, **fields), self.tensor_atoms[tensor])

    def read(self, node: Any, argument: Any = None) -> int:
        """The tensor of an argument of a node, by default its first one; padding becomes an operator."""
        return self.settled(node, self.values[node.args[0] if argument is None else argument])

    def settled(self, node: fx.Node, value: Value) -> int:
        """The tensor itself; padding that no convolution absorbs becomes a PAD operator."""
        return self.pad(node, value).tensor if value.padding != NO_PADDING else value.tensor

    def pad(self, node: fx.Node, value: Value) -> Value:
        """Add the operator that pads a value."""
        (top, bottom), (left, right) = value.padding
        height, width = self.spatial(value.tensor)
        name = f"{path_of(node)}.pad"
        tensor = self.tensor(name, height + top + bottom, width + left + right, self.tensor_atoms[value.tensor])
        kind = Kind.PADV2 if value.constant else Kind.PAD
        self.insert(Op(kind, name, (value.tensor,), tensor, padding=value.padding, value=value.constant))
        return Value(tensor)

    def rescaled(self, node: fx.Node, source: int) -> int:
        """A tensor in codes of its own choice: LEAKY_RELU of slope 1."""
        name = f"{path_of(node)}.rescaled"
        tensor = self.tensor(name, *self.spatial(source), self.tensor_atoms[source])
        return self.insert(Op(Kind.LEAKY_RELU, name, (source,), tensor, alpha=1.0))

    def layer_behind(self, position: int) -> int:
        """The operator itself, or the transposed convolution whose border it cuts off."""
        pair = position > 0 and self.ops[position - 1].anchor == self.ops[position].anchor
        return position - 1 if pair and self.ops[position].kind is Kind.SLICE else position

    def extend(self, position: int, node: fx.Node, **fields: Any) -> None:
        """Let an operator, and what cuts off its border, compute one more node."""
        first = self.layer_behind(position)
        for at in range(first, position + 1):
            own = fields if at == first else {"anchor": fields["anchor"]} if "anchor" in fields else {}
            self.ops[at] = replace(self.ops[at], **own, node=node.name if at == position else self.ops[at].node)

    # --- channels ------------------------------------------------------------------------------------------

    def outputs(self, path: str, channels: int) -> Any:
        """Atoms of the outputs of a layer."""
        return self.atoms.new(channels, fixed=self.is_frozen(path))

    def is_frozen(self, path: str) -> bool:
        """Whether all output channels of a layer stay."""
        return is_within(path, self.frozen)

    def tie_uses(self, path: str, *atoms: Any) -> None:
        """A layer has the same channels wherever it is used."""
        for first, present in zip(self._uses.setdefault(path, atoms), atoms, strict=True):
            self.atoms.tie(first, present)

    def tie_parts(self, atoms: Any, count: int) -> None:
        """Channels at one place in equal parts stay or go together, so that the parts keep one size."""
        size = len(atoms) // count
        for start in range(size, len(atoms), size):
            self.atoms.tie(atoms[:size], atoms[start : start + size])

    def fix(self, tensor: int) -> None:
        """All channels of a tensor stay."""
        self.atoms.fix(self.tensor_atoms[tensor])

    # --- what a tensor holds -------------------------------------------------------------------------------

    def spatial(self, tensor: int) -> Pair:
        """Height and width."""
        return self.shapes[tensor][1:]

    def producer(self, tensor: int) -> int | None:
        """The operator that writes a tensor; None for an input."""
        return next((i for i, op in enumerate(self.ops) if op.output == tensor), None)

    def sources(self, tensor: int) -> list[Op | None]:
        """The operators whose codes a tensor holds, copied or pooled; None for the input."""
        position = self.producer(tensor)
        op = None if position is None else self.ops[position]
        if op is None or op.kind not in _ORDERED:
            return [op]
        return [source for read in op.inputs for source in self.sources(read)]

    def ends(self, tensor: int) -> set[Any]:
        """Whatever says where the codes of a tensor end; None among them where the values do."""
        sources = self.sources(tensor)
        return {(op.kind if op.kind in FIXED_RANGES else op.bounds) if op else None for op in sources}

    def is_rectified(self, tensor: int) -> bool:
        """Whether no value is below zero."""
        position = self.producer(tensor)
        if position is None:
            return False
        op = self.ops[position]
        if op.activation is not Activation.NONE:
            return True
        below = op.kind is Kind.PADV2 and -math.inf < op.value < 0
        return op.kind in _ORDERED and not below and all(self.is_rectified(source) for source in op.inputs)


def size_of(node: fx.Node) -> tuple[int, int, int]:
    """Channels, height and width of what a node yields."""
    channels, *rest = node.meta["shape"][1:]
    height, width = (*rest, 1, 1)[:2]
    return channels, height, width


def path_of(node: fx.Node) -> str:
    """Path of a node in the user's network."""
    return place_of(node).path
