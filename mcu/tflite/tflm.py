"""TensorFlow Lite Micro's interpreter as the measuring instrument: arena bytes and reference outputs.

The interpreter does not verify its input and may end its process: run files from other tools in ``mcu.tflite.apart``.
The ``tflite-micro`` wheel exists on x86-64 Linux only; check with ``available``; the rest of mcusweep works without it.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from mcu.errors import InputError

_ARENA = 1 << 28
"""Bytes reserved for the interpreter; untouched pages cost nothing, and a too small arena can crash TFLM."""

_stderr_lock = threading.Lock()


@dataclass(frozen=True)
class ArenaUse:
    """Bytes of the arena: ``total`` = ``activations`` (any build) + ``persistent`` (this build)."""

    total: int
    activations: int
    persistent: int


def available() -> bool:
    """Whether the interpreter is installed."""
    return "tflite_micro" in sys.modules or importlib.util.find_spec("tflite_micro") is not None


def measure_arena(data: bytes, source: str = "model") -> ArenaUse:
    """Bytes of the arena after one inference, as the interpreter itself records them.

    Args:
        data: a .tflite file.
        source: its name, for messages.

    Raises:
        InputError: if the interpreter is not installed or refuses the file.
    """
    interpreter = _interpreter(data, source)
    with _captured_stderr() as captured:
        interpreter.print_allocations()
    found = dict(re.findall(r"Arena allocation (total|head|tail) (\d+) bytes", captured.text))
    captured.forward(r"^\[RecordingMicroAllocator\].*$")
    if len(found) != 3:
        raise InputError(f"{source}: tflite-micro printed no arena figures; allowed is a version that records them")
    return ArenaUse(int(found["total"]), int(found["head"]), int(found["tail"]))


def run(data: bytes, inputs: np.ndarray, source: str = "model") -> np.ndarray:
    """Run inputs one by one, in a file with one input and one output.

    Args:
        data: a .tflite file.
        inputs: int8 ``(N, *input shape without batch)``.
        source: its name, for messages.

    Returns:
        int8 ``(N, *output shape without batch)``.

    Raises:
        InputError: if the interpreter is not installed, refuses the file, or the inputs do not fit it.
    """
    return single(invoke(data, (inputs,), source), source)


def single(outputs: Sequence[np.ndarray], source: str) -> np.ndarray:
    """The output of a file that has one. Raises InputError if there are several."""
    if len(outputs) != 1:
        raise InputError(f"{source}: it has {len(outputs)} outputs; allowed here is one")
    return outputs[0]


def invoke(data: bytes, inputs: Sequence[np.ndarray], source: str = "model") -> tuple[np.ndarray, ...]:
    """``run`` for a file with any number of inputs and outputs, in order."""
    interpreter = _interpreter(data, source)
    wanted, outputs = (_count(told) for told in (interpreter.get_input_details, interpreter.get_output_details))
    if len(inputs) != wanted:
        raise InputError(f"{source}: {len(inputs)} inputs given; it has {wanted}")
    for number, given in enumerate(inputs):
        shape = tuple(int(size) for size in interpreter.get_input_details(number)["shape"])
        if given.dtype != np.int8 or given.shape[1:] != shape[1:]:
            raise InputError(
                f"{source}: input {given.dtype} {given.shape[1:]}; allowed is int8 {shape[1:]} for each example"
            )
    found: list[list[np.ndarray]] = [[] for _ in range(outputs)]
    for examples in zip(*inputs, strict=True):
        for number, example in enumerate(examples):
            interpreter.set_input(np.ascontiguousarray(example[None]), number)
        interpreter.invoke()
        for number in range(outputs):
            found[number].append(interpreter.get_output(number).copy())
    return tuple(np.concatenate(parts) for parts in found)


def _count(details: Callable[[int], Any]) -> int:
    """How many inputs or outputs there are: the interpreter tells only of one by its number."""
    number = 0
    with _captured_stderr() as captured, suppress(IndexError):
        while True:
            details(number)
            number += 1
    captured.forward(r"^(Input|Output) index .* out of range.*$")
    return number


def _interpreter(data: bytes, source: str) -> Any:
    """An interpreter that has run once."""
    if not available():
        raise InputError("tflite-micro is not installed: figures can only be predicted; it has wheels for x86-64 Linux")
    runtime = importlib.import_module("tflite_micro").runtime
    with _captured_stderr() as captured:
        try:
            interpreter = runtime.Interpreter.from_bytes(data, arena_size=_ARENA)
            interpreter.invoke()
        except Exception as error:
            failure = str(error)
        else:
            return interpreter
    detail = _one_line(captured.text) or _one_line(failure)
    raise InputError(f"{source}: TensorFlow Lite Micro refuses it: {detail}")


def _one_line(text: str) -> str:
    return "; ".join(line.strip() for line in text.splitlines() if line.strip())[:300]


class _Captured:
    """What was written to file descriptor 2 meanwhile."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.text = ""

    def read(self) -> None:
        self._file.seek(0)
        self.text = self._file.read().decode("utf-8", "replace")

    def forward(self, ours: str) -> None:
        """Write what other threads said meanwhile to the real stderr."""
        rest = re.sub(ours, "", self.text, flags=re.MULTILINE).strip("\n")
        if rest:
            with suppress(OSError):  # a full log must not stop a trial
                os.write(2, rest.encode() + b"\n")


@contextmanager
def _captured_stderr() -> Iterator[_Captured]:
    """Redirect file descriptor 2, where the interpreter's C++ writes; one thread at a time, always restored."""
    with _stderr_lock, tempfile.TemporaryFile() as file:
        if sys.stderr is not None:
            sys.stderr.flush()
        kept = os.dup(2)
        captured = _Captured(file)
        os.dup2(file.fileno(), 2)
        try:
            yield captured
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            captured.read()
