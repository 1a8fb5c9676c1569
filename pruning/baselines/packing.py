"""What a sparse weight tensor would take in flash, with the places of its non-zero weights stored too."""

from __future__ import annotations

from math import ceil

import numpy as np

from mcu.int8.model import Int8Model


def pack(weights: np.ndarray) -> bytes:
    """int8 weights as a bitmap of the non-zero places, then the non-zero weights; padded to 4 bytes.

    A bit for each place is what makes the size a function of the number of zeros alone, wherever they are.
    """
    flat = np.ascontiguousarray(weights, dtype=np.int8).ravel()
    data = np.packbits(flat != 0).tobytes() + flat[flat != 0].tobytes()
    return data + bytes(-len(data) % 4)


def unpack(data: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """The weights that were packed."""
    size = int(np.prod(shape))
    bitmap = ceil(size / 8)
    places = np.unpackbits(np.frombuffer(data[:bitmap], dtype=np.uint8), count=size).astype(bool)
    flat = np.zeros(size, dtype=np.int8)
    flat[places] = np.frombuffer(data[bitmap : bitmap + int(places.sum())], dtype=np.int8)
    return flat.reshape(shape)


def saved_bytes(size: int, kept: int) -> int:
    """Bytes that packing a tensor of ``size`` weights with ``kept`` non-zero ones saves; 0 where it does not pay."""
    packed = 4 * ceil((ceil(size / 8) + kept) / 4)
    return max(0, (size // 4) * 4 - packed)


def saved_by_packing(model: Int8Model) -> int:
    """Bytes that packing the weights of a finished model saves."""
    weights = [op.weights for op in model.ops if op.weights is not None]
    return sum(saved_bytes(tensor.size, int(np.count_nonzero(tensor))) for tensor in weights)
