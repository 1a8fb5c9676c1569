"""Pruning inside a Lightning Trainer: ``pip install 'mcusweep[lightning]'``.

class Classifier(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.network = build()
    ...

pruning = PruningCallback(Budget(flash="64KB"), example_input=x[:1])
lightning.Trainer(max_epochs=20, callbacks=[pruning]).fit(Classifier(), loader)
pruning.model.save("model.tflite")
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel

from mcu.budget import Budget
from mcu.errors import InputError
from pruning.exported import ExportedModel
from pruning.pruner import Pruner

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
except ModuleNotFoundError as error:
    raise InputError("PruningCallback: Lightning is missing: pip install 'mcusweep[lightning]'") from error


class PruningCallback(Callback):
    """Prunes the network of a LightningModule while a Trainer fits it.

    The network is replaced by a ``Pruner`` of it before optimisers are configured, so all optimisers are kept in step.
    Gradient accumulation, clipping, mixed precision, checkpoints and DDP work as usual.

    Args:
        budget: upper bounds for the exported int8 model, checked on measured bytes.
        example_input: a batch ``(N, ...)``, or a tuple of one for each input; only shapes are used.
        attribute: name of the network in the module.
        steps: optimiser steps of the whole training; the Trainer's own estimate if None.
        calibration: inputs for the export at the end; the training data loader if None.
        options: of ``Pruner``.

    Attributes:
        pruner: the network under pruning.
        model: the int8 model, once the training has ended.
    """

    def __init__(
        self,
        budget: Budget,
        example_input: torch.Tensor | Sequence[torch.Tensor],
        *,
        attribute: str = "network",
        steps: int | None = None,
        calibration: Any = None,
        **options: Any,
    ) -> None:
        self.budget, self.example_input, self.attribute = budget, example_input, attribute
        self.steps, self.calibration, self.options = steps, calibration, options
        self.pruner: Pruner | None = None
        self.model: ExportedModel | None = None
        self._seen = 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Replace the network by the pruner."""
        network = getattr(pl_module, self.attribute, None)
        if isinstance(network, Pruner):
            self.pruner = network
        elif not isinstance(network, torch.nn.Module):
            held = ", ".join(name for name, _ in pl_module.named_children()) or "none"
            raise InputError(f"PruningCallback: no network {self.attribute!r}; attribute may be one of {held}")
        elif stage == "fit":
            steps = int(trainer.estimated_stepping_batches) if self.steps is None else self.steps
            self.pruner = Pruner(network, self.example_input, self.budget, steps, **self.options)
            setattr(pl_module, self.attribute, self.pruner)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Attach the optimisers."""
        wrapped = trainer.strategy.model
        parallel = wrapped if isinstance(wrapped, DistributedDataParallel) else None
        for optimizer in trainer.optimizers:
            self._pruner.attach(
                optimizer, parallel=parallel, scaler=getattr(trainer.strategy.precision_plugin, "scaler", None)
            )
        self._seen = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """After every step of the optimiser."""
        if trainer.global_step != self._seen:
            self._seen = trainer.global_step
            self._pruner.step()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Export."""
        calibration = trainer.train_dataloader if self.calibration is None else self.calibration
        self.model = self._pruner.export(calibration=calibration)

    @property
    def _pruner(self) -> Pruner:
        if self.pruner is None:
            raise InputError("PruningCallback: the Trainer has not set it up; call trainer.fit")
        return self.pruner
