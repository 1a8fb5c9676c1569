"""TensorFlow Lite Micro in a separate process: a file that crashes the interpreter is refused."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
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
    total, activations, persistent = _asked(source, data).tolist()
    return ArenaUse(total, activations, persistent)


def run(data: bytes, inputs: np.ndarray, source: str = "model") -> np.ndarray:
    """Outputs of int8 inputs ``(N, ...)``, see :func:`mcu.tflite.tflm.run`.

    Raises:
        InputError: also where the interpreter crashes on the file or does not come to an end.
    """
    return _asked(source, data, inputs)


def _asked(source: str, data: bytes, *inputs: np.ndarray) -> np.ndarray:
    root = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}
    question = io.BytesIO()
    np.savez(question, np.frombuffer(data, np.uint8), *inputs)
    try:
        child = subprocess.run(
            [sys.executable, "-P", "-c", _CHILD, source],  # -P: no module of the current folder is imported
            input=question.getvalue(), capture_output=True, env=environment, check=False, timeout=LONGEST_S,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise InputError(f"{source}: TensorFlow Lite Micro does not finish within {LONGEST_S} s") from None
    if child.returncode == 0:
        return np.load(io.BytesIO(child.stdout), allow_pickle=False)
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
    try:
        if inputs:
            answer = tflm.run(data, inputs[0], source)
        else:
            use = tflm.measure_arena(data, source)
            answer = np.array([use.total, use.activations, use.persistent], np.int64)
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(_REFUSED)
    np.save(sys.stdout.buffer, answer, allow_pickle=False)
