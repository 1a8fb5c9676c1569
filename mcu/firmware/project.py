"""Writes an int8 model as a complete C project: weights, call list, kernels, start-up, self test, Makefile, README."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from mcu.cost.firmware_memory import FirmwarePlan, plan_memory
from mcu.cost.stream import Stream, windows_of
from mcu.devices import Device, catalogue
from mcu.errors import InputError
from mcu.firmware.calls import Call, Table
from mcu.firmware.cores import CORES, core_of
from mcu.firmware.flags import COMPILE_FLAGS, HOST_FLAGS, KERNEL_SOURCES, LINK_FLAGS, flash_origin, ram_origin
from mcu.firmware.planning import choose_plan
from mcu.firmware.program import Loop, Placed, program_of
from mcu.firmware.toolchain import ARCHITECTURES
from mcu.graph.ports import Port, each
from mcu.int8.model import Int8Model, QTensor

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _.-]{0,63}")
LINE = 110
ARENA = "arena"
"""The array of activations; a stream in a library has one of its own."""
TEMPLATES = files("mcu.firmware") / "templates"


Codes = np.ndarray | Sequence[np.ndarray]
"""int8 values ``(N, ...)`` of the only port, or of each."""


def write_project(
    model: Int8Model,
    folder: Path,
    *,
    samples: Codes | None = None,
    expected: Codes | None = None,
    name: str = "model",
    sound: str = "",
    plan: FirmwarePlan | None = None,
    hop: int | None = None,
) -> None:
    """Write the C project of a model into a folder, which is created if missing.

    Args:
        samples: int8 ``(N, H, W, C)`` inputs of the self test, None for two synthetic ones; of several inputs a tuple.
            Of a stream ``(N, hop, W, C)``, its steps one after the other.
        expected: int8 ``(N, ...)`` outputs for them; None takes those of the reference interpreter. Those of the
            first steps of a stream, whose window is not whole, are not compared.
        name: name of the project; letters, digits, space, ``_ . -``.
        sound: of an application with an audio front end, which ``write_front_end`` adds, its source: ``main.c`` hears
            clips, ``stream.c`` a stream.
        plan: memory, and what runs strip by strip; None for what ``choose_plan`` says of the model and the hop alone.
        hop: rows by which the window moves on from run to run along a stream, as ``plan_memory``: the program takes
            only the new ones and computes only what they change.

    Raises:
        InputError: if the kernels cannot express an operator exactly, the samples do not fit the model or the
            name holds other characters; or if a step of a stream would compute as much as a whole window, and there is
            no sound.
    """
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise InputError(f"firmware name {name!r}: allowed are up to 64 letters, digits, space, '_', '.', '-'")
    if hop is not None and not sound:
        require_gain(model, hop)
    values = model_values(model, samples, expected, plan=plan, hop=hop)
    values |= _build_values() | {"name": name, "sound": sound}
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


def copy_sources(folder: Path, sound: str = "") -> None:
    """The files of a project that are the same for every model."""
    for source in [*(TEMPLATES / "kernels").iterdir(), *(TEMPLATES / "program").iterdir()]:
        (folder / source.name).write_bytes(source.read_bytes())
    if sound:
        (folder / "main.c").write_bytes((TEMPLATES / "sound" / sound).read_bytes())


def require_gain(model: Int8Model, hop: int) -> None:
    """Refuse a stream whose steps have as many multiply-accumulates as whole windows."""
    stream = plan_memory(model, hop=hop).stream
    if stream is not None and stream_macs(model, hop) >= model.macs():
        raise InputError(f"stream with a hop of {hop}: {stream.obstacle([op.name for op in model.ops])}")


def stream_macs(model: Int8Model, hop: int) -> int:
    """Multiply-accumulates of a step of a stream."""
    return _macs(program_of(model, None, plan_memory(model, hop=hop).stream))


def _macs(program: Sequence[Loop]) -> int:
    return sum(loop.times * placed.call.macs for loop in program for placed in loop.calls)


def _vectors(
    model: Int8Model, samples: Codes | None, expected: Codes | None, stream: Stream | None
) -> list[np.ndarray]:
    """Test vectors: int8 ``(N, bytes)`` for each input and output."""
    if stream is not None:
        return _steps(model, samples, expected, stream)
    sources, targets = ([model.tensors[port.tensor] for port in ports] for ports in (model.inputs, model.outputs))
    inputs = [_synthetic(source) for source in sources] if samples is None else list(each(samples))
    _check_codes("test vectors", inputs, sources, len(inputs[0]))
    if expected is None:
        from mcu.int8.reference_interpreter import ReferenceInterpreter  # imports torch: only where it is needed

        shaped = [x.reshape(-1, *source.shape[1:]) for x, source in zip(inputs, sources, strict=True)]
        expected = ReferenceInterpreter(model).invoke(shaped)
    outputs = list(each(expected))
    _check_codes("expected outputs", outputs, targets, len(inputs[0]))
    return [values.reshape(len(values), -1) for values in (*inputs, *outputs)]


def _steps(model: Int8Model, samples: Codes | None, expected: Codes | None, stream: Stream) -> list[np.ndarray]:
    """``_vectors`` of a stream; None as samples is a synthetic one that is twice as long as its window."""
    source, target = model.tensors[model.input], model.tensors[model.output]
    step = replace(source, shape=(1, stream.hop, *source.shape[2:]))
    if samples is None:
        samples = _synthetic(source).reshape(-1)
        samples = samples[: samples.size // step.bytes * step.bytes].reshape(-1, *step.shape[1:])
    steps = next(iter(each(samples)))
    _check_codes("test vectors", [steps], [step], len(steps))
    if expected is None:
        from mcu.int8.reference_interpreter import ReferenceInterpreter  # imports torch: only where it is needed

        windows = windows_of(steps.reshape(-1, *source.shape[2:]), source.shape[1], stream.hop)
        expected = np.zeros((len(steps), *target.shape[1:]), np.int8)
        expected[stream.warm_up :] = ReferenceInterpreter(model).run(windows)
    outputs = next(iter(each(expected)))
    _check_codes("expected outputs", [outputs], [target], len(steps))
    return [values.reshape(len(values), -1) for values in (steps, outputs)]


def _synthetic(source: QTensor) -> np.ndarray:
    """Two inputs: every code, in no order the network expects."""
    return ((np.arange(2 * source.bytes) * 7919 // 64) % 256 - 128).astype(np.int8).reshape(2, -1)


def _check_codes(what: str, given: Sequence[np.ndarray], tensors: Sequence[QTensor], count: int) -> None:
    fits = [
        values.dtype == np.int8 and len(values) == count > 0 and values[0].size == tensor.bytes
        for values, tensor in zip(given, tensors, strict=False)
    ]
    if len(given) != len(tensors) or not all(fits):
        found = " and ".join(f"{values.dtype} {values.shape}" for values in given)
        allowed = " and ".join(f"int8 ({count or 'N'}, {tensor.shape[1:]})" for tensor in tensors)
        raise InputError(f"{what}: {found}: allowed is {allowed}")


def model_values(
    model: Int8Model,
    samples: Codes | None,
    expected: Codes | None,
    prefix: str = "",
    plan: FirmwarePlan | None = None,
    hop: int | None = None,
) -> dict[str, Any]:
    """Values of a model for templates; its tables and layers start with ``prefix``. Errors as ``write_project``."""
    plan = choose_plan(model, hop=hop).plan if plan is None else plan
    program = program_of(model, plan.strips, plan.stream)
    vectors = _vectors(model, samples, expected, plan.stream)
    first = len(model.inputs)
    ins = _ports("input", "in", model, model.inputs, plan, vectors[:first])
    outs = _ports("output", "out", model, model.outputs, plan, vectors[first:])
    arena = f"{prefix}{ARENA}" if plan.stream else ARENA
    arguments = [f"const int8_t *{port['argument']}" for port in ins] + [f"int8_t *{port['argument']}" for port in outs]
    return {
        "prefix": prefix,
        "macs": _macs(program),
        "hop": hop,
        "warm_up": plan.stream.warm_up if plan.stream else 0,
        "arena": arena,
        "arena_bytes": plan.total,
        **_program_values(program, plan, prefix, arena),
        "ins": ins,
        "outs": outs,
        "parameters": ", ".join(arguments),
        "count": len(vectors[0]),
    }


def _ports(
    what: str, short: str, model: Int8Model, ports: Sequence[Port], plan: FirmwarePlan, vectors: Sequence[np.ndarray]
) -> list[dict[str, Any]]:
    """Inputs or outputs as templates name them; the names of several end in their own, or else in their number."""
    found: list[dict[str, Any]] = []
    for number, (port, rows) in enumerate(zip(ports, vectors, strict=True)):
        tensor, own, entry = model.tensors[port.tensor], re.sub(r"[^a-z0-9]+", "_", port.name.lower()).strip("_"), 0
        if plan.stream is not None and port.tensor == plan.stream.input:
            entry = plan.stream.entry * tensor.bytes // tensor.shape[1]
            tensor = replace(tensor, shape=(1, plan.stream.hop, *tensor.shape[2:]))
        suffix = f"_{own.removeprefix(f'{what}_') or number}" if len(ports) > 1 else ""
        while any(suffix == other["suffix"] for other in found):
            suffix = f"_{number}{suffix}"
        found.append(
            {
                "suffix": suffix, "lower": what + suffix, "upper": (what + suffix).upper(), "argument": short + suffix,
                "title": f" `{suffix[1:]}`" if suffix else "", "shape": _shape_text(tensor.shape),
                "bytes": tensor.bytes, "scale": repr(float(tensor.scale)), "zero_point": tensor.zero_point,
                "offset": plan.offsets[port.tensor] + entry, "rows": [_numbers(row) for row in rows],
            }
        )  # fmt: skip
    return found


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


def _program_values(program: Sequence[Loop], plan: FirmwarePlan, prefix: str, arena: str) -> dict[str, Any]:
    """Tables of steps as the template prints them, and the layers' descriptions: equal ones and equal tables once."""
    layers: list[dict[str, Any]] = []
    numbers: dict[Any, int] = {}
    tables: dict[int, int] = {}
    found: list[dict[str, Any]] = []
    main: list[_Line] = []
    for loop in program:
        lines: list[_Line] = []
        for placed in loop.calls:
            call = placed.call
            key = (placed.layer, call.function, *call.fields.items())
            if key not in numbers:
                numbers[key] = len(layers)
                owner = tables.setdefault(placed.layer, len(layers)) if call.tables else len(layers)
                layers.append(_layer_values(call, len(layers), owner, prefix))
            lines.append(_line(placed, f"{prefix}layer_{numbers[key]}", plan, arena))
        if loop.times == 1:
            main += lines
        else:
            name = f"{prefix}strips_{len(found)}"
            found.append(_repeated(name, loop.times, lines))
            text = f"{{LAYER({lines[0].number}) {{.of_one = strips}}, &{name}, NULL, NULL, NULL}}"
            main.append(_Line(lines[0].number, text, f"{loop.times} strips"))
    found.append({"name": f"{prefix}program", "turns": 1, "steps": _commented([(x.text, x.comment) for x in main])})
    count = 1 + max((placed.layer for loop in program for placed in loop.calls), default=-1)
    return {"layers": layers, "programs": found, "layer_count": count}


@dataclass(frozen=True)
class _Line:
    """A step in C, its layer's number and title; ``move`` is by how much its places grow in a loop."""

    number: int
    text: str
    comment: str
    move: str = ""


def _line(placed: Placed, layer: str, plan: FirmwarePlan, arena: str) -> _Line:
    *inputs, output = [f"&{arena}[{plan.offsets[place.tensor] + place.at}]" for place in placed.arguments]
    *steps, last = [place.step for place in placed.arguments]
    kind, second, more = ("of_one", "NULL", 0) if len(inputs) == 1 else ("of_two", inputs[1], steps[1])
    places = f"{inputs[0]}, {second}, {output}"
    text = f"{{LAYER({placed.layer}) {{.{kind} = {placed.call.function}}}, &{layer}, {places}}}"
    move = f"{{{steps[0]}, {more}, {last}}}" if any((*steps, last)) else ""
    return _Line(placed.layer, text, _title(placed.call), move)


def _repeated(name: str, turns: int, lines: Sequence[_Line]) -> dict[str, Any]:
    moves: list[str] = []
    steps = []
    for line in lines:
        where = f"&{name}_moves[{len(moves)}]" if line.move else "NULL"
        moves += [line.move] if line.move else []
        steps.append((f"{{{line.text}, {where}}}", line.comment))
    return {"name": name, "turns": turns, "moves": moves, "steps": _commented(steps)}


def _commented(lines: Sequence[tuple[str, str]]) -> list[str]:
    """Elements of a table, each with its comment, which begin in one column."""
    width = max((len(text) for text, _ in lines), default=0)
    return [f"{text + ',':{width + 1}} /* {comment} */" for text, comment in lines]


def _layer_values(call: Call, index: int, owner: int, prefix: str) -> dict[str, Any]:
    """A layer's description as the template prints it; its tables are those of the layer ``owner``."""
    tables = [
        {
            "ctype": table.ctype,
            "name": _table_name(table, index, prefix),
            "count": table.values.size,
            "text": _numbers(table.values),
        }
        for table in call.tables
        if owner == index
    ]
    members: dict[str, str | int] = {table.field: _table_name(table, owner, prefix) for table in call.tables}
    return {
        "title": f"{index}: {_title(call)}",
        "name": f"{prefix}layer_{index}",
        "struct": call.struct,
        "tables": tables,
        "fields": members | call.fields,
    }


def _title(call: Call) -> str:
    return re.sub(r"[^A-Za-z0-9_.\- ]", "_", f"{call.kind} {call.name}").strip()


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
