"""Widths under budgets: a primal-dual step in log space without loss weights to tune.

Minimise the task loss L over log-widths u subject to log(R_b(u) / T_b) <= 0 for every bound b, where the target
T_b anneals geometrically from what the dense network uses to the budget. With s_g = dL/du_g normalised to unit
root mean square over the groups and e_bg = dlog R_b / du_g, one step is

    u  <-  u - eta (s + sum_b lambda_b e_b)

and each multiplier follows its constraint as a proportional-integral controller,
lambda_b = max(0, k_p v_b + k_i sum v_b) / |e_b|^2 with v_b = log(R_b / T_b): dividing by the squared elasticities
makes every bound approach its target at the same rate, however few groups influence it. All quantities are
relative, and eta, k_p, k_i follow from how fast the target moves, so the same constants serve every budget. The idea of
pricing resources inside training is Liberis & Lane's (IMWUT 2022); this controller is our own.

A resource r without a bound may have a small price beside these: ``balance`` times the mean of e_r, each of unit root
mean square, while the network uses more of r than if all its layers were narrowed by one factor to meet the bounds. It
decides between widths that the loss wants alike.
"""

from __future__ import annotations

import numpy as np
import torch

from mcu.budget import RESOURCES, Budget
from mcu.resource_model import ResourceModel
from pruning.engine.gates import GateBank
from pruning.engine.widths import uniform_widths

ANNEAL_FRACTION = 0.8
"""Fraction of the pruning phase after which the target is the budget itself."""

AIM = 0.99
"""The target ends a little below the bound, so that landing seldom has to cut."""

FIRST_TEMPERATURE, LAST_TEMPERATURE = 1.0, 0.15
"""Width of the soft step in channels for groups of 16 or fewer; larger groups scale it up."""

LEAST_STIFFNESS = 0.05
"""Squared elasticities below this do not raise a multiplier further: no group can relieve the bound."""

SLOWEST_STEP = 2e-3
"""Smallest step in log width, so that groups can still trade channels when little needs to go."""

FADING = 0.1
"""Logarithm of the use of a resource without a bound over that of the uniform width multiplier at which it has its full
price; the price falls to nothing there."""

_STATE = ("log_widths", "pull", "integral", "multipliers", "offset")


class WidthController:
    """Moves the gates of ``bank`` from dense to the budget in ``steps`` steps."""

    def __init__(self, model: ResourceModel, budget: Budget, bank: GateBank, steps: int, balance: float = 0.0) -> None:
        self.model, self.bank, self.steps, self.balance = model, bank, max(1, steps), balance
        self._channels = np.array([group.channels for group in model.graph.groups])
        bounds = budget.bounds()
        self.names = list(bounds)
        self.rows = torch.tensor([RESOURCES.index(name) for name in bounds])
        self.free = [index for index, name in enumerate(RESOURCES) if name not in bounds]
        if balance and self.free:
            uniform = np.array([*model.exact(uniform_widths(model, budget))], dtype=np.float64)
            self.ample = torch.from_numpy(np.log(uniform[self.free]))
        dense = model.exact(model.dense_widths)
        self.bounds = torch.tensor([float(bounds[name]) for name in bounds], dtype=torch.float64) * AIM
        self.start = torch.maximum(torch.tensor([float(getattr(dense, n)) for n in bounds]).double(), self.bounds)
        self.log_widths = torch.log(torch.tensor(bank.sizes, dtype=torch.float64))
        self.pull = torch.zeros_like(self.log_widths)
        self.integral = torch.zeros(len(bounds), dtype=torch.float64)
        self.multipliers = torch.zeros(len(bounds), dtype=torch.float64)
        self.offset = torch.zeros(3, dtype=torch.float64)
        self.step = 0
        pace = float(torch.log(self.start / self.bounds).max()) / (ANNEAL_FRACTION * self.steps)
        self.eta = max(2 * pace, SLOWEST_STEP)
        self.gain = 1 / (10 * max(pace, SLOWEST_STEP))
        self.calibrate()

    @property
    def widths(self) -> np.ndarray:
        """Real-valued widths ``(groups,)``."""
        return torch.exp(self.log_widths).numpy()

    def temperatures(self) -> torch.Tensor:
        """Temperature (width of the soft step) of each group, in channels."""
        done = min(1.0, self.step / self.steps)
        base = FIRST_TEMPERATURE * (LAST_TEMPERATURE / FIRST_TEMPERATURE) ** done
        return base * torch.clamp(torch.tensor(self.bank.sizes, dtype=torch.float64) / 16, min=1.0)

    def open_gates(self) -> None:
        """Set the gates for one training step."""
        self._leaf = torch.exp(self.log_widths).requires_grad_()
        self.bank.set_soft(self._leaf, self.temperatures())

    def target(self) -> torch.Tensor:
        """Current target of each bound."""
        done = min(1.0, self.step / (ANNEAL_FRACTION * self.steps))
        return torch.exp((1 - done) * torch.log(self.start) + done * torch.log(self.bounds))

    def update(self) -> None:
        """Move the widths by one step, after the backward pass of the task loss."""
        task = self._leaf.grad
        if task is not None and bool(torch.isfinite(task).all()):
            self.pull.mul_(0.9).add_(task * self._leaf.detach(), alpha=0.1)
        slope = self.pull / (self.pull.square().mean().sqrt() + 1e-12)
        excess, elasticity = self._excess()
        self.integral = torch.clamp(self.integral + excess, min=0.0)
        stiffness = elasticity.square().sum(1).clamp(min=LEAST_STIFFNESS)
        self.multipliers = torch.clamp(self.gain * (excess + self.integral / 20) / stiffness, min=0.0)
        step = self.eta * (slope + self.multipliers @ elasticity)
        if self.balance and self.free:
            step += self.eta * self.balance * self._unbounded()
        step = torch.clamp(step, -4 * self.eta, 4 * self.eta)
        ceiling = torch.log(torch.tensor(self.bank.sizes, dtype=torch.float64))
        self.log_widths = torch.minimum(torch.clamp(self.log_widths - step, min=0.0), ceiling)
        self.step += 1

    def _excess(self) -> tuple[torch.Tensor, torch.Tensor]:
        """log(R / target) per bound, and its derivatives by the log-widths ``(bounds, groups)``."""
        widths = torch.exp(self.log_widths)
        used = self._used(widths)[self.rows]
        slopes = torch.from_numpy(self.model.slopes(widths.numpy()))[self.rows]
        return torch.log(used) - torch.log(self.target()), slopes * widths / used[:, None]

    def _unbounded(self) -> torch.Tensor:
        """Mean of the derivatives of the logarithms of resources without a bound, each of unit root mean square.

        Those of which the network does not use more than the uniform width multiplier count nothing.
        """
        widths = torch.exp(self.log_widths)
        slopes = torch.from_numpy(self.model.slopes(widths.numpy()))[self.free] * widths
        beyond = torch.log(self._used(widths)[self.free]) - self.ample
        parts = torch.clamp(beyond / FADING, 0.0, 1.0)[:, None]
        return (parts * slopes / (slopes.square().mean(1, keepdim=True).sqrt() + 1e-12)).mean(0)

    def calibrate(self) -> None:
        """Add an offset to the smooth model so that it equals the exact one at the current widths.

        An offset and not a factor: what the smooth model leaves out (headers, structures of the interpreter, gaps in
        the arena) hardly depends on the widths, and a factor would overestimate what narrowing saves.
        """
        widths = np.maximum(1, np.rint(self.widths))
        exact = torch.tensor([float(v) for v in self.model.exact(widths.astype(np.int64))], dtype=torch.float64)
        self.offset = exact - torch.from_numpy(self.model.smooth(widths))

    def _used(self, widths: torch.Tensor) -> torch.Tensor:
        """Flash, sram and MACs at real-valued widths: smooth, and right where it was last calibrated."""
        return torch.clamp(torch.from_numpy(self.model.smooth(widths.numpy())) + self.offset, min=1.0)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """State for a checkpoint."""
        return {name: getattr(self, name) for name in _STATE} | {"step": torch.tensor(self.step)}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Restore the state of a checkpoint."""
        for name in _STATE:
            setattr(self, name, state[name].clone())
        self.step = int(state["step"])

    def reach(self) -> np.ndarray:
        """Channels to keep in each group: those whose gates can still open."""
        margin = 3 * self.temperatures().numpy() + 1
        return np.minimum(np.ceil(self.widths + margin), self.bank.sizes).astype(np.int64)

    def row(self) -> dict[str, object]:
        """Resources, targets, multipliers and real-valued widths, for the trajectory."""
        used = self._used(torch.exp(self.log_widths))
        return {
            **{name: round(float(value)) for name, value in zip(RESOURCES, used, strict=True)},
            **{f"target_{n}": round(float(v)) for n, v in zip(self.names, self.target(), strict=True)},
            **{f"multiplier_{n}": round(float(v), 4) for n, v in zip(self.names, self.multipliers, strict=True)},
            "widths": [round(float(v), 2) for v in self.widths * self._channels],
        }
