"""The front end for sound as C: samples to the network's int8 input, with the arithmetic that training used."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from mcu.errors import InputError
from mcu.firmware.cores import Core
from mcu.firmware.flags import COMPILE_FLAGS, LINK_FLAGS
from mcu.firmware.project import KERNEL_SOURCES
from mcu.firmware.toolchain import Toolchain, toolchain
from mcu.front_end import FLOOR, Features, FrontEnd

FLOAT_TOLERANCE = 5e-3
"""Largest difference of a feature from torch's, of a span of about -90 to 20.

Reached only where bands hold nothing but the rounding errors of a loud pure tone; 1e-4 is usual.
"""

CODE_TOLERANCE = 1
"""Largest difference of an int8 code: a feature next to a rounding edge may fall on its other side."""

VALUES_PER_LINE = 8
RAM_SIZE = 256 * 1024
TIMEOUT = 600.0
_FACT = re.compile(r"^([a-z_]+) (\d+)$", re.MULTILINE)


@dataclass(frozen=True)
class InputCode:
    """How a feature becomes an int8 code: ``(feature - mean) / std / scale + zero_point``, rounded."""

    mean: float
    std: float
    scale: float
    zero_point: int


@dataclass(frozen=True)
class FrontEndRun:
    """What clips gave on an emulated board.

    Attributes:
        labels: class of each clip.
        frontend_instructions, model_instructions: of one clip, the largest.
        flash, ram: bytes of the front end's code and tables, and of its variables.
    """

    labels: np.ndarray
    frontend_instructions: int
    model_instructions: int
    flash: int
    ram: int


def write_front_end(front_end: FrontEnd, code: InputCode, folder: Path) -> None:
    """Write ``frontend.c`` and ``frontend.h`` into the folder of a firmware project.

    Raises:
        InputError: if the deviation or the scale is not positive.
    """
    if not (code.std > 0 and code.scale > 0):
        raise InputError(f"front end: std = {code.std}, scale = {code.scale}: must be above 0")
    environment = jinja2.Environment(  # C, not HTML: nothing to escape
        loader=jinja2.PackageLoader("mcu.firmware", "templates"),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    folder.mkdir(parents=True, exist_ok=True)
    values = _values(front_end, code)
    for file in ("frontend.c", "frontend.h"):
        (folder / file).write_text(environment.get_template(f"{file}.j2").render(values), encoding="ascii")


def _values(front_end: FrontEnd, code: InputCode) -> dict[str, Any]:
    """Everything the templates name."""
    position = front_end.band_position()
    used = np.flatnonzero((position > 0) & (position < front_end.mels + 1))
    used = used[used > 0]  # the constant part is in no band
    first, lines = int(used[0]), len(used)
    quarter = np.sin(2 * np.pi * np.arange(front_end.fft // 4 + 1) / front_end.fft)
    mfcc = front_end.kind is Features.MFCC
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
        "kind": "MFCC" if mfcc else "log-mel",
        "frames": front_end.frames,
        "values": front_end.values,
        "first_line": first,
        "lines": lines,
        "dct": "\n".join(rows),
        "floor": repr(FLOOR),
        "gain": repr(float(np.float32(1 / (code.std * code.scale)))),
        "offset": repr(float(np.float32(code.zero_point - code.mean / (code.std * code.scale)))),
        "table_bytes": 4 * (sum(map(len, tables.values())) + dct.size) + lines,
        "ram_bytes": 4 * (front_end.fft + front_end.mels + 2),
    }


def _literal(value: float) -> str:
    """A single-precision constant of C."""
    return f"{float(np.float32(value))!r}F"


def _listed(texts: Sequence[str]) -> str:
    lines = (texts[at : at + VALUES_PER_LINE] for at in range(0, len(texts), VALUES_PER_LINE))
    return "\n".join(f"    {', '.join(line)}," for line in lines)


def classify_in_qemu(folder: Path, clips: np.ndarray, core: Core, tools: Toolchain | None = None) -> FrontEndRun:
    """Build model and front end of a project for an emulated board and let it label raw clips.

    Args:
        folder: what ``write_project`` and ``write_front_end`` wrote.
        clips: int16 ``(n, samples)``; all must fit the board's flash.
        core: with the DSP and floating-point instructions of the device in question.

    Raises:
        InputError: if a tool is missing (``ToolsMissing``).
        RuntimeError: if the program cannot be built, faults or does not end.
    """
    tools, board = tools or toolchain(), core.board
    out = folder / "build" / f"{core.name}-frontend"
    out.mkdir(parents=True, exist_ok=True)
    test = files("mcu.firmware") / "templates" / "frontend_test.c"
    (out / "frontend_test.c").write_bytes(test.read_bytes())
    (out / "clips.bin").write_bytes(clips.astype("<i2").tobytes())
    names = ("model.c", *KERNEL_SOURCES, "frontend.c", "platform_arm.c", "startup.c")
    sources = [str((folder / name).resolve()) for name in names]
    gcc = str(tools.compiler())
    include = f"-I{folder.resolve()}"
    _run([gcc, *core.flags, *COMPILE_FLAGS, include, "-c", *sources, "frontend_test.c"], out)
    symbols = {
        "FLASH_ORIGIN": board.flash_origin,
        "FLASH_SIZE": board.flash,
        "RAM_ORIGIN": board.ram_origin,
        "RAM_SIZE": min(board.ram, RAM_SIZE),
        "STACK_SIZE": 2048,
    }
    defines = [f"-Wl,--defsym={name}={value:#x}" for name, value in symbols.items()]
    objects = [f"{Path(name).stem}.o" for name in (*names, "frontend_test.c")]
    script = (folder / "link.ld").resolve()
    flags = [str(script) if flag == "link.ld" else flag for flag in LINK_FLAGS]
    _run([gcc, *core.flags, *flags, *defines, *objects, "-o", "frontend_test.elf"], out)
    command = [str(tools.emulator()), "-M", board.machine, "-nographic", "-monitor", "none", "-serial", "none"]
    command += ["-semihosting-config", "enable=on,target=native", "-icount", "shift=0", "-kernel", "frontend_test.elf"]
    flash, ram = _object_size(out / "frontend.o", tools)
    return _read(_run(command, out), len(clips), flash, ram)


def _object_size(path: Path, tools: Toolchain) -> tuple[int, int]:
    """Bytes of code and constants, and of variables, of an object file."""
    text, data, bss = (int(word) for word in _run([str(tools.size_tool()), path.name], path.parent).split()[6:9])
    return text + data, data + bss


def _read(text: str, count: int, flash: int, ram: int) -> FrontEndRun:
    facts: dict[str, list[int]] = {}
    for name, number in _FACT.findall(text):
        facts.setdefault(name, []).append(int(number))
    if len(facts.get("label", [])) != count:
        raise RuntimeError(f"front end test labelled {len(facts.get('label', []))} of {count} clips: {text[-300:]!r}")
    tick = facts["calibration_instructions"][0] / facts["calibration_ticks"][0]
    return FrontEndRun(
        labels=np.array(facts["label"], np.int64),
        frontend_instructions=round(max(facts["frontend_ticks"]) * tick),
        model_instructions=round(max(facts["model_ticks"]) * tick),
        flash=flash,
        ram=ram,
    )


def _run(command: Sequence[str], folder: Path) -> str:
    try:
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{Path(command[0]).name} did not end within {TIMEOUT:.0f} s") from None
    if result.returncode:
        raise RuntimeError(f"{Path(command[0]).name} fails:\n{(result.stderr or result.stdout)[-2000:]}")
    return result.stdout + result.stderr
