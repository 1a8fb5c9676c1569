"""TensorFlow Lite Micro in a separate process: a file that crashes the interpreter is refused."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mcu.errors import InputError
from mcu.tflite import tflm
from mcu.tflite.tflm import ArenaUse

LONGEST_S = 600
"""No model for a microcontroller takes the host so long."""
_REFUSED = 3
_CHILD = "from mcu.tflite.apart import serve; serve()"


def measure_arena(data: bytes, source: str = "model") -> ArenaUse:
    """Bytes of the arena after one inference, see :func:`mcu.tflite.tflm.measure_arena`.

    Raises:
        InputError: also where the interpreter crashes on the file or does not come to an end.
    """
    total, activations, persistent = _asked(source, data)[0].tolist()
    return ArenaUse(total, activations, persistent)


def run(data: bytes, inputs: np.ndarray, source: str = "model") -> np.ndarray:
    """Outputs of int8 inputs ``(N, ...)``, see :func:`mcu.tflite.tflm.run`.

    Raises:
        InputError: also where the interpreter crashes on the file or does not come to an end.
    """
    return tflm.single(invoke(data, (inputs,), source), source)


def invoke(data: bytes, inputs: Sequence[np.ndarray], source: str = "model") -> tuple[np.ndarray, ...]:
    """``run`` for a file with any number of inputs and outputs, see :func:`mcu.tflite.tflm.invoke`."""
    return _asked(source, data, *inputs)


def _asked(source: str, data: bytes, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
    root = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}
    question = io.BytesIO()
    np.savez(question, np.frombuffer(data, np.uint8), *inputs)
    try:
        child = subprocess.run(
            # -P: no module of the current folder is imported
            [sys.executable, "-P", "-c", _CHILD, source],
            input=question.getvalue(), capture_output=True, env=environment, check=False, timeout=LONGEST_S,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise InputError(f"{source}: TensorFlow Lite Micro does not finish within {LONGEST_S} s") from None
    if child.returncode == 0:
        with np.load(io.BytesIO(child.stdout), allow_pickle=False) as answer:
            return tuple(answer[name] for name in answer.files)
    said = child.stderr.decode("utf-8", "replace").strip()
    if child.returncode == _REFUSED:
        raise InputError(said)
    end = signal.Signals(-child.returncode).name if child.returncode < 0 else f"status {child.returncode}"
    raise InputError(
        f"{source}: TensorFlow Lite Micro crashes on it ({end}): a value is outside the range of its kernels"
    )


def serve() -> None:
    """Entry point of the other process: reads a request from standard input, writes the answer to standard output."""
    with np.load(io.BytesIO(sys.stdin.buffer.read()), allow_pickle=False) as question:
        content, *inputs = (question[name] for name in question.files)
    data, source = content.tobytes(), sys.argv[1]
    answer: tuple[np.ndarray, ...]
    try:
        if inputs:
            answer = tflm.invoke(data, inputs, source)
        else:
            use = tflm.measure_arena(data, source)
            answer = (np.array([use.total, use.activations, use.persistent], np.int64),)
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(_REFUSED)
    np.savez(sys.stdout.buffer, *answer)
