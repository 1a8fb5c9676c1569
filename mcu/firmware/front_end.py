"""The front end for sound as C: samples to the network's int8 input, with the arithmetic that training used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mcu.cost.firmware_memory import FirmwarePlan
from mcu.errors import InputError
from mcu.firmware.project import render, write_project
from mcu.front_end import FLOOR, Features, FrontEnd
from mcu.int8.model import Int8Model

FLOAT_TOLERANCE = 5e-3
"""Largest difference of a feature from torch's, of a span of about -90 to 20.

Reached only where bands hold nothing but the rounding errors of a loud pure tone; 1e-4 is usual.
"""

CODE_TOLERANCE = 1
"""Largest difference of an int8 code: a feature next to a rounding edge may fall on its other side."""

VALUES_PER_LINE = 8


@dataclass(frozen=True)
class InputCode:
    """How a feature becomes an int8 code: ``(feature - mean) / std / scale + zero_point``, rounded."""

    mean: float
    std: float
    scale: float
    zero_point: int


def write_front_end(front_end: FrontEnd, code: InputCode, folder: Path, hop: int | None = None) -> None:
    """Write ``frontend.c`` and ``frontend.h`` into the folder of a firmware project.

    Args:
        hop: frames of a step, for sound that is a stream.

    Raises:
        InputError: if the deviation or the scale is not positive.
    """
    if not (code.std > 0 and code.scale > 0):
        raise InputError(f"front end: std = {code.std}, scale = {code.scale}: must be above 0")
    render("sound", _values(front_end, code) | _stream_values(front_end, hop), folder)


def write_sound_project(
    model: Int8Model,
    front_end: FrontEnd,
    normalise: tuple[float, float],
    folder: Path,
    *,
    samples: np.ndarray | None = None,
    expected: np.ndarray | None = None,
    name: str = "model",
    plan: FirmwarePlan | None = None,
    hop: int | None = None,
) -> None:
    """``write_project`` with the front end before the network: a program from samples of sound to a label.

    Args:
        normalise: mean and deviation that training took from the features.
        hop: frames between two labels of a stream; None for clips. Centred features change all in every step: then the
            network, and its samples, are as for clips.

    Raises:
        InputError: if the network does not take what the front end gives; and as ``write_project``.
    """
    source = model.tensors[model.input]
    if source.bytes != front_end.frames * front_end.values:
        raise InputError(
            f"front end: gives {front_end.frames} x {front_end.values} features, the network takes {source.shape[1:]}"
        )
    if hop is not None and not 1 <= hop < front_end.frames == source.shape[1]:
        raise InputError(
            f"stream: hop = {hop}: must be 1 to {front_end.frames - 1} frames, of which the network's input has "
            f"{source.shape[1]} as rows"
        )
    sound, rows = ("main.c", None) if hop is None else ("stream.c", None if front_end.centred else hop)
    write_project(model, folder, samples=samples, expected=expected, name=name, sound=sound, plan=plan, hop=rows)
    write_front_end(front_end, InputCode(*normalise, source.scale, source.zero_point), folder, hop)


def _values(front_end: FrontEnd, code: InputCode) -> dict[str, Any]:
    """Everything the templates name."""
    position = front_end.band_position()
    used = np.flatnonzero((position > 0) & (position < front_end.mels + 1))
    used = used[used > 0]  # the constant part is in no band
    first, lines = int(used[0]), len(used)
    quarter = np.sin(2 * np.pi * np.arange(front_end.fft // 4 + 1) / front_end.fft)
    mfcc = front_end.kind is Features.MFCC
    kept = front_end.frames * front_end.values if front_end.centred else 0
    tables = {
        "sine": quarter,
        "hann": front_end.hann()[: front_end.window // 2 + 1],
        "line_share": position[used] % 1,
    }
    dct = front_end.dct() if mfcc else np.zeros((0, 0))
    rows = [f"    {{{', '.join(_literal(value) for value in row)}}}," for row in dct]
    return {
        **{name: getattr(front_end, name) for name in ("sample_rate", "samples", "window", "stride", "fft", "mels")},
        **{name: _listed([_literal(value) for value in table]) for name, table in tables.items()},
        "line_band": _listed([str(int(value)) for value in np.floor(position[used])]),
        "kind": f"{'centred ' if front_end.centred else ''}{'MFCC' if mfcc else 'log-mel'}",
        "centred": front_end.centred,
        "frames": front_end.frames,
        "values": front_end.values,
        "first_line": first,
        "lines": lines,
        "dct": "\n".join(rows),
        "floor": repr(FLOOR),
        "gain": repr(float(np.float32(1 / (code.std * code.scale)))),
        "offset": repr(float(np.float32(code.zero_point - code.mean / (code.std * code.scale)))),
        "table_bytes": 4 * (sum(map(len, tables.values())) + dct.size) + lines,
        "window_bytes": 2 * front_end.window,
        "ram_bytes": 4 * (front_end.fft + front_end.mels + 2 + kept),
    }


def _stream_values(front_end: FrontEnd, hop: int | None) -> dict[str, int | None]:
    if hop is None:
        return {"hop": None}
    heard = (front_end.frames - 1) * front_end.stride + front_end.window
    return {"hop": hop, "warm_up": -(-heard // (hop * front_end.stride)) - 1}


def _literal(value: float) -> str:
    """A single-precision constant of C."""
    return f"{float(np.float32(value))!r}F"


def _listed(texts: Sequence[str]) -> str:
    lines = (texts[at : at + VALUES_PER_LINE] for at in range(0, len(texts), VALUES_PER_LINE))
    return "\n".join(f"    {', '.join(line)}," for line in lines)
