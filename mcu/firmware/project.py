"""Writes an int8 model as a complete C project: weights, call list, kernels, start-up, self test, Makefile, README."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from mcu.cost.arena import Plan
from mcu.devices import Device, catalogue
from mcu.errors import InputError
from mcu.firmware.calls import Call, Table, calls_of
from mcu.firmware.cores import CORES, core_of
from mcu.firmware.flags import COMPILE_FLAGS, HOST_FLAGS, LINK_FLAGS, flash_origin, ram_origin
from mcu.firmware.memory import plan_memory
from mcu.firmware.toolchain import ARCHITECTURES
from mcu.int8.model import Int8Model

KERNEL_SOURCES = ("convolution.c", "pointwise.c", "depthwise.c", "pooling.c", "elementwise.c", "softmax.c")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _.-]{0,63}")
LINE = 110
TEMPLATES = files("mcu.firmware") / "templates"


@dataclass(frozen=True)
class Vectors:
    """Test vectors: int8 ``inputs (N, input bytes)`` and ``outputs (N, output bytes)``."""

    inputs: np.ndarray
    outputs: np.ndarray


def write_project(
    model: Int8Model,
    folder: Path,
    *,
    samples: np.ndarray | None = None,
    expected: np.ndarray | None = None,
    name: str = "model",
    sound: bool = False,
) -> None:
    """Write the C project of a model into a folder, which is created if missing.

    Args:
        samples: int8 ``(N, H, W, C)`` inputs of the self test, None for two synthetic ones.
        expected: int8 ``(N, ...)`` outputs for them; None takes those of the reference interpreter.
        name: name of the project; letters, digits, space, ``_ . -``.
        sound: whether the application has an audio front end, which ``write_front_end`` adds.

    Raises:
        InputError: if the kernels cannot express an operator exactly, the samples do not fit the model or the
            name holds other characters.
    """
    if not NAME.fullmatch(name):
        raise InputError(f"firmware name {name!r}: allowed are up to 64 letters, digits, space, '_', '.', '-'")
    values = model_values(model, samples, expected) | _build_values() | {"name": name, "sound": sound}
    render("project", values, folder)
    copy_sources(folder, sound)


def render(kind: str, values: Mapping[str, Any], folder: Path) -> None:
    """Write the files of one folder of templates, which name every value they use."""
    for template in sorted(file.name for file in (TEMPLATES / kind).iterdir() if file.name.endswith(".j2")):
        render_file(f"{kind}/{template}", values, folder / template.removesuffix(".j2"))


def render_file(template: str, values: Mapping[str, Any], path: Path) -> None:
    """Write one file from a template, given by its folder and name; missing folders are created."""
    environment = jinja2.Environment(  # C, not HTML: nothing to escape
        loader=jinja2.FunctionLoader(lambda name: (TEMPLATES / name).read_text("utf-8")),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(environment.get_template(template).render(values), encoding="ascii")


def copy_sources(folder: Path, sound: bool = False) -> None:
    """The files of a project that are the same for every model."""
    for source in [*(TEMPLATES / "kernels").iterdir(), *(TEMPLATES / "program").iterdir()]:
        (folder / source.name).write_bytes(source.read_bytes())
    if sound:
        (folder / "main.c").write_bytes((TEMPLATES / "sound" / "main.c").read_bytes())


def _vectors(model: Int8Model, samples: np.ndarray | None, expected: np.ndarray | None) -> Vectors:
    source, target = model.tensors[model.input], model.tensors[model.output]
    if samples is None:
        codes = (np.arange(2 * source.bytes) * 7919 // 64) % 256 - 128  # every code, in no order the network expects
        samples = codes.astype(np.int8).reshape(2, -1)
    if samples.dtype != np.int8 or len(samples) == 0 or samples[0].size != source.bytes:
        raise InputError(f"test vectors: {samples.dtype} {samples.shape}: allowed is int8 (N, {source.shape[1:]})")
    if expected is None:
        from mcu.int8.reference_interpreter import ReferenceInterpreter  # imports torch: only where it is needed

        expected = ReferenceInterpreter(model).run(samples.reshape(-1, *source.shape[1:]))
    if expected.dtype != np.int8 or len(expected) != len(samples) or expected[0].size != target.bytes:
        raise InputError(
            f"expected outputs: {expected.dtype} {expected.shape}: allowed is int8 ({len(samples)}, {target.bytes})"
        )
    return Vectors(samples.reshape(len(samples), -1), expected.reshape(len(samples), -1))


def model_values(
    model: Int8Model, samples: np.ndarray | None, expected: np.ndarray | None, prefix: str = ""
) -> dict[str, Any]:
    """Values of a model for templates; its tables and layers start with ``prefix``. Errors as ``write_project``."""
    calls, plan = calls_of(model), plan_memory(model)
    vectors = _vectors(model, samples, expected)
    source, target = model.tensors[model.input], model.tensors[model.output]
    return {
        "prefix": prefix,
        "macs": sum(call.macs for call in calls),
        "arena_bytes": plan.total,
        "calls": [_call_values(call, index, plan, prefix) for index, call in enumerate(calls)],
        "input_bytes": source.bytes,
        "input_shape": _shape_text(source.shape),
        "input_scale": repr(float(source.scale)),
        "input_zero_point": source.zero_point,
        "input_offset": plan.offsets[model.input],
        "output_bytes": target.bytes,
        "output_shape": _shape_text(target.shape),
        "output_scale": repr(float(target.scale)),
        "output_zero_point": target.zero_point,
        "output_offset": plan.offsets[model.output],
        "count": len(vectors.inputs),
        "inputs": [_numbers(row) for row in vectors.inputs],
        "outputs": [_numbers(row) for row in vectors.outputs],
    }


def _build_values() -> dict[str, Any]:
    """What the Makefile names."""
    return {
        "kernel_sources": KERNEL_SOURCES,
        "compile_flags": COMPILE_FLAGS,
        "host_flags": HOST_FLAGS,
        "link_flags": LINK_FLAGS,
        "cores": CORES,
        "architectures": ARCHITECTURES,
        "devices": [_device_values(device) for device in catalogue() if device.core in CORES],
    }


def _call_values(call: Call, index: int, plan: Plan, prefix: str) -> dict[str, Any]:
    """A call as the template prints it: named tables, the struct's members, byte offsets of its arguments."""
    tables = [
        {
            "ctype": table.ctype,
            "name": _table_name(table, index, prefix),
            "count": table.values.size,
            "text": _numbers(table.values),
        }
        for table in call.tables
    ]
    members: dict[str, str | int] = {table.field: _table_name(table, index, prefix) for table in call.tables}
    title = re.sub(r"[^A-Za-z0-9_.\- ]", "_", f"{call.kind} {call.name}").strip()
    arguments = [plan.offsets[tensor] for tensor in call.inputs]
    return {
        "title": f"{index}: {title}",
        "function": call.function,
        "struct": call.struct,
        "tables": tables,
        "fields": members | call.fields,
        "arguments": [*arguments, plan.offsets[call.output] + call.output_at],
    }


def _table_name(table: Table, index: int, prefix: str) -> str:
    return f"{prefix}{table.field.rpartition('.')[2]}_{index}"


def _device_values(device: Device) -> dict[str, Any]:
    core = core_of(device)
    return {
        "name": device.name,
        "core": core.name,
        "flags": " ".join(core.flags),
        "flash": device.flash,
        "ram": device.sram_bank or device.sram,
        "flash_origin": hex(flash_origin(device)),
        "ram_origin": hex(ram_origin(device)),
    }


def _shape_text(shape: tuple[int, ...]) -> str:
    return " x ".join(str(extent) for extent in shape[1:])


def _numbers(values: np.ndarray) -> str:
    """Comma-separated integers, wrapped. INT32_MIN has no literal in C; the exporter never makes one."""
    lines, line = [], "   "
    for value in values.ravel().tolist():
        text = f" {value},"
        if len(line) + len(text) > LINE:
            lines.append(line)
            line = "   "
        line += text
    return "\n".join([*lines, line])
