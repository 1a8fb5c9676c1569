"""Stored trials as one library for the build system of a board: Arduino, PlatformIO, Zephyr, ESP-IDF or CMake."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mcu.errors import InputError
from mcu.firmware.library import FOLDER, LibraryFormat, LibraryModel, write_library
from mcu.tflite.reader import read_tflite
from orchestrator.queries.trial import TrialDetails
from orchestrator.storage.artifacts import Artifacts


@dataclass(frozen=True)
class Library:
    """Options of ``export --format``: the format, and the trials by the prefix of their functions."""

    form: LibraryFormat
    trials: Mapping[str, TrialDetails]


def write_trials(library: Library, files: Artifacts, folder: Path) -> str:
    """Write ``FORM/mcusweep_model`` into a folder; returns the line of the model card.

    Raises:
        InputError: if a trial has no model, a file is damaged, the kernels cannot express an operator, a name is not
            allowed, or more than one model has an audio front end.
    """
    deployments = {name: _deployment(trial, files) for name, trial in library.trials.items()}
    models = [
        _library_model(name, trial.read("model", files), deployments[name]) for name, trial in library.trials.items()
    ]
    listening = [name for name, facts in deployments.items() if facts.get("front_end")]
    if len(listening) > 1:
        raise InputError(f"--also: {' and '.join(listening)} have a front end each: a library holds one")
    target = folder / library.form / FOLDER
    write_library(models, target, library.form, sources=["frontend.c"] if listening else [])
    for one in models:
        if one.name in listening:
            _write_front_end(one, deployments[one.name], target / "src")
    names = ", ".join(f"`{name}`" for name in library.trials)
    return f"`{library.form}/{FOLDER}/` is a library for {library.form} with {names}; its README says how to use it."


def _deployment(trial: TrialDetails, files: Artifacts) -> dict[str, Any]:
    return json.loads(trial.read("deployment", files)) if "deployment" in trial.artifacts else {}


def _library_model(name: str, data: bytes, facts: dict[str, Any]) -> LibraryModel:
    model = read_tflite(data)
    if not facts:
        return LibraryModel(name, model, data=data)
    vectors = facts["self_test"]
    samples, expected = (np.array(vectors[key], dtype=np.int8) for key in ("inputs_nhwc", "outputs"))
    return LibraryModel(name, model, samples, expected, data)


def _write_front_end(one: LibraryModel, facts: dict[str, Any], folder: Path) -> None:
    from mcu.firmware.front_end import InputCode, write_front_end
    from mcu.front_end import FrontEnd

    source = one.model.tensors[one.model.input]
    normalise = facts["normalise"]["mean"][0], facts["normalise"]["std"][0]
    code = InputCode(*normalise, source.scale, source.zero_point)
    write_front_end(FrontEnd(**facts["front_end"]["parameters"]), code, folder)
