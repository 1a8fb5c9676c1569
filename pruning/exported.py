"""A finished model: int8, measured, ready to be saved or written as firmware."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from mcu.budget import Budget, Resources
from mcu.cost.deployment import write_deployment
from mcu.errors import InputError
from mcu.firmware import LibraryModel, write_library, write_project
from mcu.firmware.library import FOLDER, library_form
from mcu.int8.folded_net import FoldedNet
from mcu.int8.model import Int8Model
from mcu.int8.quantize import quantise
from mcu.int8.reference_interpreter import ReferenceInterpreter
from mcu.measure import model_input
from mcu.runtime import Runtime
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
    """

    model: Int8Model
    data: bytes
    resources: Resources
    network: nn.Module
    val_score: float | None = None

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
        return cls(model, data, used, exact)

    def save(self, path: str | Path) -> None:
        """Write the .tflite file."""
        Path(path).write_bytes(self.data)

    def predict(self, x: np.ndarray | torch.Tensor) -> np.ndarray:
        """Outputs of the int8 model, dequantised.

        Args:
            x: inputs ``(N, ...)`` as in training.

        Returns:
            float32 ``(N, ...)`` in the order of the network's own output, flat: ``(N, values)``.
        """
        return int8_outputs(ReferenceInterpreter(self.model), model_input(self.model, np.asarray(x, np.float32)))

    def firmware(self, folder: str | Path, name: str = "model") -> None:
        """Write a complete C project of the model into a folder.

        Raises:
            InputError: if the kernels cannot express an operator.
        """
        write_project(self.model, Path(folder), name=name)

    def library(self, folder: str | Path, form: str, name: str = "mcusweep") -> None:
        """Write ``mcusweep_model``, a library for another build system, into a folder.

        Args:
            form: ``arduino``, ``platformio``, ``zephyr``, ``esp-idf`` or ``cmake``.
            name: prefix of its functions.

        Raises:
            InputError: if the form or the name is not allowed, or the kernels cannot express an operator.
        """
        write_library([LibraryModel(name, self.model)], Path(folder) / FOLDER, library_form(form))


def calibration_samples(source: Any, device: torch.device) -> torch.Tensor:
    """Up to ``CALIBRATION_SAMPLES`` inputs, as the network takes them.

    Args:
        source: an array or tensor ``(N, ...)``, or an iterable of batches such as a ``DataLoader``; where a batch has
            several entries the first is the input.

    Raises:
        InputError: if there are none.
    """
    if isinstance(source, np.ndarray | torch.Tensor):
        stride = max(1, len(source) // CALIBRATION_SAMPLES)  # data may come sorted by class
        batches: list[torch.Tensor] = [torch.as_tensor(source[::stride][:CALIBRATION_SAMPLES])]
    elif isinstance(source, Iterable):
        batches, count = [], 0
        for batch in source:
            batches.append(torch.as_tensor(batch[0] if isinstance(batch, list | tuple) else batch))
            count += len(batches[-1])
            if count >= CALIBRATION_SAMPLES:
                break
    else:
        raise InputError(f"calibration = {type(source).__name__}: must be an array, a tensor or an iterable of batches")
    if not batches or not len(batches[0]):
        raise InputError("calibration: holds no samples; a few hundred inputs of the training data are needed")
    return torch.cat([batch.to(device).float() for batch in batches])[:CALIBRATION_SAMPLES]
