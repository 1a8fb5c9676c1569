"""Inputs and outputs of a network, of which there may be several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

from mcu.errors import InputError

Shape = tuple[int, ...]
Shapes = Shape | tuple[Shape, ...]
"""Shape of one example: of the only input, or a shape for each input."""

T = TypeVar("T")


@dataclass(frozen=True)
class Port:
    """An input or output: number of its tensor, and its name, empty where it has none."""

    tensor: int
    name: str = ""


def shapes_of(shapes: Shapes) -> tuple[Shape, ...]:
    """A shape for each input."""
    if all(isinstance(extent, int) for extent in shapes):
        return (cast(Shape, tuple(shapes)),)
    return tuple(tuple(cast(Shape, shape)) for shape in shapes)


def each(values: T | Sequence[T]) -> tuple[T, ...]:
    """A value for each port, where the only one may stand by itself."""
    return tuple(values) if isinstance(values, list | tuple) else (cast(T, values),)


def only(ports: Sequence[Port], what: str) -> Port:
    """The port of a model that has one.

    Args:
        what: "inputs" or "outputs".

    Raises:
        InputError: if it has several.
    """
    if len(ports) != 1:
        names = ", ".join(port.name or str(number) for number, port in enumerate(ports))
        raise InputError(f"the model has {len(ports)} {what} ({names}); allowed here is one")
    return ports[0]
