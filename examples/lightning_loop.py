"""Pruning inside a Lightning Trainer: one callback.

pip install 'mcusweep[lightning]'
python examples/lightning_loop.py --epochs 8
"""

import argparse

import lightning
import torch
from own_loop import digits, network
from torch.nn import functional
from torch.utils.data import DataLoader

from mcusweep import Budget
from mcusweep.integrations.lightning import PruningCallback


class Digits(lightning.LightningModule):
    """A classifier of written digits; the callback finds its network by the name of the attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.network = network()

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], index: int) -> torch.Tensor:
        """Cross-entropy of a batch."""
        x, y = batch
        return functional.cross_entropy(self.network(x), y)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """NAdam."""
        return torch.optim.NAdam(self.parameters(), 2e-3)


def main() -> None:
    """Train, prune on the way, export."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--flash", default="10KB")
    parser.add_argument("--output", default="model.tflite")
    options = parser.parse_args()
    lightning.seed_everything(0)
    train, validation = digits()
    budget = Budget(flash=options.flash, sram="12KB")
    pruning = PruningCallback(budget, example_input=train[0][0][None])
    trainer = lightning.Trainer(
        max_epochs=options.epochs, callbacks=[pruning], accelerator="cpu", logger=False, enable_checkpointing=False
    )
    trainer.fit(Digits(), DataLoader(train, 64, shuffle=True, drop_last=True))
    model = pruning.model
    assert model is not None
    model.save(options.output)
    x, y = validation.tensors
    right = (model.predict(x).argmax(1) == y.numpy()).mean()
    print(f"{options.output}: {model.resources}, int8 validation accuracy {right:.1%}; {budget} was the budget")


if __name__ == "__main__":
    main()
