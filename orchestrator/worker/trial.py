"""The worker: a pure function from a trial's specification to its result, plus files in its artifact folder."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mcu.budget import Resources
from mcu.devices import find_device
from mcu.errors import InputError
from mcu.files import write_atomic
from mcu.firmware import PlanChoice, measure_firmware
from mcu.int8.model import QTensor
from mcu.int8.reference_interpreter import ReferenceInterpreter
from mcu.measure import Measurement, check_against_interpreter, measure_model
from mcu.runtime import Runtime
from mcu.score import check_metric
from mcu.terms import Metric, RuntimeName, TaskKind, TrialState
from orchestrator.spec import FILES, NETWORK, VALIDATION, Artifact, EpochReport, TrialResult, TrialSpec
from orchestrator.worker.firmware_plan import plan_facts
from orchestrator.worker.front_end import front_end_facts
from orchestrator.worker.identity import dense_identity, shared_parents
from orchestrator.worker.shared_task import code_here, digest_here, task_here
from pruning.engine.landing import UnreachableBudgetError
from pruning.loop import run_loop
from pruning.methods import method
from pruning.training.checkpoint import remove_checkpoint
from pruning.training.evaluation import float_accuracy, int8_accuracy, int8_inputs, int8_outputs
from pruning.training.metrics import confusion, score_card
from pruning.training.objective import Objective
from pruning.training.problem import (
    CannotTakeError,
    DivergedError,
    Infeasible,
    Outcome,
    Problem,
    Progress,
    Report,
    Settings,
    StoppedError,
)
from pruning.training.trained import TrainedNetwork
from reports.apart import Validation
from reports.columns import used_columns
from search_spaces.choices import TrainingChoice
from search_spaces.factories import load_reference
from search_spaces.networks import build_network
from search_spaces.tasks import Task
from search_spaces.tasks.task import labels_of

SELF_TEST_SAMPLES = 8
"""Test samples stored with the model, for the firmware's self test."""

FIRMWARE_SAMPLES = 2
"""Test samples that the firmware runs in the emulator."""

CHECKED_SAMPLES = 16
"""Test samples on which the reference interpreter is compared with the interpreter, bit by bit."""


def run_trial(spec: TrialSpec, artifacts: Path, report: Callable[[EpochReport], bool]) -> TrialResult:
    """Run one trial.

    Args:
        spec: everything that determines the result.
        artifacts: root under which ``<spec hash>/`` is written.
        report: called after every epoch; False asks the trial to stop.

    Returns:
        The result. State ``infeasible`` if the method cannot meet the budget, ``cannot`` if it does not support the
            network, ``stopped`` for a stopped trial, ``failed`` for a diverged one, each with a reason; a defect, or a
            fault of the machine, raises.
    """
    started = time.monotonic()
    if spec.data is not None and spec.data != digest_here(spec.task):
        raise InputError(f"task {spec.task.name!r}: its data changed since this trial was planned; launch a new study")
    if spec.code is not None and spec.code != code_here(spec.network, spec.training):
        raise InputError("the code beside the sweep changed since this trial was planned; launch a new study")
    try:
        task = task_here(spec.task)
        problem, settings = inheriting(problem_of(spec, task), spec, artifacts), settings_of(spec, artifacts)
        torch.manual_seed(spec.seed)
        answer = _answer(spec, problem, settings, lambda progress: report(_epoch_report(progress)))
    except UnreachableBudgetError as error:
        return _ended(TrialState.INFEASIBLE, str(error), started, **_held(spec, error.smallest))
    except StoppedError as stop:
        remove_checkpoint(artifacts / spec.hash())
        return _ended(TrialState.STOPPED, str(stop), started)
    except CannotTakeError as error:
        remove_checkpoint(artifacts / spec.hash())
        return _ended(TrialState.CANNOT, f"{spec.method} cannot take this network: {error}", started)
    except DivergedError as error:
        remove_checkpoint(artifacts / spec.hash())  # a retry starts again
        return _ended(TrialState.FAILED, f"diverged: {error}", started)
    remove_checkpoint(artifacts / spec.hash())
    if isinstance(answer, Infeasible):
        used = answer.smallest
        return _ended(TrialState.INFEASIBLE, answer.reason, started, **_held(spec, used))
    return _complete(spec, task, problem, answer, artifacts, started)


def _answer(spec: TrialSpec, problem: Problem, settings: Settings, report: Report) -> Outcome | Infeasible:
    """What the trial's method made, in our loop or in the user's."""
    if spec.training.loop is None:
        return method(spec.method).run(problem, spec.budget, settings, report)
    loop = load_reference(spec.training.loop, spec.training.base)
    return run_loop(loop, method(spec.method), problem, spec.budget, settings, report)


def problem_of(spec: TrialSpec, task: Task) -> Problem:
    """Input of the trial's method: network, training and validation data, runtime."""

    def network() -> torch.nn.Module:
        return build_network(spec.network, task.input_shape, task.outputs, spec.seed, task.cells)

    mean, std = task.normalise
    return Problem(
        network, task.input_shape, task.outputs,
        task.x_train, task.y_train, task.x_val, task.y_val, tuple(mean), tuple(std), task.augment,
        Runtime(spec.runtime, spec.device, task.front_end if spec.front_end_counts else None, spec.budget),
        objective_of(spec.training, task), spec.training.class_weights,
        spec.network.frozen, spec.network.round_to, dense_identity(spec),
    )  # fmt: skip


def inheriting(problem: Problem, spec: TrialSpec, artifacts: Path) -> Problem:
    """The problem with the trained networks of the trial's lineage.

    Raises:
        InputError: if one of their files is missing or damaged.
    """

    def trained(name: str | None) -> TrainedNetwork | None:
        return TrainedNetwork.read(artifacts / name / FILES[NETWORK]) if name else None

    return replace(problem, ancestor=trained(spec.ancestor), teacher=trained(spec.parent))


def objective_of(training: TrainingChoice, task: Task) -> Objective:
    """Loss and metric of a trial.

    Raises:
        InputError: for a metric that does not suit the task.
    """
    check_metric(task.kind, training.metric, task.name)
    loss, score = (load_reference(name, training.base) if name else None for name in (training.loss, training.score))
    return Objective(task.kind, training.metric, loss, score).fitted(task.y_train)


def settings_of(spec: TrialSpec, artifacts: Path) -> Settings:
    """Training settings of the trial, and its checkpoint folder.

    Raises:
        InputError: if it requires a GPU and there is none.
    """
    wanted = spec.training.device
    device = ("cuda" if torch.cuda.is_available() else "cpu") if wanted == "auto" else wanted
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("[training] device = 'cuda': torch sees no GPU here; allowed are 'auto' and 'cpu'")
    training, shared = spec.training, shared_parents(spec)
    return Settings(
        training.epochs, training.batch_size, spec.seed, device,
        checkpoint=artifacts / spec.hash(), parents=artifacts / shared if shared else None,
        hyperparameters={n: value for n, value in spec.hyperparameters.items() if n not in spec.task.searched},
    )  # fmt: skip


def _epoch_report(progress: Progress) -> EpochReport:
    used = progress.resources
    return EpochReport(
        step=progress.step,
        epochs_done=progress.epochs_done,
        val_accuracy=progress.val_accuracy,
        flash=used.flash,
        sram=used.sram,
        macs=used.macs,
        phase=progress.phase,
    )


def _planned(problem: Problem, outcome: Outcome) -> PlanChoice | None:
    """The plan of the trial's C program; None where there can be none."""
    try:
        return problem.runtime.choose_plan(outcome.model)
    except InputError:
        return None


def _firmware(
    spec: TrialSpec, problem: Problem, outcome: Outcome, used: Resources, test: np.ndarray, choice: PlanChoice | None
) -> dict[str, Any]:
    """Columns of our C program on the trial's device, where firmware is built for it and the tools are installed.

    With the flash and SRAM of the front end if the budget bounds them. Without tools, what such a budget bounds is
    predicted.
    """
    known: dict[str, Any] = {}
    if spec.runtime is RuntimeName.FIRMWARE:
        known = {"flash_firmware": used.flash, "sram_firmware": used.sram}
    if spec.device is None or choice is None:
        return known
    try:
        measured = measure_firmware(outcome.model, find_device(spec.device), test[:FIRMWARE_SAMPLES], plan=choice.plan)
    except InputError:
        return known
    if not measured.bit_exact:
        raise RuntimeError(
            f"the firmware of trial {spec.hash()[:12]} disagrees with the interpreter on {measured.board}"
        )
    flash, sram = problem.runtime.before()
    return {
        "flash_firmware": flash + measured.flash_firmware,
        "sram_firmware": sram + measured.sram_firmware,
        "instructions": measured.instructions,
    }


def _held(spec: TrialSpec, used: Resources) -> dict[str, Any]:
    """Resources on the trial's runtime and how they stand against the budget, as columns."""
    violation = spec.budget.violation(used)
    return {
        **{column: getattr(used, name) for name, column in used_columns(spec.runtime).items()},
        "violation": violation,
        "feasible": violation == 0,
        "binding_use": spec.budget.binding_use(used),
    }


def _ended(state: Any, reason: str, started: float, **columns: Any) -> TrialResult:
    return TrialResult(state=state, reason=reason, duration_s=time.monotonic() - started, **columns)


def _complete(
    spec: TrialSpec, task: Task, problem: Problem, outcome: Outcome, artifacts: Path, started: float
) -> TrialResult:
    measured = measure_model(outcome.data)
    used = problem.runtime.measure(outcome.model, outcome.data)
    reference, choice = ReferenceInterpreter(outcome.model), _planned(problem, outcome)
    test = int8_inputs(outcome.model, task.x_test, problem)
    check_against_interpreter(outcome.data, reference, (test[:CHECKED_SAMPLES],))
    answers = {
        "test": int8_outputs(reference, test)[0],
        "val": int8_outputs(reference, int8_inputs(outcome.model, task.x_val, problem))[0],
    }
    return TrialResult(
        state=TrialState.INFEASIBLE if outcome.shortfall else TrialState.COMPLETE,
        reason=outcome.shortfall,
        accuracy=int8_accuracy(outcome.model, task.x_test, task.y_test, problem, answers["test"]),
        val_accuracy=int8_accuracy(outcome.model, task.x_val, task.y_val, problem, answers["val"]),
        float_accuracy=float_accuracy(outcome.folded_network, task.x_test, task.y_test, problem),
        flash=measured.flash,
        sram=measured.sram,
        sram_activations=measured.sram_activations,
        macs=measured.macs,
        violation=spec.budget.violation(used),
        feasible=spec.budget.admits(used),
        binding_use=spec.budget.binding_use(used),
        measured=measured.measured,
        duration_s=time.monotonic() - started + outcome.shared_seconds,
        dense=outcome.dense,
        widths=outcome.widths,
        dense_widths=outcome.dense_widths,
        trajectory=outcome.trajectory,
        artifacts=_write(spec, task, outcome, measured, reference, test, choice, artifacts)
        | _scores(spec, task, problem, answers, artifacts),
        **_firmware(spec, problem, outcome, used, test, choice),
    )


def _scores(
    spec: TrialSpec, task: Task, problem: Problem, answers: dict[str, np.ndarray], artifacts: Path
) -> dict[str, Artifact]:
    """Class by class how the int8 model fares in validation and test; nothing for what has no classes.

    And which validation samples it gets right, where their share is what it is judged by.
    """
    if task.kind is not TaskKind.CLASSIFICATION:
        return {}
    truth = {"test": task.y_test, "val": task.y_val}
    card = {
        split: score_card(confusion(truth[split], found.argmax(1), len(task.classes)), task.classes)
        for split, found in answers.items()
    }
    kept = {"scores": _store(artifacts, spec.hash(), FILES["scores"], _json(card))}
    if problem.objective.metric == Metric.ACCURACY and problem.objective.score_function is None:
        right = Validation.of(task.y_val, answers["val"].argmax(1))
        kept[VALIDATION] = _store(artifacts, spec.hash(), FILES[VALIDATION], right.encode())
    return kept


def _input(reference: ReferenceInterpreter) -> QTensor:
    return reference.model.tensors[reference.model.input]


def _write(
    spec: TrialSpec,
    task: Task,
    outcome: Outcome,
    measured: Measurement,
    reference: ReferenceInterpreter,
    test: np.ndarray,
    choice: PlanChoice | None,
    artifacts: Path,
) -> dict[str, Artifact]:
    """Store the model, what a board needs to use it, and a self test; each file appears whole or not at all."""
    samples = test[:SELF_TEST_SAMPLES]
    deployment = {
        "task": task.name,
        "classes": list(task.classes),
        "input_shape_nchw": list(task.input_shape),
        "normalise": {
            "divide_by": 255 if task.x_test.dtype == np.uint8 else 1,
            "mean": list(task.normalise[0]),
            "std": list(task.normalise[1]),
        },
        **_outputs(spec, task),
        "input": {"scale": _input(reference).scale, "zero_point": _input(reference).zero_point},
        "self_test": {
            "inputs_nhwc": samples.tolist(),
            "outputs": reference.run(samples).reshape(len(samples), -1).tolist(),
            "labels": labels_of(task.y_test[:SELF_TEST_SAMPLES], task.kind).tolist(),
        },
        "spec": spec.model_dump(mode="json"),
        "measured": measured.measured,
        **front_end_facts(task.front_end, spec.device, spec.front_end_counts),
        **plan_facts(choice),
    }
    files = {"model": outcome.data, "deployment": _json(deployment)}
    if spec.leaves_network and outcome.trained is not None:
        files[NETWORK] = outcome.trained.encode()
    return {name: _store(artifacts, spec.hash(), FILES[name], data) for name, data in files.items()}


def _outputs(spec: TrialSpec, task: Task) -> dict[str, Any]:
    """How the board reads the answer, where it is no score of classes."""
    if task.kind is TaskKind.CLASSIFICATION:
        return {}
    objective = objective_of(spec.training, task)
    values = {"values": {"mean": objective.means, "std": objective.deviations}} if objective.means else {}
    return {"kind": str(task.kind), **values}


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


def _store(artifacts: Path, folder: str, name: str, data: bytes) -> Artifact:
    target = artifacts / folder / name
    write_atomic(target, data)
    return Artifact(path=f"{folder}/{name}", sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))
