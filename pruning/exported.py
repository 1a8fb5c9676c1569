"""A finished model: int8, measured, ready to be saved or written as firmware."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from mcu.budget import Budget, Resources
from mcu.cost.deployment import write_deployment
from mcu.cost.firmware_memory import FirmwarePlan, plan_memory
from mcu.errors import InputError
from mcu.firmware import LibraryModel, write_library, write_project
from mcu.firmware.library import FOLDER, library_form
from mcu.graph.ports import Shape, Shapes, shapes_of
from mcu.int8.folded_net import FoldedNet
from mcu.int8.model import Int8Model
from mcu.int8.quantize import quantise
from mcu.int8.reference_interpreter import ReferenceInterpreter
from mcu.measure import model_inputs
from mcu.runtime import Runtime
from mcu.tracing.capture import first_line
from pruning.engine.surgery import narrowed
from pruning.training.evaluation import int8_outputs
from pruning.training.job import Charge
from pruning.training.problem import require_within

CALIBRATION_SAMPLES = 512


@dataclass(frozen=True)
class ExportedModel:
    """An int8 model within its budget.

    Attributes:
        model: its operators, weights and scales.
        data: its .tflite file.
        resources: measured.
        network: the folded float network, for the same inputs.
        val_score: of the int8 model on validation data, if given.
        runtime: with the bounds by which the plan of its C program is chosen.
        images: whether it was trained on uint8 images as ``x / 255``, which ``predict`` then takes as well.
    """

    model: Int8Model
    data: bytes
    resources: Resources
    network: nn.Module
    val_score: float | None = None
    runtime: Runtime = field(default_factory=Runtime)
    images: bool = False

    @classmethod
    def of(
        cls,
        network: FoldedNet,
        widths: np.ndarray,
        budget: Budget,
        runtime: Runtime,
        maker: str,
        charge: Charge | None = None,
    ) -> ExportedModel:
        """The model of a calibrated network, without channels above the ``widths`` ``(groups,)``.

        Raises:
            BudgetMissedError: if it is over its budget: a defect, never a result.
        """
        exact = narrowed(network, [np.arange(width) for width in widths])
        model = quantise(exact)
        data = write_deployment(model)
        used = runtime.measure(model, data)
        require_within(budget, charge(model, used) if charge else used, maker)
        exact.fake_quantise(False)
        return cls(model, data, used, exact, runtime=runtime)

    def save(self, path: str | Path) -> None:
        """Write the .tflite file.

        Raises:
            InputError: if it cannot be written.
        """
        with _written(path) as file:
            file.write_bytes(self.data)

    def predict(self, *x: np.ndarray | torch.Tensor) -> Any:
        """Outputs of the int8 model, dequantised.

        Args:
            x: inputs ``(N, ...)`` as the network took them in training (images ``(N, C, H, W)``, scaled and normalised
                alike), in order. After ``prune`` with uint8 images also these.

        Returns:
            float32 ``(N, values)``: each output flat, in the order of the network's own; of several outputs a dict of
            these by name.

        Raises:
            InputError: for inputs of another shape or number, of 8-bit integers where training had none, or with NaN.
        """
        codes = model_inputs(self.model, [_real(given, self.images) for given in x])
        found = int8_outputs(ReferenceInterpreter(self.model), *codes)
        return found[0] if len(found) == 1 else {p.name: y for p, y in zip(self.model.outputs, found, strict=True)}

    def firmware(self, folder: str | Path, name: str = "model", hop: int | None = None) -> None:
        """Write a complete C project of the model into a folder.

        Args:
            hop: of a stream, rows of the input that are new in every run; None for inputs that have nothing to do with
                each other.

        Raises:
            InputError: if the kernels cannot express an operator, the hop saves nothing, or the folder cannot be
                written.
        """
        with _written(folder) as place:
            write_project(self.model, place, name=name, plan=self._plan(hop), hop=hop)

    def library(self, folder: str | Path, form: str, name: str = "mcusweep", hop: int | None = None) -> None:
        """Write ``mcusweep_model``, a library for another build system, into a folder.

        Args:
            form: ``arduino``, ``platformio``, ``zephyr``, ``esp-idf`` or ``cmake``.
            name: prefix of its functions.
            hop: as of ``firmware``.

        Raises:
            InputError: if the form or the name is not allowed, the kernels cannot express an operator, or the folder
                cannot be written.
        """
        one = LibraryModel(name, self.model, hop=hop, plan=self._plan(hop))
        with _written(folder) as place:
            write_library([one], place / FOLDER, library_form(form))

    def _plan(self, hop: int | None) -> FirmwarePlan:
        return self.runtime.choose_plan(self.model).plan if hop is None else plan_memory(self.model, hop=hop)


@contextmanager
def _written(path: str | Path) -> Iterator[Path]:
    """Refuse a path that nothing can be written to."""
    if not isinstance(path, str | os.PathLike) or "\0" in str(path):
        raise InputError(f"{path!r}: cannot be written: allowed is a path")
    try:
        yield Path(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from None


def _real(given: Any, images: bool) -> np.ndarray:
    """Inputs as float32; uint8 images divided by 255."""
    if isinstance(given, torch.Tensor):
        given = given.detach().cpu()
        given = given.float() if given.is_floating_point() else given
    values = np.asarray(given)
    if values.dtype == np.uint8 and images:
        return values.astype(np.float32) / np.float32(255)
    if values.dtype.kind not in "biuf" or values.dtype in (np.uint8, np.int8):
        raise InputError(f"predict: inputs are {values.dtype}; allowed are real values, scaled as in training")
    return values.astype(np.float32)


def calibration_samples(
    source: Any, device: torch.device, inputs: Sequence[str] = ("x",), shapes: Shapes | None = None
) -> tuple[torch.Tensor, ...]:
    """Up to ``CALIBRATION_SAMPLES`` examples of each input, as the network takes them.

    Args:
        source: an array or tensor ``(N, ...)``, of several inputs a tuple of them, or an iterable of batches such as a
            ``DataLoader``; of a batch with several entries the first ones are the inputs, or the first is a tuple of
            them, or those of their names.
        inputs: names of the network's inputs.
        shapes: of one example of each; not checked if None.

    Raises:
        InputError: if there are none, or they are not what the network takes: of another shape, 8-bit integers, or
            with NaN or infinity.
    """
    whole = source if isinstance(source, tuple) and len(inputs) > 1 else (source,)
    if all(isinstance(part, np.ndarray | torch.Tensor) for part in whole):
        stride = max(1, len(whole[0]) // CALIBRATION_SAMPLES)  # data may come sorted by class
        batches = [_inputs_of([part[::stride][:CALIBRATION_SAMPLES] for part in whole], inputs)]
    elif isinstance(source, Iterable):
        batches, count = [], 0
        for batch in source:
            batches.append(_inputs_of(batch, inputs))
            count += len(batches[-1][0])
            if count >= CALIBRATION_SAMPLES:
                break
    else:
        raise InputError(f"calibration = {type(source).__name__}: must be an array, a tensor or an iterable of batches")
    if not batches or not len(batches[0][0]):
        raise InputError("calibration: holds no samples; a few hundred inputs of the training data are needed")
    for batch in batches:
        for name, given, shape in zip(
            inputs, batch, shapes_of(shapes) if shapes else [None] * len(inputs), strict=True
        ):
            _check_calibration(name, given, shape)
    return tuple(
        torch.cat([given.to(device).float() for given in column])[:CALIBRATION_SAMPLES]
        for column in zip(*batches, strict=True)
    )


def _check_calibration(name: str, given: torch.Tensor, shape: Shape | None) -> None:
    if shape is not None and given.shape[1:] != shape:
        raise InputError(
            f"calibration: {name} has shape {tuple(given.shape)}; allowed is (N, {str(tuple(shape))[1:-1].rstrip(',')})"
        )
    if given.dtype in (torch.uint8, torch.int8) or given.is_complex():
        raise InputError(f"calibration: {name} is {given.dtype}; allowed are real values, scaled as in training")
    if not bool(torch.isfinite(given).all()):
        raise InputError(f"calibration: {name} has NaN or infinite values; allowed are finite ones")


def _inputs_of(batch: Any, inputs: Sequence[str]) -> tuple[torch.Tensor, ...]:
    """The inputs among the entries of a batch."""
    if isinstance(batch, Mapping):
        found = [batch[name] for name in inputs if name in batch]
    else:
        entries = batch if isinstance(batch, list | tuple) else [batch]
        nested = bool(entries) and isinstance(entries[0], list | tuple) and len(inputs) > 1
        found = list(entries[0] if nested else entries[: len(inputs)])
    try:
        tensors = tuple(torch.as_tensor(entry) for entry in found)
    except (TypeError, ValueError) as error:
        raise InputError(f"calibration: holds what is no tensor: {first_line(error)}") from None
    if len(tensors) != len(inputs) or len({len(tensor) for tensor in tensors}) > 1:
        raise InputError(
            f"calibration: a batch has {len(tensors)} inputs of {[len(tensor) for tensor in tensors]} examples; the "
            f"network takes {', '.join(inputs)}, of as many examples each"
        )
    return tensors
