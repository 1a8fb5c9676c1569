"""The user's loop with a network of several inputs and outputs: a loss over all of them, exported as one model."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from mcu.budget import Budget
from mcu.errors import InputError
from mcu.measure import measure_model
from pruning.engine.depth import branches, without
from pruning.engine.network import Constraints
from pruning.exported import calibration_samples
from pruning.prune import prune
from pruning.pruner import Pruner

STEPS = 40
COUNT = 256
KIND = torch.randint(0, 3, (COUNT,), generator=torch.Generator().manual_seed(0))
LOUD = torch.randint(0, 2, (COUNT,), generator=torch.Generator().manual_seed(1))
IMAGE = 0.4 * torch.rand(COUNT, 1, 12, 12, generator=torch.Generator().manual_seed(2))
IMAGE += 0.6 * (torch.arange(12)[None, :] // 4 == KIND[:, None])[:, None, :, None]  # a bright band tells the kind
SIDE = torch.stack([LOUD.float(), torch.rand(COUNT, generator=torch.Generator().manual_seed(3))], 1)
BUDGET = Budget(flash=6_000, sram=10_000, macs=180_000)


class Two(nn.Module):
    """An image and two numbers; what is there, and whether it is loud."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12), nn.ReLU())
        self.block = nn.Sequential(
            nn.Conv2d(12, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12), nn.ReLU(),
            nn.Conv2d(12, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12),
        )  # fmt: skip
        self.down = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(12, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU())
        self.side, self.kind, self.loud = nn.Linear(2, 8), nn.Linear(24, 3), nn.Linear(32, 2)

    def forward(self, image, side=None):
        x = self.stem(image)
        x = self.down(torch.relu(x + self.block(x))).mean((2, 3))
        return {"kind": self.kind(x), "loud": self.loud(torch.cat([x, functional.relu(self.side(side))], 1))}


class NeedsBoth(Two):
    def forward(self, image, side):
        return super().forward(image, side)


def begun(budget=BUDGET, **options):
    torch.manual_seed(0)
    pruner = Pruner(Two(), (IMAGE[:1], SIDE[:1]), budget, STEPS, **options)
    optimizer = torch.optim.AdamW(pruner.parameters(), 5e-3)
    pruner.attach(optimizer)
    return pruner, optimizer


def take(pruner, optimizer, step):
    index = torch.randint(0, COUNT, (48,), generator=torch.Generator().manual_seed(step))
    answer = pruner(IMAGE[index], side=SIDE[index])
    loss = functional.cross_entropy(answer["kind"], KIND[index]) + functional.cross_entropy(answer["loud"], LOUD[index])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    pruner.step()


def test_a_loss_over_all_outputs_ends_in_one_model_inside_the_budget():
    pruner, optimizer = begun()
    average = torch.optim.swa_utils.AveragedModel(pruner)
    for step in range(STEPS):
        take(pruner, optimizer, step)
        average.update_parameters(pruner)
    assert set(average(IMAGE[:4], SIDE[:4])) == {"kind", "loud"}
    pruner.export((IMAGE, SIDE), weights=average)
    optimizer.param_groups[0]["lr"] *= 0.01
    pruner.quantise((IMAGE, SIDE))
    for step in range(8):
        take(pruner, optimizer, step)
    model = pruner.export()
    measured = measure_model(model.data)
    assert BUDGET.admits(model.resources)
    assert (measured.flash, measured.sram) == (model.resources.flash, model.resources.sram)
    pruner.eval()
    found, wanted = model.predict(IMAGE, SIDE), pruner(IMAGE, SIDE)
    for name in ("kind", "loud"):
        assert (found[name].argmax(1) == wanted[name].argmax(1).numpy()).mean() > 0.9
    assert [port.name for port in model.model.inputs] == ["image", "side"]
    assert [port.name for port in model.model.outputs] == ["kind", "loud"]


def test_a_loop_that_was_cut_off_goes_on_to_the_bit():
    whole, optimizer = begun()
    for step in range(16):
        take(whole, optimizer, step)
    state = copy.deepcopy((whole.state_dict(), optimizer.state_dict()))
    other, second = begun()
    other.load_state_dict(state[0])
    second.load_state_dict(state[1])
    for step in range(16, 22):
        take(whole, optimizer, step)
        take(other, second, step)
    assert whole.widths == other.widths
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), other.parameters(), strict=True))


def test_branches_are_judged_by_the_change_of_all_outputs():
    pruner, optimizer = begun()
    take(pruner, optimizer, 0)
    run = pruner._run
    run.network.detach_gates()
    (branch,) = branches(run.network.constraints.trace(run.network.module))
    shorter = run.network.constraints.trace(without(run.network.module, [branch.removal]))
    assert [port.name for port in shorter.graph.outputs] == ["kind", "loud"]
    assert run.judge(run.network.module) == 0 < run.judge(shorter.module)


@pytest.mark.parametrize(
    "source",
    [
        (IMAGE, SIDE.numpy()),
        [(IMAGE[:100], SIDE[:100], KIND[:100]), (IMAGE[100:], SIDE[100:], KIND[100:])],
        [((IMAGE, SIDE), (KIND, LOUD))],
        [{"side": SIDE, "kind": KIND, "image": IMAGE}],
    ],
)
def test_calibration_takes_what_loaders_give(source):
    found = calibration_samples(source, torch.device("cpu"), ("image", "side"))
    assert torch.equal(found[0], IMAGE)
    assert torch.equal(found[1], SIDE)


def test_mistakes_are_named():
    with pytest.raises(
        InputError, match=r"an input of shape \(1, 12, 12\) does not pass through it \(test_pruner_ports.py"
    ):
        Pruner(Two(), IMAGE[:1], BUDGET, STEPS)
    with pytest.raises(InputError, match="it takes several inputs; allowed here is one tensor of logits"):
        prune(NeedsBoth(), train=(IMAGE, KIND), val=(IMAGE, KIND), budget=BUDGET)
    pruner, _ = begun()
    for given, named in (((IMAGE,), {}), ((IMAGE, SIDE, SIDE), {}), ((IMAGE, SIDE), {"mask": SIDE})):
        with pytest.raises(InputError, match="it takes the tensors image, side, as in its example inputs"):
            pruner(*given, **named)
    with pytest.raises(InputError, match=r"2 inputs of \[256, 10\] examples; the network takes image, side"):
        calibration_samples((IMAGE, SIDE[:10]), torch.device("cpu"), ("image", "side"))
    assert np.array_equal(Constraints(((1, 12, 12), (2,))).trace(Two()).graph.widths, pruner._run.network.graph.widths)
