"""Flash of a sparse weight tensor, stored with the positions of its non-zero weights."""

from __future__ import annotations

from math import ceil

import numpy as np

from mcu.int8.model import Int8Model


def pack(weights: np.ndarray) -> bytes:
    """int8 weights as a bitmap of the non-zero places, then the non-zero weights; padded to 4 bytes.

    With a bitmap, the size depends on the number of zeros alone and not on their positions.
    """
    flat = np.ascontiguousarray(weights, dtype=np.int8).ravel()
    data = np.packbits(flat != 0).tobytes() + flat[flat != 0].tobytes()
    return data + bytes(-len(data) % 4)


def unpack(data: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """The weights, from the output of `pack`."""
    size = int(np.prod(shape))
    bitmap = ceil(size / 8)
    places = np.unpackbits(np.frombuffer(data[:bitmap], dtype=np.uint8), count=size).astype(bool)
    flat = np.zeros(size, dtype=np.int8)
    flat[places] = np.frombuffer(data[bitmap : bitmap + int(places.sum())], dtype=np.int8)
    return flat.reshape(shape)


def saved_bytes(size: int, kept: int) -> int:
    """Bytes that packing a tensor of ``size`` weights with ``kept`` non-zero ones saves; 0 if it saves none."""
    packed = 4 * ceil((ceil(size / 8) + kept) / 4)
    return max(0, (size // 4) * 4 - packed)


def saved_by_packing(model: Int8Model) -> int:
    """Bytes that packing the weights of a finished model saves."""
    weights = [op.weights for op in model.ops if op.weights is not None]
    return sum(saved_bytes(tensor.size, int(np.count_nonzero(tensor))) for tensor in weights)
