"""A FlatBuffers container, written and read without generated code.

Writing: the caller lists tables and vectors in file order, parents before children; equal table layouts share
one vtable and any node may be referenced more than once, which the format allows and which keeps files small.
Reading: every offset is checked before it is followed, so damaged bytes raise ``FlatbufferError`` and nothing else.
Format: https://flatbuffers.dev/internals/
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

HEADER_BYTES = 8


class FlatbufferError(ValueError):
    """The bytes are not a well-formed FlatBuffers file."""


@dataclass(frozen=True, eq=False)
class Vector:
    """A vector of ``count`` scalars given as little-endian ``data``.

    ``alignment`` is that of the first element: 8 for 64-bit integers, 4 otherwise.
    """

    data: bytes
    count: int
    alignment: int = 4


@dataclass(frozen=True, eq=False)
class References:
    """A vector of offsets to tables."""

    targets: tuple[Table, ...]


@dataclass(frozen=True, eq=False)
class Table:
    """A table: ``words`` are 32-bit fields (integers or references), ``octets`` 8-bit ones, by slot number."""

    words: tuple[tuple[int, int | Node], ...] = ()
    octets: tuple[tuple[int, int], ...] = ()


Node = Vector | References | Table


def padded(size: int, alignment: int = 4) -> int:
    """``size`` rounded up to a multiple of ``alignment``."""
    return -(-size // alignment) * alignment


def table_bytes(words: int, octets: int = 0) -> int:
    """Bytes a table with so many 32-bit and 8-bit fields takes in the file, its vtable excluded."""
    return padded(4 + 4 * words + octets)


@lru_cache(maxsize=256)
def padded_vtable(words: tuple[int, ...], octets: tuple[int, ...]) -> bytes:
    """The vtable of tables with 32-bit fields in slots ``words`` and 8-bit ones in slots ``octets``, in that order.

    It holds its own size, the table's inline size, and each slot's offset (0: absent), padded to 4 bytes.
    """
    offsets = {slot: 4 + 4 * index for index, slot in enumerate(words)}
    start = 4 + 4 * len(words)
    offsets |= {slot: start + index for index, slot in enumerate(octets)}
    slots = max(offsets, default=-1) + 1
    fields = [4 + 2 * slots, start + len(octets), *(offsets.get(slot, 0) for slot in range(slots))]
    packed = struct.pack(f"<{len(fields)}H", *fields)
    return packed.ljust(padded(len(packed)), b"\0")


def form_of_table(table: Table) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Slots of a table's 32-bit and 8-bit fields: the arguments of ``padded_vtable``."""
    return tuple(int(slot) for slot, _ in table.words), tuple(int(slot) for slot, _ in table.octets)


def _node_bytes(node: Node) -> int:
    if isinstance(node, Table):
        return table_bytes(len(node.words), len(node.octets))
    if isinstance(node, References):
        return 4 + 4 * len(node.targets)
    return padded(4 + len(node.data))


def serialise(root: Table, nodes: Sequence[Node], identifier: bytes) -> bytes:
    """Lay the nodes out in the given order after the header and the shared vtables.

    Args:
        root: the root table, one of ``nodes``.
        nodes: every node once, each before all it refers to.
        identifier: the four bytes of the file identifier.
    """
    layouts = [padded_vtable(*form_of_table(node)) if isinstance(node, Table) else b"" for node in nodes]
    vtables: dict[bytes, int] = {}
    end = HEADER_BYTES
    for layout in layouts:
        if layout and layout not in vtables:
            vtables[layout] = end
            end += len(layout)
    places: dict[int, int] = {}
    for node in nodes:
        if isinstance(node, Vector) and node.alignment == 8:
            end += (4 - end) % 8  # the length sits just before the first element
        places[id(node)] = end
        end += _node_bytes(node)
    out = bytearray(end)
    struct.pack_into("<I4s", out, 0, places[id(root)], identifier)
    for layout, place in vtables.items():
        out[place : place + len(layout)] = layout
    for node, layout in zip(nodes, layouts, strict=True):
        _put(out, node, places, vtables.get(layout, 0))
    return bytes(out)


def _put(out: bytearray, node: Node, places: dict[int, int], vtable: int) -> None:
    place = places[id(node)]
    if isinstance(node, Vector):
        struct.pack_into("<I", out, place, node.count)
        out[place + 4 : place + 4 + len(node.data)] = node.data
        return
    if isinstance(node, References):
        struct.pack_into("<I", out, place, len(node.targets))
        entries: Iterable[int | Node] = node.targets
    else:
        struct.pack_into("<i", out, place, place - vtable)
        entries = (value for _, value in node.words)
        start = place + 4 + 4 * len(node.words)
        for index, (_, octet) in enumerate(node.octets):
            out[start + index] = octet & 0xFF
    for index, value in enumerate(entries):
        at = place + 4 + 4 * index
        word = value if isinstance(value, int) else places[id(value)] - at
        struct.pack_into("<I", out, at, word & 0xFFFFFFFF)


@dataclass(frozen=True)
class TableView:
    """A table inside ``data`` at byte ``place``; accessors return None for absent fields."""

    data: bytes
    place: int

    @staticmethod
    def root(data: bytes, identifier: bytes) -> TableView:
        """The root table of a file that carries ``identifier``."""
        if len(data) < HEADER_BYTES or data[4:8] != identifier:
            raise FlatbufferError(f"no {identifier.decode()} identifier in its first 8 bytes")
        return TableView(data, _scalar(data, 0, "<I"))

    def _field(self, slot: int) -> int | None:
        vtable = self.place - _scalar(self.data, self.place, "<i")
        size = _scalar(self.data, vtable, "<H")
        if 4 + 2 * slot + 2 > size:
            return None
        offset = _scalar(self.data, vtable + 4 + 2 * slot, "<H")
        return self.place + offset if offset else None

    def scalar(self, slot: int, form: str, default: int | float = 0) -> int | float:
        """A scalar field in ``struct`` notation such as ``"<i"``."""
        at = self._field(slot)
        return default if at is None else _scalar(self.data, at, form)

    def integer(self, slot: int, form: str = "<i", default: int = 0) -> int:
        """An integer field."""
        return int(self.scalar(slot, form, default))

    def table(self, slot: int) -> TableView | None:
        """A sub-table."""
        at = self._field(slot)
        return None if at is None else TableView(self.data, at + _scalar(self.data, at, "<I"))

    def numbers(self, slot: int, dtype: str) -> np.ndarray | None:
        """A vector of scalars as a read-only array."""
        span = self._vector(slot, np.dtype(dtype).itemsize)
        return None if span is None else np.frombuffer(self.data, dtype, span[1], span[0])

    def integers(self, slot: int) -> list[int]:
        """A vector of 32-bit integers, empty when absent."""
        numbers = self.numbers(slot, "<i4")
        return [] if numbers is None else numbers.tolist()

    def text(self, slot: int) -> str:
        """A string field, empty when absent; bytes that are not UTF-8 are replaced."""
        raw = self.numbers(slot, "u1")
        return "" if raw is None else raw.tobytes().decode("utf-8", "replace")

    def tables(self, slot: int) -> list[TableView]:
        """A vector of tables, empty when absent."""
        span = self._vector(slot, 4)
        if span is None:
            return []
        places = range(span[0], span[0] + 4 * span[1], 4)
        return [TableView(self.data, at + _scalar(self.data, at, "<I")) for at in places]

    def _vector(self, slot: int, item: int) -> tuple[int, int] | None:
        at = self._field(slot)
        if at is None:
            return None
        start = at + _scalar(self.data, at, "<I")
        count = _scalar(self.data, start, "<I")
        if start + 4 + count * item > len(self.data):
            raise FlatbufferError(f"a vector of {count} elements at byte {start} runs past the end of the file")
        return start + 4, count


def _scalar(data: bytes, at: int, form: str) -> int:
    if at < 0 or at + struct.calcsize(form) > len(data):
        raise FlatbufferError(f"an offset points to byte {at}, outside the file's {len(data)} bytes")
    return struct.unpack_from(form, data, at)[0]
