"""Stored trials as one library for the build system of a board: Arduino, PlatformIO, Zephyr, ESP-IDF or CMake."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mcu.errors import InputError
from mcu.firmware import require_gain
from mcu.firmware.library import FOLDER, LibraryFormat, LibraryModel, write_library
from mcu.tflite.reader import read_tflite
from orchestrator.queries.trial import TrialDetails
from orchestrator.storage.artifacts import Artifacts
from orchestrator.worker.firmware_plan import plan_of


@dataclass(frozen=True)
class Library:
    """Options of ``export --format``: the format, and the trials by the prefix of their functions.

    ``hop`` is that of ``--stream``, for the first; ``device`` what the library is for, if not for the trials' own.
    """

    form: LibraryFormat
    trials: Mapping[str, TrialDetails]
    hop: int | None = None
    device: str | None = None


def write_trials(library: Library, files: Artifacts, folder: Path) -> str:
    """Write ``FORM/mcusweep_model`` into a folder; returns the line of the model card.

    Raises:
        InputError: if a trial has no model, a file is damaged, the kernels cannot express an operator, a name is not
            allowed, or more than one model has an audio front end.
    """
    deployments = {name: _deployment(trial, files) for name, trial in library.trials.items()}
    hops = dict.fromkeys(library.trials) | {next(iter(library.trials)): library.hop}
    models = [
        _library_model(name, trial.read("model", files), deployments[name], hops[name], library.device)
        for name, trial in library.trials.items()
    ]
    listening = [name for name, facts in deployments.items() if facts.get("front_end")]
    if len(listening) > 1:
        raise InputError(f"--also: {' and '.join(listening)} have a front end each: a library holds one")
    target = folder / library.form / FOLDER
    write_library(models, target, library.form, sources=["frontend.c"] if listening else [])
    for one in models:
        if one.name in listening:
            _write_front_end(one, deployments[one.name], target / "src", hops[one.name])
    names = ", ".join(f"`{name}`" for name in library.trials)
    return f"`{library.form}/{FOLDER}/` is a library for {library.form} with {names}; its README says how to use it."


def _deployment(trial: TrialDetails, files: Artifacts) -> dict[str, Any]:
    return json.loads(trial.read("deployment", files)) if "deployment" in trial.artifacts else {}


def _library_model(name: str, data: bytes, facts: dict[str, Any], hop: int | None, device: str | None) -> LibraryModel:
    model = read_tflite(data)
    hop = rows_of_a_step(facts, hop)
    if hop is not None and not facts.get("front_end"):
        require_gain(model, hop)
    samples, expected = self_test(facts, hop)
    return LibraryModel(name, model, samples, expected, data, hop, plan_of(model, facts, device, hop)[0])


def rows_of_a_step(facts: dict[str, Any], hop: int | None) -> int | None:
    """Rows of a network's input that are new in a step; None if all are, as centred features are in every step."""
    centred = facts.get("front_end", {}).get("parameters", {}).get("centred", False)
    return None if centred else hop


def self_test(facts: dict[str, Any], hop: int | None) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Inputs and outputs of a deployment's self test, int8; those of a stream are its inputs one after another."""
    if not facts:
        return None, None
    samples, expected = (np.array(facts["self_test"][key], dtype=np.int8) for key in ("inputs_nhwc", "outputs"))
    if hop is None:
        return samples, expected
    rows = samples.reshape(-1, *samples.shape[2:])
    return rows[: len(rows) // hop * hop].reshape(-1, hop, *rows.shape[1:]), None


def _write_front_end(one: LibraryModel, facts: dict[str, Any], folder: Path, hop: int | None) -> None:
    from mcu.firmware.front_end import InputCode, write_front_end
    from mcu.front_end import FrontEnd

    source = one.model.tensors[one.model.input]
    normalise = facts["normalise"]["mean"][0], facts["normalise"]["std"][0]
    code = InputCode(*normalise, source.scale, source.zero_point)
    write_front_end(FrontEnd(**facts["front_end"]["parameters"]), code, folder, hop)
