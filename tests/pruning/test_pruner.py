"""Pruning inside a loop that is not ours: any optimiser, loss and schedule, and whatever else loops do."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from mcu.budget import Budget, Resources
from mcu.errors import InputError
from mcu.measure import measure_model
from pruning.differentiable import DifferentiablePruning
from pruning.engine.landing import UnreachableBudgetError
from pruning.prune import prune
from pruning.pruner import Pruner
from pruning.training.evaluation import int8_accuracy, normalise
from pruning.training.problem import DivergedError, Settings
from pruning.training.steps import INT8_RATE, LARGEST_GRADIENT, MOMENTUM, Trainer

BUDGET = Budget(flash=5_000, sram=7_800, macs=180_000)
STEPS = 40
Y = torch.randint(0, 4, (384,), generator=torch.Generator().manual_seed(0))
X = 0.4 * torch.rand(384, 1, 12, 12, generator=torch.Generator().manual_seed(1))
X += 0.6 * (torch.arange(12)[None, :] // 3 == Y[:, None])[:, None, :, None]  # a bright band tells the class


class SmallNet(nn.Module):
    """Two convolutions, a residual depthwise-separable block and a dense head."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12), nn.ReLU())
        self.block = nn.Sequential(
            nn.Conv2d(12, 12, 3, padding=1, groups=12, bias=False), nn.BatchNorm2d(12), nn.ReLU(),
            nn.Conv2d(12, 12, 1, bias=False), nn.BatchNorm2d(12),
        )  # fmt: skip
        self.down = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(12, 24, 3, padding=1, bias=False), nn.BatchNorm2d(24))
        self.head = nn.Linear(24, 4)

    def forward(self, x):
        x = self.stem(x)
        x = (x + self.block(x)).relu()
        return self.head(self.down(x).relu().mean((2, 3)))


OPTIMIZERS = {
    "SGD": lambda p: torch.optim.SGD(p, 0.05, momentum=0.9, nesterov=True),
    "Adam": lambda p: torch.optim.Adam(p, 3e-3),
    "AdamW": lambda p: torch.optim.AdamW(p, 3e-3),
    "RMSprop": lambda p: torch.optim.RMSprop(p, 1e-3),
    "NAdam": lambda p: torch.optim.NAdam(p, 3e-3),
}


def fresh(budget=BUDGET, steps=STEPS, network=SmallNet, **options):
    torch.manual_seed(0)
    return Pruner(network(), X[:1], budget, steps, **options)


def batches(count, size=32):
    generator = torch.Generator().manual_seed(1)
    for _ in range(count):
        index = torch.randint(0, len(X), (size,), generator=generator)
        yield X[index], Y[index]


def begun(name="AdamW", **options):
    pruner = fresh(**options)
    optimizer = OPTIMIZERS[name](pruner.parameters())
    pruner.attach(optimizer)
    return pruner, optimizer


def take(pruner, optimizer, x, y):
    loss = functional.cross_entropy(pruner(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    pruner.step()
    return loss


@pytest.fixture(scope="module")
def landed():
    """A pruner at its end, and its model."""
    pruner, optimizer = begun()
    for x, y in batches(STEPS):
        take(pruner, optimizer, x, y)
    return pruner, pruner.export(calibration=X)


def assert_within(model, pruner, budget=BUDGET):
    measured = measure_model(model.data)
    used = Resources(measured.flash, measured.sram, measured.macs)
    assert budget.admits(used)
    assert budget.binding_use(used) >= 0.95
    assert model.resources == used == pruner.resources


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_loop_with_any_optimiser_ends_inside_the_budget(name):
    pruner, optimizer = begun(name)
    for x, y in batches(STEPS):
        take(pruner, optimizer, x, y)
    model = pruner.export(calibration=X)
    assert_within(model, pruner)
    for parameter, state in optimizer.state.items():
        assert all(v.shape == parameter.shape for v in state.values() if isinstance(v, torch.Tensor) and v.dim())
    assert {id(p) for p in pruner.parameters()} == {id(p) for p in optimizer.param_groups[0]["params"]}
    pruner.eval()
    agreed = model.predict(X[:100]).argmax(1) == pruner(X[:100]).argmax(1).numpy()
    assert agreed.mean() > 0.9


@pytest.mark.parametrize("stop", [1, 5, 13, 17, 18, 19, 30, 45])
def test_a_loop_that_was_cut_off_goes_on_to_the_bit(stop, tmp_path):
    def loop(pruner, optimizer, feed):
        for index, (x, y) in feed:
            if index == STEPS:
                pruner.quantise(X)
                optimizer.param_groups[0]["lr"] *= 0.01
            take(pruner, optimizer, x, y)

    steps = list(enumerate(batches(STEPS + 8)))
    whole, optimizer = begun("NAdam")
    loop(whole, optimizer, steps)
    first, optimizer = begun("NAdam")
    loop(first, optimizer, steps[:stop])
    torch.save({"pruner": first.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "state.pt")
    saved = torch.load(tmp_path / "state.pt")
    again, optimizer = begun("NAdam")
    again.load_state_dict(saved["pruner"])
    optimizer.load_state_dict(saved["optimizer"])
    loop(again, optimizer, steps[stop:])
    assert again.export().data == whole.export().data
    assert again.trajectory == whole.trajectory


def test_a_state_can_be_taken_back_to_in_the_same_pruner():
    pruner, optimizer = begun()
    steps = list(batches(STEPS))
    for x, y in steps[:15]:
        take(pruner, optimizer, x, y)
    saved = copy.deepcopy([pruner.state_dict(), optimizer.state_dict()])
    answers = []
    for _ in range(2):
        for x, y in steps[15:]:
            take(pruner, optimizer, x, y)
        answers.append(pruner.export(calibration=X).data)
        pruner.load_state_dict(copy.deepcopy(saved[0]))
        optimizer.load_state_dict(copy.deepcopy(saved[1]))
    assert answers[0] == answers[1]
    for other in ({"steps": 2 * STEPS}, {"budget": Budget(flash="4KB")}):
        with pytest.raises(InputError, match=r"^load_state_dict: the state is of (steps|flash) = "):
            fresh(**other).load_state_dict(saved[0])


def test_losses_that_are_kept_disturb_nothing():
    pruner, optimizer = begun()
    kept = [take(pruner, optimizer, x, y) for x, y in batches(STEPS)]
    assert all(math.isfinite(loss.item()) for loss in kept)
    assert_within(pruner.export(calibration=X), pruner)


def test_accumulated_gradients_move_the_widths_as_one_batch_of_all_would():
    widths = []
    for pieces in (1, 4):
        pruner, optimizer = begun("SGD")
        pruner.eval()  # batch statistics would differ between a batch and its quarters
        pruner.training = True
        for x, y in batches(STEPS):
            optimizer.zero_grad()
            for part, labels in zip(x.chunk(pieces), y.chunk(pieces), strict=True):
                (functional.cross_entropy(pruner(part), labels) / pieces).backward()
            optimizer.step()
            pruner.step()
        widths.append(pruner.trajectory[17]["widths"])
    np.testing.assert_allclose(widths[0], widths[1], atol=0.02)


def test_clipping_schedulers_and_evaluation_in_between_work():
    pruner, optimizer = begun("SGD")
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for x, y in batches(STEPS):
        loss = functional.cross_entropy(pruner(x), y)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(pruner.parameters(), 1.0)
        optimizer.step()
        pruner.step()
        schedule.step()
        with torch.no_grad():
            pruner.eval()
            pruner(X[:8])
            pruner.train()
    assert_within(pruner.export(calibration=X), pruner)


def test_mixed_precision_with_a_scaler_works():
    pruner = fresh()
    optimizer = torch.optim.SGD(pruner.parameters(), 0.05, momentum=0.9)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12, growth_interval=7)
    pruner.attach(optimizer, scaler=scaler)
    for x, y in batches(STEPS):
        with torch.autocast("cpu", torch.bfloat16):
            loss = functional.cross_entropy(pruner(x).float(), y)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        pruner.step()
    assert_within(pruner.export(calibration=X), pruner)


def test_an_average_of_the_weights_follows_and_can_be_exported():
    pruner, optimizer = begun("SGD")
    average = torch.optim.swa_utils.AveragedModel(
        pruner, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.8), use_buffers=True
    )
    for x, y in batches(STEPS):
        take(pruner, optimizer, x, y)
        average.update_parameters(pruner)
        shapes = [[p.shape for p in model.parameters()] for model in (pruner, average.module)]
        assert shapes[0] == shapes[1]
    model = pruner.export(calibration=X, weights=average)
    assert_within(model, pruner)
    average.eval()
    assert (model.predict(X[:100]).argmax(1) == average(X[:100]).argmax(1).numpy()).mean() > 0.9
    assert model.data != pruner.export(calibration=X).data


def test_some_parameters_in_groups_of_their_own_and_int8_training():
    pruner = fresh()
    decayed = [p for p in pruner.parameters() if p.dim() > 1]
    others = [p for p in pruner.parameters() if p.dim() == 1]
    optimizer = torch.optim.AdamW([{"params": decayed}, {"params": others, "weight_decay": 0.0}], lr=3e-3)
    pruner.attach(optimizer)
    for x, y in batches(STEPS):
        take(pruner, optimizer, x, y)
    before = pruner.quantise(calibration=X)
    assert [len(group["params"]) for group in optimizer.param_groups] == [5, 5]
    for group in optimizer.param_groups:
        group["lr"] *= 0.01
    for x, y in batches(8):
        take(pruner, optimizer, x, y)
    after = pruner.export()
    assert_within(after, pruner)
    assert after.data != before.data


class Deep(nn.Module):
    """Residual blocks too many for a small budget."""

    def __init__(self, blocks=5, channels=40):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU())
        self.bodies = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, channels, 3, padding=1, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU(),
                nn.Conv2d(channels, channels, 1),
            )
            for _ in range(blocks)
        )
        self.head = nn.Linear(channels, 4)

    def forward(self, x):
        x = self.stem(x)
        for body in self.bodies:
            x = body(x) + x
        return self.head(x.relu().mean((2, 3)))


def test_branches_go_where_the_budget_is_too_small_for_them_and_the_optimiser_forgets_them(tmp_path):
    budget = Budget(flash=4_600)
    steps = list(batches(STEPS))
    pruner, optimizer = begun(budget=budget, network=Deep)
    average = torch.optim.swa_utils.AveragedModel(pruner)
    before = len(list(pruner.parameters()))
    for index, (x, y) in enumerate(steps):
        take(pruner, optimizer, x, y)
        if index == 20:
            saved = copy.deepcopy([pruner.state_dict(), optimizer.state_dict()])
    held = [p for group in optimizer.param_groups for p in group["params"]]
    assert len(held) == len(list(pruner.parameters())) == len(list(average.module.parameters())) < before
    assert set(optimizer.state) == set(held)
    model = pruner.export(calibration=X)
    assert budget.admits(model.resources)
    again, optimizer = begun(budget=budget, network=Deep)
    again.load_state_dict(saved[0])
    optimizer.load_state_dict(saved[1])
    for x, y in steps[21:]:
        take(again, optimizer, x, y)
    assert again.export(calibration=X).data == model.data


def test_the_loop_with_our_recipe_is_the_built_in_job_to_the_bit(problem):
    settings = Settings(epochs=6, batch_size=32, hyperparameters={"learning_rate": 0.05, "int8_part": 0.1})
    built_in = DifferentiablePruning().run(problem, BUDGET, settings, lambda progress: True)
    torch.manual_seed(settings.seed)
    network = problem.network()
    recipe = Trainer(copy.deepcopy(network), problem, settings)  # for its batches and its schedule
    pruner = Pruner(network, torch.zeros(1, *problem.input_shape), BUDGET, recipe.float_steps, seed=settings.seed).to(
        memory_format=torch.channels_last
    )

    def optimizer():
        made = torch.optim.SGD(pruner.parameters(), 0.05, MOMENTUM, weight_decay=5e-4, nesterov=True)
        pruner.attach(made)
        return made

    def train(sgd, steps):
        for step in steps:
            if step % len(recipe.batches) == 0:
                feed[:] = list(recipe.batches)
            x, y = feed[step % len(recipe.batches)]
            sgd.param_groups[0]["lr"] = recipe._scheduled_rate(step)
            with recipe._autocast():
                logits = pruner(x)
            sgd.zero_grad()
            functional.cross_entropy(logits.float(), y, label_smoothing=0.05).backward()
            nn.utils.clip_grad_norm_(pruner.parameters(), LARGEST_GRADIENT)
            sgd.step()
            pruner.step()

    feed = []
    train(optimizer(), range(recipe.float_steps))
    images = normalise(torch.as_tensor(problem.x_train), problem)
    before = pruner.quantise(calibration=images)
    train(optimizer(), range(recipe.float_steps, recipe.steps))
    after = pruner.export()
    scores = [int8_accuracy(model.model, problem.x_val, problem.y_val, problem) for model in (before, after)]
    best = after if scores[1] >= scores[0] else before
    assert pruner.widths == built_in.widths
    assert best.data == built_in.data
    assert INT8_RATE == 0.01


def test_arrays_are_enough(tmp_path):
    torch.manual_seed(0)
    network = SmallNet()
    before = copy.deepcopy(network.state_dict())
    images = (X * 255).byte().numpy()
    model = prune(
        network, train=(images, Y), val=(images[:96], Y[:96]), budget=BUDGET, epochs=4, batch_size=32,
        hyperparameters={"learning_rate": 0.05},
    )  # fmt: skip
    assert BUDGET.admits(model.resources)
    assert model.val_score == (model.predict(images[:96]).argmax(1) == Y[:96].numpy()).mean()
    assert np.array_equal(model.predict(images[:96]), model.predict(images[:96] / 255))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    model.save(tmp_path / "model.tflite")
    assert measure_model((tmp_path / "model.tflite").read_bytes()).flash == model.resources.flash
    model.firmware(tmp_path / "firmware")
    assert (tmp_path / "firmware" / "model.c").is_file()
    for path in (tmp_path / "none" / "model.tflite", tmp_path / "model.tflite" / "x", 3, "a\0b"):
        with pytest.raises(InputError, match=r"(none.model|model\.tflite.x|3|'a\\x00b').*: cannot be written"):
            model.save(path)
    for write in (model.firmware, lambda path: model.library(path, "cmake")):
        with pytest.raises(InputError, match=r"model\.tflite: cannot be written"):
            write(tmp_path / "model.tflite")
    for wrong, told in (
        ({"train": (X, Y + (Y == 3))}, "classes go from 0 to 4"), ({"train": X}, "train is a Tensor"),
        ({"train": (X / 0, Y)}, "train: .*not all finite"),
        ({"train": (X[:, 0], Y), "val": (X[:, 0], Y)}, r"shape \(12, 12\) does not pass"),
        ({"val": (images, Y)}, "val: inputs uint8 .* beside train's float32"), ({"epochs": 0}, "epochs = 0"),
        ({"epochs": 1, "batch_size": 999}, "1 steps of training: too few"),
        ({"budget": "5KB"}, "allowed is a Budget"),
        ({"hyperparameters": {"lr": 1}}, "unknown lr; allowed are learning_rate"),
        ({"seed": -1}, "seed = -1: allowed"), ({"round_to": 0}, "round_to = 0: allowed"),
        ({"device": "gpu"}, "device = 'gpu': allowed are 'cpu'"), ({"frozen": "stem.0"}, "allowed is a tuple of paths"),
        ({"network": nn.Sequential(network, nn.Sigmoid())}, "ends in sigmoid, but its outputs are taken for logits"),
        ({"network": nn.Conv2d(1, 4, 3)}, r"returns \(N, 4, 10, 10\); allowed here are logits \(N, classes\)"),
        ({"network": SmallNet}, "network = <class .*allowed is a torch.nn.Module"), ({"epochs": True}, "epochs = True"),
        ({"network": nn.Identity()}, r"returns \(N, 1, 12, 12\)"), ({"seed": 2**63}, "seed = .* 0 to 2"),
        ({"device": "meta"}, "device = 'meta'"), ({"hyperparameters": [1]}, r"= \[1\]: allowed is a dict"),
        ({"hyperparameters": {"learning_rate": None}}, "learning_rate = None: allowed is a finite number"),
        ({"val": (X.double() * 1e300, Y)}, "val: .*not all finite"), ({"train": (3, 4)}, r"train: inputs \(\) with"),
        ({"train": ([[1], [1, 2]], [0, 1])}, "train: cannot be read as an array"), ({"frozen": (0,)}, "tuple of paths"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=told):
            prune(**({"network": network, "train": (X, Y), "val": (X, Y), "budget": BUDGET} | wrong))


@pytest.mark.parametrize("last", [nn.LogSoftmax(1), nn.Softmax(-1)])
def test_a_softmax_at_the_end_is_what_the_loss_is_given_and_no_part_of_the_model(last):
    torch.manual_seed(0)
    network = nn.Sequential(SmallNet(), last)
    wanted = copy.deepcopy(network).eval()(X)
    pruner = Pruner(network, X[:1], BUDGET, STEPS)
    torch.testing.assert_close(pruner.eval()(X), wanted, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(copy.deepcopy(pruner)(X), wanted, atol=1e-5, rtol=1e-5)
    pruner.train()
    pruner.attach(optimizer := torch.optim.AdamW(pruner.parameters(), 3e-3))
    for x, y in batches(STEPS):
        given = pruner(x) if isinstance(last, nn.LogSoftmax) else pruner(x).log()
        loss = functional.nll_loss(given, y)
        assert loss > 0  # of logits it falls below
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        pruner.step()
    model, normal = pruner.export(calibration=X), last(torch.from_numpy(pruner.export(calibration=X).predict(X)))
    torch.testing.assert_close(normal, pruner.eval()(X).detach(), atol=0.1, rtol=0.1)
    assert (model.predict(X).argmax(1) == pruner(X).argmax(1).numpy()).mean() > 0.95


@pytest.mark.parametrize("layer", [nn.Conv1d(6, 16, 3, 2), nn.Linear(6, 16)])
def test_signals_and_rows_are_enough(layer):
    torch.manual_seed(0)
    y = torch.arange(96) % 4
    x = torch.randn(96, 6, 20) * 0.3 + y.view(-1, 1, 1) - 1.5
    x, pool = (x, nn.AdaptiveAvgPool1d(1)) if isinstance(layer, nn.Conv1d) else (x[..., 0], nn.Identity())
    network = nn.Sequential(layer, nn.BatchNorm1d(16), nn.ReLU(), pool, nn.Flatten(), nn.Linear(16, 4))
    model = prune(network, train=(x, y), val=(x, y), budget=Budget(macs=600), epochs=3, batch_size=16)
    assert model.resources.macs <= 600
    assert model.val_score == (model.predict(x).argmax(1) == y.numpy()).mean()


def test_mistakes_are_named_before_they_cost_anything():
    with pytest.raises(UnreachableBudgetError, match="flash 1KB is below"):
        fresh(Budget(flash="1KB"))
    with pytest.raises(InputError, match="steps = 3: too few"):
        fresh(steps=3)
    for wrong, allowed in (
        ({"steps": 40.0}, "steps = 40.0: allowed is a whole number"), ({"round_to": 0}, "round_to = 0: allowed"),
        ({"budget": {"flash": 5000}}, "allowed is a Budget"), ({"frozen": ("stm.0",)}, r"frozen: 'stm\.0' .*'stem\.0'"),
        ({"frozen": ("stem.1",)}, r"frozen: 'stem\.1' is no layer with channels"), ({"warmup": 1.0}, "warmup = 1.0"),
        ({"warmup": 0.5, "pruning": 0.7}, "warmup = 0.5 and pruning = 0.7"), ({"frozen": "stem"}, "a tuple of paths"),
        ({"seed": 1.5}, "seed = 1.5: allowed is a whole number, 0 to"), ({"frozen": None}, "a tuple of paths"),
        ({"judge": 3}, "judge = 3: allowed is a function"), ({"runtime": "tflm"}, "runtime = 'tflm'"),
        ({"network": lambda: SmallNet}, "network = .*allowed is a torch.nn.Module"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=allowed):
            fresh(**wrong)
    with pytest.raises(InputError, match=r"example_input: allowed are a tensor"):
        Pruner(SmallNet(), (1, 12, 12), BUDGET, STEPS)
    with pytest.raises(InputError, match=r"network layer '1\.2': GELU"):
        fresh(network=lambda: nn.Sequential(nn.Flatten(), nn.Sequential(nn.Linear(144, 8), nn.ReLU(), nn.GELU())))
    pruner = fresh()
    for other in (torch.optim.SGD(SmallNet().parameters(), 0.1), None):
        with pytest.raises(InputError, match="no parameter of the pruner"):
            pruner.attach(other)
    with pytest.raises(InputError, match=r"scaler = 3: allowed is a torch\.amp\.GradScaler"):
        pruner.attach(torch.optim.SGD(pruner.parameters(), 0.1), scaler=3)
    with pytest.raises(InputError, match=r"call pruner\.attach"):
        pruner.step()
    with pytest.raises(InputError, match=r"0 of 40 steps .* channels are not final"):
        pruner.export(calibration=X)
    with pytest.raises(InputError, match=r"save pruner\.state_dict"):
        pickle.dumps(pruner)


def test_a_loop_that_passes_its_batches_elsewhere_is_told_so():
    network = SmallNet()
    pruner = Pruner(network, X[:1], BUDGET, STEPS)
    optimizer = torch.optim.AdamW(pruner.parameters(), 3e-3)
    pruner.attach(optimizer)
    functional.cross_entropy(network(X[:32]), Y[:32]).backward()
    with pytest.raises(InputError, match=r"loss from pruner\(x\), not network"):
        pruner.step()
    network(X[:1])  # still whole
    for x, y in batches(STEPS):
        take(pruner, optimizer, x, y)
    with pytest.raises(InputError, match="network SmallNet: a Pruner has resized its layers"):
        network(X[:1])
    Pruner(pruner.module, X[:1], Budget(flash="4KB"), STEPS)  # but its own may go on
    dense = SmallNet()
    wide = Pruner(dense, X[:1], Budget(flash="1MB"), STEPS).eval()  # nothing to remove
    assert torch.allclose(wide(X[:9]), dense.eval()(X[:9]), atol=1e-5)
    pruner.eval()(X[:1])


def test_gradients_that_never_reach_the_channels_are_missed_before_any_goes():
    pruner, optimizer = begun()

    def loop():
        for x, y in batches(STEPS):
            weights = list(pruner.parameters())
            gradients = torch.autograd.grad(functional.cross_entropy(pruner(x), y), weights)
            for weight, gradient in zip(weights, gradients, strict=True):
                weight.grad = gradient
            optimizer.step()
            pruner.step()

    with pytest.raises(InputError, match=r"no gradient has reached the pruner's channels"):
        loop()
    assert pruner.resources == pruner.dense


def test_inputs_of_another_size_give_what_the_network_gives_or_nothing():
    def heads():
        return nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 2, 1))

    tall, wide = torch.rand(3, 1, 8, 4), torch.rand(3, 1, 4, 8)
    pruner = Pruner(heads(), tall[:1], Budget(flash="1MB"), STEPS)
    assert pruner(tall).shape == (3, 2, 8, 4)
    with pytest.raises(InputError, match=r"inputs \(3, 1, 4, 8\) give output another .*\(N, 1, 8, 4\)"):
        pruner(wide)
    assert fresh()(torch.rand(2, 1, 16, 10)).shape == (2, 4)  # its mean over all positions has any number of them


def test_a_loop_may_train_in_evaluation_mode():
    pruner, optimizer = begun()
    pruner.eval()  # batch normalisation as it was trained
    for x, y in batches(STEPS):
        take(pruner, optimizer, x, y)
    assert_within(pruner.export(calibration=X), pruner)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [(X.permute(0, 2, 3, 1), r"shape \(384, 12, 12, 1\)"), (X[0], "shape"), ((X * 255).byte(), "torch.uint8"),
     (X / 0, "NaN or infinite"), (X.to(torch.complex64), "torch.complex64")],
)  # fmt: skip
def test_calibration_and_inputs_are_those_of_training(wrong, told, landed):
    pruner, model = landed
    with pytest.raises(InputError, match=f"calibration: x .*{told}"):
        pruner.export(calibration=wrong)
    with pytest.raises(InputError, match="inputs"):
        model.predict(wrong * torch.tensor(0.0).to(wrong))  # 0 / 0 is NaN


def test_any_number_of_inputs_is_predicted(landed):
    _, model = landed
    outputs = model.predict(X)
    assert model.predict(X[:0]).shape == (0, 4)
    for alike in (X[:1].double(), X[:1].clone().requires_grad_(), X[:1].numpy(), X[:1].tolist()):
        assert np.array_equal(model.predict(alike), outputs[:1])


def test_an_optimiser_whose_state_cannot_follow_is_refused_at_the_first_step():
    pruner = fresh()
    optimizer = torch.optim.LBFGS(pruner.parameters(), max_iter=1)
    pruner.attach(optimizer)

    def closure():
        optimizer.zero_grad()
        loss = functional.cross_entropy(pruner(X[:32]), Y[:32])
        loss.backward()
        return loss

    optimizer.step(closure)
    with pytest.raises(InputError, match="LBFGS"):
        pruner.step()


@pytest.mark.parametrize("at", [5, 25])
def test_a_loop_that_diverges_is_told_so(at):
    pruner, optimizer = begun("SGD")
    with pytest.raises(DivergedError, match=rf"stem\.0\S* is not finite after step \d+ of {STEPS}: .* learning rate"):  # noqa: PT012
        for index, (x, y) in enumerate(batches(STEPS)):
            take(pruner, optimizer, x, y)
            if index == at:
                with torch.no_grad():
                    next(pruner.parameters()).fill_(math.nan)
        pruner.export(calibration=X)


def test_a_loop_that_moves_weights_of_its_own_accord_is_told_of_idle_channels():
    pruner, optimizer = begun("SGD", budget=Budget(flash=4_400))
    with pytest.raises(InputError, match="idle=False"):  # noqa: PT012
        for x, y in batches(STEPS):
            take(pruner, optimizer, x, y)
            with torch.no_grad():
                for parameter in pruner.parameters():
                    parameter.add_(1e-4)
    pruner, optimizer = begun("SGD", budget=Budget(flash=4_400), idle=False)
    for x, y in batches(STEPS):
        take(pruner, optimizer, x, y)
        with torch.no_grad():
            for parameter in pruner.parameters():
                parameter.add_(1e-4)
    assert pruner.export(calibration=X).resources.flash <= 4_400
