"""Layouts: how the dimensions of a tensor map to the axes of an image after views, reshapes and permutations.

A network may look at one and the same feature map as ``(N, C, H, W)``, flattened, channels last, or with its channels
in groups. None of these moves a value within the image, so they are tracked as a layout and not computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum


class Axis(IntEnum):
    """An axis of an image."""

    BATCH = 0
    CHANNELS = 1
    HEIGHT = 2
    WIDTH = 3


@dataclass(frozen=True)
class Piece:
    """``size`` positions along an axis, ``stride`` positions apart: all of it, or a factor of it."""

    axis: Axis
    size: int
    stride: int = 1


Layout = tuple[tuple[Piece, ...], ...]
"""For each dimension the pieces it runs through, the slowest first; a dimension of size 1 has none."""


def plain(sizes: Sequence[int], rank: int) -> Layout:
    """The layout of an image whose first ``rank`` axes are dimensions.

    Args:
        sizes: batch, channels, height, width.
        rank: dimensions; the axes behind them have size 1.
    """
    return tuple(_pieces(Axis(axis), sizes[axis]) for axis in range(rank))


def flattened(sizes: Sequence[int]) -> Layout:
    """``(N, C * H * W)``."""
    return (_pieces(Axis.BATCH, sizes[0]), sum((_pieces(Axis(axis), sizes[axis]) for axis in (1, 2, 3)), ()))


def _pieces(axis: Axis, size: int) -> tuple[Piece, ...]:
    return (Piece(axis, size),) if size != 1 else ()


def reshaped(layout: Layout, shape: Sequence[int]) -> Layout | None:
    """The layout seen as another shape of as many elements; None if a dimension would split a piece."""
    waiting = [piece for dimension in layout for piece in dimension][::-1]
    found = []
    for size in shape:
        dimension: list[Piece] = []
        while size > 1:
            if not waiting:
                return None
            piece = waiting.pop()
            if size % piece.size == 0:
                taken = piece
            elif piece.size % size == 0:
                rest = piece.size // size
                taken = Piece(piece.axis, size, piece.stride * rest)
                waiting.append(Piece(piece.axis, rest, piece.stride))
            else:
                return None
            size //= taken.size
            dimension.append(taken)
        found.append(tuple(_merged(dimension)))
    return tuple(found)


def _merged(pieces: Sequence[Piece]) -> list[Piece]:
    """Neighbouring factors of one axis as one piece."""
    merged: list[Piece] = []
    for piece in pieces:
        last = merged[-1] if merged else None
        if last and last.axis == piece.axis and last.stride == piece.stride * piece.size:
            merged[-1] = Piece(piece.axis, last.size * piece.size, piece.stride)
        else:
            merged.append(piece)
    return merged


def permuted(layout: Layout, order: Sequence[int]) -> Layout:
    """The dimensions in another order."""
    return tuple(layout[position] for position in order)


def channel_order(layout: Layout, sizes: Sequence[int]) -> list[int] | None:
    """For each channel of ``(N, C, H, W)``, with axes of size 1 left out or not, which channel of the image it is.

    Args:
        layout: of the tensor.
        sizes: batch, channels, height, width of the image.

    Returns:
        None where the dimensions are not batch, channels, height and width in this order.
    """
    whole = plain(sizes, 4)
    spatial = [dimension for dimension in layout[2:] if dimension]
    wanted = [dimension for dimension in whole[2:] if dimension]
    if len(layout) < 2 or len(layout) > 4 or layout[0] != whole[0] or spatial != wanted:
        return None
    if len(layout) == 4 and layout != (*layout[:2], *whole[2:]):
        return None
    order = [0]
    for piece in layout[1]:
        if piece.axis != Axis.CHANNELS:
            return None
        order = [start + step * piece.stride for start in order for step in range(piece.size)]
    return order if len(order) == sizes[1] else None


def selected_channels(layout: Layout, dim: int, positions: Sequence[int]) -> tuple[list[int], Layout] | None:
    """Which channels are left where a dimension that runs through channels is left these positions.

    Returns:
        the channels in the order that the dimensions run through them, and the layout on these alone; None where the
        channels share a dimension with another axis.
    """
    counts: list[list[int] | None] = []
    for number, dimension in enumerate(layout):
        if not any(piece.axis == Axis.CHANNELS for piece in dimension):
            counts.append(None)
            continue
        if any(piece.axis != Axis.CHANNELS for piece in dimension):
            return None
        found = [0]
        for piece in dimension:
            found = [start + step * piece.stride for start in found for step in range(piece.size)]
        counts.append([found[position] for position in positions] if number == dim else found)
    channels, stride, fresh = [0], 1, list(layout)
    for number, offsets in reversed(list(enumerate(counts))):
        if offsets is not None:
            channels = [offset + rest for offset in offsets for rest in channels]
            fresh[number] = (Piece(Axis.CHANNELS, len(offsets), stride),) if len(offsets) > 1 else ()
            stride *= len(offsets)
    return channels, tuple(fresh)
