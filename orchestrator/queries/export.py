"""Export of a stored trial: the model, C arrays, a firmware project, a model card."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mcu.budget import RESOURCES, Budget
from mcu.errors import InputError
from mcu.score import score_of
from mcu.terms import TaskKind
from orchestrator.queries.export_library import Library, rows_of_a_step, self_test, write_trials
from orchestrator.queries.trial import TrialDetails
from orchestrator.storage.artifacts import Artifacts
from orchestrator.tables import human, printable
from reports.columns import Shown, names

PARTIAL, LEFT_SECONDS = ".partial-", 3600.0
_CARD_RESULTS = names(shown=Shown.CARD)


def export_trial(
    trial: TrialDetails,
    files: Artifacts,
    output: Path,
    metadata: bool = False,
    library: Library | None = None,
    equals: str = "",
    latency: str = "",
    hop: int | None = None,
    device: str | None = None,
) -> tuple[list[str], str]:
    """Write a trial's model and related files into a folder; returns their names, and a line on the C program's plan.

    With ``metadata`` also ``model_with_metadata.tflite``: the same model with labels, input normalisation and
    provenance in the file; the model card states their size in bytes. With ``library`` also the folder written by
    ``write_trials``. ``equals`` names models as good, ``latency`` is a line on the time of an inference. With ``hop``
    the firmware hears a stream, so many rows a step. ``device`` is what the C program is for, if not the trial's own.

    Everything is made beside the folder first, so an error leaves nothing half-written.

    Raises:
        InputError: if the trial has no model, a file is damaged, the hop saves nothing, or the folder not writable.
    """
    model = trial.read("model", files)
    deployment = trial.read("deployment", files) if "deployment" in trial.artifacts else None
    try:
        output.mkdir(parents=True, exist_ok=True)
        _remove_left(output)
        with tempfile.TemporaryDirectory(dir=output, prefix=PARTIAL) as name:
            stage = Path(name)
            (stage / "model.tflite").write_bytes(model)
            (stage / "model_data.h").write_text(_array_header(model), encoding="ascii")
            (stage / "model_data.c").write_text(_array_source(model), encoding="ascii")
            note, told = _write_firmware(model, deployment, stage / "firmware", hop, device)
            if deployment is not None:
                (stage / "deployment.json").write_bytes(deployment)
                facts = json.loads(deployment)
                note = feeding(facts) + reading(facts) + note
            if metadata and deployment is not None:
                larger = with_metadata(trial, model, deployment)
                (stage / "model_with_metadata.tflite").write_bytes(larger)
                note += f"\n\n`model_with_metadata.tflite` says what it is in {len(larger) - len(model):,} more bytes."
            if library is not None:
                note += f"\n\n{write_trials(library, files, stage)}"
            (stage / "MODEL_CARD.md").write_text(model_card(trial, model, note, equals, latency), encoding="utf-8")
            return _move_all(stage, output), told
    except OSError as error:
        raise InputError(f"--output {output}: {error.strerror or error}") from None


def with_metadata(trial: TrialDetails, model: bytes, deployment: bytes) -> bytes:
    """The model with labels, input normalisation and provenance as one JSON metadata buffer."""
    from mcu.cost.deployment import write_deployment
    from mcu.tflite.reader import read_tflite

    facts = json.loads(deployment)
    told = {
        "labels": ",".join(facts["classes"]),
        **{f"values_{name}": ",".join(f"{v:.6g}" for v in each) for name, each in facts.get("values", {}).items()},
        "kind": facts.get("kind", TaskKind.CLASSIFICATION),
        **({"divide_by": str(facts["normalise"]["divide_by"])} if "divide_by" in facts["normalise"] else {}),
        "mean": ",".join(f"{value:.6g}" for value in facts["normalise"]["mean"]),
        "std": ",".join(f"{value:.6g}" for value in facts["normalise"]["std"]),
        "task": str(trial.row["task"]),
        "made": f"mcusweep {trial.row['study']}#{trial.row['number']} {str(trial.row['spec_hash'])[:12]}",
    }
    return write_deployment(replace(read_tflite(model), metadata=told))


def feeding(facts: Mapping[str, Any]) -> str:
    """How a program makes the input codes of a model, for its card; nothing where the front end in C does."""
    unit = facts["normalise"].get("divide_by")  # earlier versions did not say
    if facts.get("front_end") or unit is None:
        return ""
    channels, height, width = facts["input_shape_nchw"]
    scaled = "x" if unit == 1 else f"x / {unit}"
    scale, zero = facts["input"]["scale"], facts["input"]["zero_point"]
    code = f"round(({scaled} - mean) / std / {scale:.8g}) {zero:+d}, from -128 to 127"
    return (
        f"Inputs are {height} x {width} x {channels} codes, channels last: {code}; deployment.json has "
        "`normalise`, mean and std of each channel.\n\n"
    )


def reading(facts: Mapping[str, Any]) -> str:
    """How a program reads the outputs of a model, for its card; nothing where the largest is the class."""
    kind, names = facts.get("kind", TaskKind.CLASSIFICATION), [_cell(name) for name in facts["classes"]]
    if kind == TaskKind.REGRESSION:
        values = zip(names, facts["values"]["mean"], facts["values"]["std"], strict=True)
        formulas = "; ".join(f"{name} = {mean:.6g} + {std:.6g} * output" for name, mean, std in values)
        return f"Outputs, as real numbers, are in standard deviations from the mean: {formulas}.\n\n"
    if kind == TaskKind.MULTI_LABEL:
        training = facts["spec"]["training"]
        logits = "" if training.get("loss") or training.get("loop") else ": one above 0 is more likely there than not"
        return f"Outputs are of {', '.join(names)}, in this order{logits}.\n\n"
    if kind == TaskKind.RECONSTRUCTION:
        return "Outputs are the input as the network expects it: the larger their mean squared difference, as real " \
               "numbers, the more suspicious.\n\n"  # fmt: skip
    if kind == TaskKind.GRID:
        return f"Outputs are logits of {', '.join(names)} in every cell, rows first: the largest is its class.\n\n"
    return ""


def _remove_left(output: Path) -> None:
    """Remove what killed exports left in a folder; one that may still run is left alone."""
    for old in output.glob(f"{PARTIAL}*"):
        if time.time() - old.stat().st_mtime > LEFT_SECONDS:
            shutil.rmtree(old, ignore_errors=True)


def _move_all(stage: Path, output: Path) -> list[str]:
    names = sorted(path.name for path in stage.iterdir())
    for name in names:
        target = output / name
        if target.is_dir():
            shutil.rmtree(target)
        (stage / name).replace(target)
    return names


def _array_header(model: bytes) -> str:
    from mcu.cost.arena import sufficient_arena
    from mcu.cost.deployment import predict_deployment
    from mcu.tflite.reader import read_tflite

    network = read_tflite(model)
    arena = sufficient_arena(network, predict_deployment(network).plan)
    return (
        "#ifndef MODEL_DATA_H\n#define MODEL_DATA_H\n\n"
        "/* With an arena of so many bytes a 64-bit build of TFLM starts; a 32-bit one needs fewer. */\n"
        f"#define MODEL_ARENA_BYTES {arena}\n\n"
        "extern const unsigned char model_data[];\nextern const unsigned int model_data_len;\n\n#endif\n"
    )


def _array_source(model: bytes) -> str:
    lines = [", ".join(f"0x{byte:02x}" for byte in model[k : k + 16]) for k in range(0, len(model), 16)]
    body = ",\n    ".join(lines)
    return (
        '#include "model_data.h"\n\n'
        "/* A TensorFlow Lite model; TFLM needs it aligned. */\n"
        "__attribute__((aligned(16))) const unsigned char model_data[] = {\n"
        f"    {body}}};\nconst unsigned int model_data_len = {len(model)};\n"
    )


def _write_firmware(
    data: bytes, deployment: bytes | None, folder: Path, hop: int | None, device: str | None
) -> tuple[str, str]:
    """The C project of the model; returns text for the model card, which says so where it cannot be made, and a line on
    its plan."""
    from mcu.firmware.project import write_project
    from mcu.tflite.reader import read_tflite
    from orchestrator.worker.firmware_plan import plan_of
    from orchestrator.worker.front_end import write_listening_project

    facts = json.loads(deployment) if deployment is not None else {}
    model = read_tflite(data)
    listens = facts.get("front_end")
    rows = rows_of_a_step(facts, hop)
    samples, expected = self_test(facts, rows)
    vectors: dict[str, Any] = {"samples": samples, "expected": expected, "hop": hop}
    try:
        vectors["plan"], told = plan_of(model, facts, device, rows)
        if listens:
            note = write_listening_project(model, facts, folder, **vectors)
        else:
            write_project(model, folder, **vectors)
            note = ""
    except InputError as error:
        if hop is not None:
            raise
        shutil.rmtree(folder, ignore_errors=True)
        return f"No C project: {printable(str(error))}", ""
    note += f"\n\nIts plan: {told}." if told else ""
    rows_said = "1 row" if hop == 1 else f"{hop} rows"
    what = "" if hop is None else f" for a stream, {rows_said} a step,"
    if hop is not None:
        note += "\n\nFigures of the C program in the table are of one that runs whole windows, not of the stream's."
    if hop != rows:
        note += "\n\nCentred features all change in every step: the front end saves work there, the network does not."
    is_what = f"`firmware/` is a C project{what} that needs no library; its self test compares with stored outputs."
    return f"{is_what}{note}", told


def model_card(trial: TrialDetails, model: bytes, firmware: str, equals: str = "", latency: str = "") -> str:
    """The model card as Markdown."""
    row = trial.row
    lines = [f"# {_cell(row['network'])} for {_cell(row['device'] or 'a budget')}", ""]
    lines += [f"Made by mcusweep: trial {row['number']} of study {_cell(row['study'])}.", "", "| | |", "|---|---|"]
    facts: dict[str, Any] = {
        "task": row["task"],
        "method": row["method"],
        "budget": Budget(*(row[f"budget_{name}"] for name in RESOURCES)),
        "seed": row["seed"],
        **{name: human(name, row[name], row["metric"]) for name in _CARD_RESULTS if row[name] is not None},
        **({"latency": latency} if latency else {}),
        **{f"hyperparameter {name}": value for name, value in trial.parameters.items()},
        "bytes of model.tflite": f"{len(model):,}",
        "SHA-256 of model.tflite": hashlib.sha256(model).hexdigest(),
        "specification": row["spec_hash"],
    }
    lines += [f"| {_cell(name)} | {_cell(value)} |" for name, value in facts.items()]
    measure = "top-1" if row["metric"] == "accuracy" else score_of(row["metric"]).title
    lines += [
        "",
        f"`accuracy` is the int8 {measure} on test data unused in selection; `flash` is the .tflite file and",
    ]
    word = "measured" if row["measured"] else "predicted (tflite-micro was not installed)"
    lines += [f"`sram` the TensorFlow Lite Micro arena, {word}.", "", firmware, ""]
    if equals:
        lines += [f"Within its budget {_cell(equals)}.", ""]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    text = printable(str(value))
    return "".join(f"\\{c}" if c in "|<>*_`[]\\#" else c for c in text)
