"""Landing and control: budgets hold on exact bytes, and the tightest bound is used."""

import numpy as np
import pytest
import torch
from torch import nn

from mcu.budget import Budget
from mcu.errors import InputError
from mcu.resource_model import ResourceModel
from mcu.tracing.trace import trace
from pruning.engine import depth, landing
from pruning.engine.controller import WidthController
from pruning.engine.gates import GateBank
from pruning.engine.landing import land, require_reachable, smallest
from pruning.engine.network import Constraints, PrunableNetwork
from pruning.engine.widths import first_fit, uniform_widths
from search_spaces.choices import NetworkChoice
from search_spaces.networks import build_network

SHAPE = (1, 28, 28)


def model_of(name: str) -> ResourceModel:
    return ResourceModel(trace(build_network(NetworkChoice(name=name), SHAPE, 10, 0), SHAPE).graph)


@pytest.mark.parametrize("name", ["resnet8", "ds-cnn", "plain-cnn"])
@pytest.mark.parametrize("seed", range(4))
def test_landing_is_within_the_budget_and_maximal(name, seed):
    model, generator = model_of(name), np.random.default_rng(seed)
    dense = model.exact(model.dense_widths)
    share = generator.uniform(0.15, 0.7, 3)
    budget = Budget(*(int(max(s * d, 1.3 * f)) for s, d, f in zip(share, dense, smallest(model), strict=True)))
    wanted = model.dense_widths * generator.uniform(0.2, 0.9, len(model.dense_widths))
    importance = [np.sort(generator.random(size))[::-1] for size in model.dense_widths]
    landed = land(model, budget, wanted, model.dense_widths, importance)
    used = model.exact(landed)
    assert budget.admits(used)
    assert budget.binding_use(used) >= 0.95
    for group in np.flatnonzero(landed < model.dense_widths):
        larger = landed.copy()
        larger[group] += 1
        assert not budget.admits(model.exact(larger)), f"one more channel of group {group} would have fitted"


@pytest.mark.parametrize("name", ["vgg-small", "mobilenet-v2", "resnet20", "plain-cnn"])
@pytest.mark.parametrize("part", [0.9, 0.7])
def test_settled_widths_are_even_and_use_the_budget(name, part):
    model, generator = model_of(name), np.random.default_rng(0)
    budget = Budget(*(int(part * used) for used in model.exact(model.dense_widths)))
    wanted = model.dense_widths * generator.uniform(0.8 * part, 1.0, len(model.dense_widths))
    importance = [np.sort(generator.random(size))[::-1] for size in model.dense_widths]
    landed = land(model, budget, wanted, model.dense_widths, importance)
    settled = landing.settle(model, budget, landed, model.dense_widths, importance)
    used = model.exact(settled)
    assert budget.admits(used)
    assert budget.binding_use(used) >= 0.95
    assert (settled <= model.dense_widths).all()

    def uneven(widths: np.ndarray) -> int:
        return int(((widths % 8 > 0) & (widths >= 16)).sum())

    assert uneven(settled) < 0.2 * uneven(landed)


def test_widths_that_would_leave_the_budget_unused_do_not_settle():
    model = model_of("resnet8")
    landed = model.dense_widths - [0, 0, 0, 0, 1, 1]
    even = landed // 8 * 8
    budget = Budget(macs=model.exact(landed).macs, flash=model.exact(landed).flash)
    importance = [np.ones(size) for size in model.dense_widths]
    assert budget.binding_use(model.exact(even)) < 0.95
    limit = np.where(landed < model.dense_widths, even, landed)
    assert landing.settle(model, budget, landed, limit, importance).tolist() == landed.tolist()


def test_landing_gives_groups_the_width_of_another_when_that_takes_no_more_bytes():
    model = model_of("mobilenet-v2")
    budget = Budget(flash=60_000)
    generator = np.random.default_rng(3)
    wanted = np.maximum(1.0, model.dense_widths * generator.uniform(0.06, 0.12, len(model.dense_widths)))
    importance = [np.sort(generator.random(size))[::-1] for size in model.dense_widths]
    landed = land(model, budget, wanted, model.dense_widths, importance)
    singly = np.clip(np.rint(wanted), 1, model.dense_widths).astype(np.int64)
    assert len(set(landed.tolist())) < len(set(singly.tolist()))
    used = model.exact(landed)
    assert budget.admits(used)
    assert budget.binding_use(used) >= 0.99


def test_landing_exchanges_channels_where_maximal_widths_leave_a_bound_unused(monkeypatch):
    shape = (1, 8, 8)
    traced = trace(build_network(NetworkChoice(name="resnet8", width=0.5), shape, 10, 0), shape)
    shorter = depth.without(traced.module, [depth.branches(traced)[-1].removal])
    model, budget = ResourceModel(trace(shorter, shape).graph), Budget(macs=10_440)
    assert model.dense_widths.tolist() == [8, 8, 16, 16, 32]
    importance = [np.full(8, 7e-3), np.full(8, 4e-3), np.full(16, 2.5e-3), np.full(16, 2.5e-3), np.full(32, 5e-3)]
    arguments = model, budget, np.array([8, 4.4, 11, 16, 32]), model.dense_widths, importance
    landed = land(*arguments)
    monkeypatch.setattr(landing, "FULL", 0.0)
    maximal = land(*arguments)
    assert budget.binding_use(model.exact(maximal)) < 0.95
    assert budget.admits(model.exact(landed))
    assert budget.binding_use(model.exact(landed)) >= 0.95


def test_an_unreachable_budget_is_refused_with_the_smallest_figures():
    model = model_of("resnet8")
    floor = smallest(model)
    require_reachable(floor, Budget(flash=floor.flash, sram=floor.sram))
    with pytest.raises(InputError) as caught:
        require_reachable(floor, Budget(flash=floor.flash - 1, sram=10 * floor.sram))
    assert "flash" in str(caught.value)
    assert "sram" not in str(caught.value)


@pytest.mark.parametrize("factor", [2, 8, 30])
def test_the_controller_reaches_every_bound_without_a_task_gradient(factor):
    model = model_of("resnet8")
    dense, floor = model.exact(model.dense_widths), smallest(model)
    budget = Budget(flash=max(dense.flash // factor, 2 * floor.flash), macs=max(dense.macs // factor, 2 * floor.macs))
    bank = GateBank(model.dense_widths.tolist())
    controller = WidthController(model, budget, bank, 150)
    for step in range(150):
        controller.open_gates()
        controller.update()
        if step % 15 == 0:
            controller.calibrate()
    used = model.exact(np.rint(controller.widths).astype(np.int64))
    assert budget.violation(used) < 0.15
    assert budget.binding_use(used) > 0.8


def test_the_controller_keeps_channels_the_task_pulls_on():
    model = model_of("plain-cnn")
    dense = model.exact(model.dense_widths)
    bank = GateBank(model.dense_widths.tolist())
    controller = WidthController(model, Budget(macs=dense.macs // 4), bank, 200)
    for _ in range(200):
        controller.open_gates()
        widths = controller._leaf
        (-5.0 * torch.log(widths[3]) - 0.01 * torch.log(widths).sum()).backward()
        controller.update()
    kept = controller.widths / model.dense_widths
    assert kept[3] > 1.2 * np.median(kept)


def test_a_small_price_on_macs_nobody_bounded_saves_them_where_the_loss_is_indifferent():
    model = model_of("resnet8")
    dense = model.exact(model.dense_widths)
    budget, used, kept = Budget(flash=dense.flash // 4), {}, {}
    for balance in (0.0, 0.2, 3.0):
        controller = WidthController(model, budget, GateBank(model.dense_widths.tolist()), 200, balance)
        for step in range(200):
            controller.open_gates()
            widths = controller._leaf
            (-3.0 * torch.log(widths[1]) - torch.log(widths).sum()).backward()
            controller.update()
            if step % 15 == 0:
                controller.calibrate()
        used[balance] = model.exact(np.rint(controller.widths).astype(np.int64))
        kept[balance] = (controller.widths / model.dense_widths)[1]
    assert used[0.2].macs < 0.9 * used[0.0].macs
    ample = model.exact(uniform_widths(model, budget))  # the price ends there, however high it is
    assert ample.macs < used[3.0].macs < 1.1 * ample.macs
    assert all(0.9 < budget.binding_use(each) < 1.05 for each in used.values())
    assert kept[0.2] > 0.9 * kept[0.0]


def test_first_fit_finds_the_least_compressed_candidate():
    model = model_of("resnet8")
    dense = model.exact(model.dense_widths)
    budget = Budget(flash=dense.flash // 3)

    def narrowed(compression: float) -> np.ndarray:
        return np.maximum(1, np.floor((1 - compression) * model.dense_widths + 1e-9)).astype(np.int64)

    widths = first_fit(narrowed, model.exact, budget)
    assert widths is not None
    assert 0.85 < budget.binding_use(model.exact(widths)) <= 1
    assert first_fit(narrowed, model.exact, Budget(flash=100)) is None


def test_an_exchange_that_breaks_a_bound_is_none():
    """Layers that shared vectors of the file no longer do when one of them is narrower: it may take more."""
    use = {(2, 2): 0.9, (1, 2): 1.1, (2, 1): 0.95, (1, 1): 0.8}
    widths = landing.exchange(
        lambda found: use[tuple(found)], np.array([2, 2]), np.array([2, 2]), lambda fewer, limit: fewer
    )
    assert tuple(widths) == (2, 1)


def test_a_layer_that_its_relu_shuts_is_opened_at_landing():
    network = build_network(NetworkChoice(name="resnet8", width=0.25), SHAPE, 10, 0)
    prunable = PrunableNetwork(network, Constraints(SHAPE))
    norms = {op.norm: prunable.module.get_submodule(op.norm) for op in prunable.graph.ops if op.norm}
    stem = norms[prunable.graph.ops[0].norm]
    with torch.no_grad():
        stem.weight.fill_(-0.1)
        stem.bias.fill_(-0.7)  # seven standard deviations
    inputs = torch.randn(64, *SHAPE)
    prunable.module(inputs)  # statistics of these inputs
    assert prunable.module.eval()(inputs).std(0).max() < 1e-6  # one answer to every input
    others = {name: norm.bias.clone() for name, norm in norms.items() if norm is not stem}
    prunable.revive()
    assert prunable.module(inputs).std(0).max() > 1e-3
    assert all(torch.equal(norms[name].bias, bias) for name, bias in others.items())
    with torch.no_grad():
        stem.bias[0], stem.bias[1:] = 0.1, -0.7
    prunable.revive()
    assert stem.bias[1] < 0  # one channel that is open is enough


def test_a_layer_whose_channels_never_pass_their_relu_is_found_by_its_answers():
    """Its shifts look open: what it reads is mostly one value, and the rest lies on the wrong side."""
    network = build_network(NetworkChoice(name="resnet8", width=0.25), SHAPE, 10, 0)
    prunable = PrunableNetwork(network, Constraints(SHAPE))
    first, second, *_ = (op for op in prunable.graph.ops if op.norm)
    stem, norm = (prunable.module.get_submodule(path) for path in (first.layer, first.norm))
    inputs = (torch.rand(64, *SHAPE, generator=torch.Generator().manual_seed(0)) < 0.05).float()
    with torch.no_grad():
        stem.weight.copy_(-stem.weight.abs())
        norm.bias.fill_(-1.5)
    later = prunable.module.get_submodule(second.norm).bias.clone()
    prunable.revive()
    assert (norm.bias == -1.5).all()  # 1.5 standard deviations are not shut
    random = torch.get_rng_state()
    before = {name: tensor.clone() for name, tensor in prunable.module.state_dict().items()}
    prunable.revive(inputs)
    torch.testing.assert_close(norm.bias, torch.zeros_like(norm.bias), atol=1e-5, rtol=0)
    assert torch.equal(prunable.module.get_submodule(second.norm).bias, later)  # it reads something again
    changed = {name for name, tensor in prunable.module.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {f"{first.norm}.bias"}
    assert torch.equal(torch.get_rng_state(), random)


def test_a_layer_that_has_nothing_to_tell_apart_is_left_after_one_try():
    network = build_network(NetworkChoice(name="resnet8", width=0.25), SHAPE, 10, 0)
    prunable = PrunableNetwork(network, Constraints(SHAPE))
    prunable.revive(torch.zeros(8, *SHAPE))
    assert torch.isfinite(prunable.module(torch.randn(8, *SHAPE))).all()


def test_a_shut_layer_without_batch_normalisation_is_opened_by_its_own_shifts():
    network = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 24 * 24, 10)
    )
    prunable = PrunableNetwork(network, Constraints(SHAPE))
    first, second, *_ = prunable.graph.ops
    layer, later = (prunable.module.get_submodule(op.layer) for op in (first, second))
    samples = torch.randn(64, *SHAPE)
    with torch.no_grad():
        layer.bias.fill_(-9.0)
        before = later.bias.clone()
    prunable.revive(samples)
    read = layer(samples)
    torch.testing.assert_close(read.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    assert prunable.module(samples).std(0).max() > 1e-3
    assert torch.equal(later.bias, before)
