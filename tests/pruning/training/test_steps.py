"""The loop every method trains with."""

import pytest
import torch

from pruning.training.steps import LARGEST_GRADIENT, Trainer


def steps(problem, settings, scale):
    """Parameters after three steps whose gradients are multiplied, and the norms that the optimiser saw."""
    trainer = Trainer(problem.network(), problem, settings)
    seen = []

    def enlarge(module):
        for parameter in module.parameters():
            parameter.grad.mul_(scale)

    def see(optimizer, *_):
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"]]
        seen.append(float(torch.stack([g.norm() for g in gradients]).norm()))

    trainer.gradient_hook = enlarge
    trainer.optimizer.register_step_pre_hook(see)
    for step in range(3):
        trainer.take_step(step)
    return [parameter.detach().clone() for parameter in trainer.module.parameters()], seen


@pytest.mark.parametrize(("scale", "lengths"), [(1e4, [LARGEST_GRADIENT] * 3), (1e25, []), (float("inf"), [])])
def test_gradients_that_explode_are_shortened_or_if_their_norm_overflows_dropped(scale, lengths, problem, settings):
    parameters, norms = steps(problem, settings, scale)
    assert norms == pytest.approx(lengths, rel=1e-3)
    assert all(bool(torch.isfinite(parameter).all()) for parameter in parameters)


def test_usual_gradients_are_left_alone_to_the_bit(problem, settings, monkeypatch):
    limited, norms = steps(problem, settings, 1.0)
    assert max(norms) < LARGEST_GRADIENT
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda parameters, norm: torch.zeros(()))
    free, _ = steps(problem, settings, 1.0)
    assert all(torch.equal(a, b) for a, b in zip(limited, free, strict=True))
