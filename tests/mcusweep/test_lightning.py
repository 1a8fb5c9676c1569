"""The callback in the real Lightning; skipped where it is not installed."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from mcu.budget import Budget, Resources
from mcu.errors import InputError
from mcu.measure import measure_model

lightning = pytest.importorskip("lightning", reason="needs the extra [lightning]: the callback is NOT tested")
pytestmark = pytest.mark.filterwarnings("ignore")

BUDGET = Budget(flash=4_300)
Y = torch.randint(0, 4, (256,), generator=torch.Generator().manual_seed(0))
X = 0.4 * torch.rand(256, 1, 8, 8, generator=torch.Generator().manual_seed(1))
X += 0.6 * (torch.arange(8)[None, :] // 2 == Y[:, None])[:, None, :, None]


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(12, 24, 3, padding=1, bias=False), nn.BatchNorm2d(24), nn.ReLU())
        self.head = nn.Linear(24, 4)

    def forward(self, x):
        return self.head(self.body(self.stem(x)).mean((2, 3)))


class Classifier(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.network = Net()

    def training_step(self, batch, index):
        x, y = batch
        return functional.cross_entropy(self.network(x), y)

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), 3e-3)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 2)]


def fit(epochs=4, callbacks=(), resume=None, folder=None, **options):
    from mcusweep.integrations.lightning import PruningCallback

    lightning.seed_everything(0, verbose=False)
    pruning = PruningCallback(BUDGET, X[:1], **options)
    trainer = lightning.Trainer(
        max_epochs=epochs, callbacks=[pruning, *callbacks], accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=bool(callbacks), gradient_clip_val=1.0,
        default_root_dir=folder,
    )  # fmt: skip
    trainer.fit(Classifier(), DataLoader(TensorDataset(X, Y), 32), ckpt_path=resume)
    return pruning


def check(pruning):
    measured = measure_model(pruning.model.data)
    assert BUDGET.admits(Resources(measured.flash, measured.sram, measured.macs))
    assert BUDGET.binding_use(pruning.model.resources) >= 0.9
    assert sum(pruning.pruner.widths.values()) < 36


def test_a_lightning_module_is_pruned_into_its_budget():
    pruning = fit()
    check(pruning)
    predicted = torch.as_tensor(pruning.model.predict(X).argmax(1))
    assert (predicted == Y).float().mean() > 0.5


def test_a_run_goes_on_from_lightnings_own_checkpoint(tmp_path):
    from lightning.pytorch.callbacks import ModelCheckpoint

    whole = fit(steps=32)
    keep = ModelCheckpoint(tmp_path, filename="epoch", every_n_epochs=1, save_top_k=-1)
    fit(epochs=2, steps=16, callbacks=[keep], folder=tmp_path)  # its own end is never reached again
    keep = ModelCheckpoint(tmp_path / "long", filename="{epoch}", every_n_epochs=1, save_top_k=-1)
    fit(steps=32, callbacks=[keep], folder=tmp_path)
    first = next(path for path in (tmp_path / "long").iterdir() if "epoch=1" in path.name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        again = fit(steps=32, resume=first, folder=tmp_path)
    assert again.model.data == whole.model.data


def test_accumulated_batches_count_as_one_step():
    lightning.seed_everything(0, verbose=False)
    from mcusweep.integrations.lightning import PruningCallback

    pruning = PruningCallback(BUDGET, X[:1])
    trainer = lightning.Trainer(
        max_epochs=6, callbacks=[pruning], accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False, accumulate_grad_batches=2,
    )  # fmt: skip
    trainer.fit(Classifier(), DataLoader(TensorDataset(X, Y), 32))
    assert pruning.pruner.trajectory[-1]["step"] == 24
    check(pruning)


def test_a_module_without_the_network_is_told_what_it_has():
    with pytest.raises(InputError, match=r"no network 'encoder'; attribute may be one of network"):
        fit(attribute="encoder")
