"""Pruning inside the user's training loop: the loop owns data, loss, optimiser and schedule, the pruner the widths.

pruner = Pruner(network, example_input=x[:1], budget=Budget(flash="64KB"), steps=epochs * len(loader))
optimizer = torch.optim.AdamW(pruner.parameters())
pruner.attach(optimizer)
for x, y in batches:
    loss = criterion(pruner(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    pruner.step()
model = pruner.export(calibration=loader)
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from mcu.budget import RESOURCES, Budget, Resources
from mcu.errors import InputError, require_whole
from mcu.graph.ports import Shapes, each
from mcu.int8.calibration import calibrate
from mcu.int8.folded_net import FoldedNet
from mcu.runtime import Runtime
from pruning.differentiable import DifferentiablePruning
from pruning.engine import widening
from pruning.engine.gates import GateBank
from pruning.engine.network import Constraints, PrunableNetwork
from pruning.engine.rewriting import can_follow, forget_unfitting, hand_over
from pruning.exported import ExportedModel, calibration_samples
from pruning.methods import Compression
from pruning.pruned_copy import PrunedCopy
from pruning.training.loop_run import Judge, LoopRun
from pruning.training.problem import DivergedError, Infeasible
from pruning.training.recipe import check_value
from pruning.training.run import Run, Steps

LEAST_STEPS = 10
"""Fewer steps are no training: the widths would be cut as they happen to be."""


def _shapes(example: torch.Tensor | Sequence[torch.Tensor]) -> Shapes:
    """Shapes of one example of each input."""
    if not all(hasattr(given, "shape") and len(given.shape) > 1 for given in each(example)):
        raise InputError(
            "example_input: allowed are a tensor (N, ...), such as x[:1], or a tuple with one for each input"
        )
    return tuple(tuple(given.shape[1:]) for given in each(example))


def _bounded(runtime: Runtime | None, budget: Budget) -> Runtime:
    """The runtime with the budget as its bounds."""
    if not isinstance(budget, Budget):
        raise InputError(f"budget = {budget!r}: allowed is a Budget, such as Budget(flash='64KB')")
    if not isinstance(runtime, Runtime | None):
        raise InputError(f"runtime = {runtime!r}: allowed is a mcu.runtime.Runtime")
    return replace(runtime or Runtime(), budget=budget)


class InfeasibleError(Exception):
    """A method found during training that it cannot meet the budget."""

    def __init__(self, infeasible: Infeasible) -> None:
        super().__init__(infeasible.reason)
        self.infeasible = infeasible


class Pruner(nn.Module):
    """A network that is pruned to its budget while the user's loop trains it.

    Use it in place of the network, and call ``step`` after every step of the optimiser. Layers of the network are
    resized in place; a layer's weight stays the same ``Parameter``. From then on the network itself refuses to be
    called: ``pruner.eval()(x)`` is the pruned one. ``state_dict`` has the network, its widths and the
    progress of pruning; ``load_state_dict`` into a pruner of the same arguments resumes bit-exactly, if the optimiser's
    state is restored as well.

    Args:
        network: what to prune, with fresh or trained weights.
        example_input: a batch ``(N, ...)`` as the loop will pass it, or a tuple of one for each input of ``forward``;
            only shapes are used.
        budget: upper bounds for the exported int8 model, checked on measured bytes.
        steps: how often ``step`` will be called. Widths are final at about 0.45 of them; the rest is recovery.
        frozen: paths of layers that keep all their channels.
        round_to: channels that are kept or removed together.
        runtime: what the budget bounds; TensorFlow Lite Micro by default.
        warmup, pruning: fractions of the steps, see ``DifferentiablePruning``; by the budget if None.
        judge: loss of a network on a few training samples. If a budget is too small for the fixed costs of all residual
            branches, it ranks the branches to remove; by default they are ranked by the change of the output on the
            last batch.
        idle: whether widths that train slowly are padded with zeros while they train.
        seed: for the initial weights of channels that are added again.

    Raises:
        UnreachableBudgetError: if no widths can meet the budget, with the smallest figures that can be reached.
        InputError: if the network cannot be traced, ``steps`` are too few, or an argument is not allowed.
    """

    def __init__(
        self,
        network: nn.Module,
        example_input: torch.Tensor | Sequence[torch.Tensor],
        budget: Budget,
        steps: int,
        *,
        frozen: tuple[str, ...] = (),
        round_to: int = 1,
        runtime: Runtime | None = None,
        warmup: float | None = None,
        pruning: float | None = None,
        judge: Judge | None = None,
        idle: bool = True,
        seed: int = 0,
    ) -> None:
        steps, seed = require_whole("steps", steps, 1), require_whole("seed", seed, 0)
        if steps < LEAST_STEPS:
            raise InputError(f"steps = {steps}: too few to prune in; pass epochs * batches, at least {LEAST_STEPS}")
        method, bounded = DifferentiablePruning(), _bounded(runtime, budget)
        if judge is not None and not callable(judge):
            raise InputError(f"judge = {judge!r}: allowed is a function of a network that returns its loss")
        constraints = Constraints(_shapes(example_input), frozen, round_to, bounded)
        method.require_reachable(network, constraints, budget)
        prunable = PrunableNetwork(network, constraints, seed)
        chosen = {name: value for name, value in (("warmup", warmup), ("pruning", pruning)) if value is not None}
        for name, value in chosen.items():
            check_value(name, value, epochs=1)
        seen = None if judge is None else lambda module: judge(PrunedCopy(module, prunable.interface))
        self._begin(LoopRun(prunable, network, budget, chosen, steps, seen), method, idle)

    @classmethod
    def over(cls, run: Run, method: Compression) -> Pruner:
        """A pruner for the run of any method: what a sweep passes to the user's loop."""
        pruner = cls.__new__(cls)
        pruner._begin(run, method, idle=True)
        return pruner

    def _begin(self, run: Run, method: Compression, idle: bool) -> None:
        nn.Module.__init__(self)
        self._run, self._method, self._idle = run, method, idle
        self.module: nn.Module = run.network.module
        self._folded: FoldedNet | None = None
        self.before_int8: ExportedModel | None = None
        self._parallel: nn.Module | None = None
        self._scaler: Any = None
        self._scale = 1.0
        self._interface = run.network.interface
        self._moves = self._all_moves()
        self._move()

    # -- what a loop uses -------------------------------------------------------------------------------------------

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """What the network returns, in training and evaluation mode, for the arguments of its ``forward``."""
        x = self._interface.given(inputs, named)
        if torch.is_grad_enabled():
            if isinstance(self._run, LoopRun) and not self.landed:
                self._run.last_input = tuple(given.detach() for given in x)
            if self._scaler is not None:
                self._scale = float(self._scaler.get_scale())
        return self._interface.called(self.module, x, {})

    def attach(
        self, optimizer: torch.optim.Optimizer, *, parallel: nn.Module | None = None, scaler: Any = None
    ) -> None:
        """Keep an optimiser in step with the channels; several may be attached.

        Args:
            optimizer: created with ``pruner.parameters()``, or groups of them.
            parallel: the ``DistributedDataParallel`` around the pruner, whose buckets are updated, too.
            scaler: the ``torch.amp.GradScaler`` of the losses.

        Raises:
            InputError: if it holds none of the pruner's parameters, or one of these is something else.
        """
        if not isinstance(parallel, nn.Module | None):
            raise InputError(f"attach: parallel = {parallel!r}: allowed is a DistributedDataParallel")
        if scaler is not None and not hasattr(scaler, "get_scale"):
            raise InputError(f"attach: scaler = {scaler!r}: allowed is a torch.amp.GradScaler")
        own, groups = {id(parameter) for parameter in self.parameters()}, getattr(optimizer, "param_groups", ())
        if not any(id(parameter) in own for group in groups for parameter in group["params"]):
            raise InputError(
                "attach: it holds no parameter of the pruner; create the optimizer with pruner.parameters()"
            )
        if optimizer not in self._run.network.optimizers:
            self._run.network.optimizers.append(optimizer)
        optimizer.register_step_pre_hook(self._before_optimizer)
        self._parallel = parallel or self._parallel
        self._scaler = scaler or self._scaler

    def step(self) -> None:
        """Call after every optimiser step: updates the widths, removes channels, lands.

        Raises:
            InputError: before the first step if no optimiser is attached, or its state cannot follow.
            DivergedError: when channels go, or at the export, if a weight is no finite number.
        """
        run = self._run
        if self._folded is not None:
            run.step += 1
            return
        if run.step == 0:
            self._check_optimizers()
        bank = run.parts.get("bank")
        if isinstance(bank, GateBank):
            bank.scale_gradient(1 / self._scale)
            if self._parallel is not None:
                bank.share_gradient()
        self._move()

    @property
    def landed(self) -> bool:
        """Whether the widths are final and inside the budget."""
        return self._run.has_done("idle")

    @property
    def resources(self) -> Resources:
        """Resources of the exported model with the current channels."""
        return self._run.network.resources

    @property
    def dense(self) -> Resources:
        """Resources of the unpruned network."""
        return self._run.network.dense

    @property
    def widths(self) -> dict[str, int]:
        """Channels of every group of layers, by the name of the group."""
        network = self._run.network
        return network.graph.by_group(network.channels)

    @property
    def trajectory(self) -> list[dict[str, object]]:
        """Step, phase, resources, targets, multipliers and widths, about 200 rows in all."""
        return self._run.trajectory

    def quantise(self, calibration: Any) -> ExportedModel:
        """Start quantisation-aware training; optional, once the widths are final.

        Batch normalisation is folded into the layers before it, so the parameters are new; attached optimisers get
        them, without state. Use small steps: about a hundredth of the previous learning rate.

        Args:
            calibration: a few hundred inputs, of several inputs a tuple; see ``calibration_samples``.

        Returns:
            The int8 model before this training, for comparison with the one after it.
        """
        self._require_landed("quantise")
        if self._folded is not None:
            raise InputError("quantise: quantisation-aware training has started already")
        network = self._calibrated(calibration)
        self.before_int8 = self._exported(network)
        self._simulate_int8(network)
        return self.before_int8

    def export(self, calibration: Any = None, *, weights: nn.Module | None = None) -> ExportedModel:
        """The int8 model, measured.

        Args:
            calibration: a few hundred inputs; not needed after ``quantise``.
            weights: a copy of the pruner, such as ``torch.optim.swa_utils.AveragedModel``, whose weights are exported.

        Raises:
            InputError: before the widths are final.
        """
        self._require_landed("export")
        if self._folded is not None and weights is None:
            return self._exported(self._folded)
        return self._exported(self._calibrated(calibration, weights))

    # -- how it works -----------------------------------------------------------------------------------------------

    def _all_moves(self) -> Steps:
        run = self._run
        if refusal := (yield from self._method.compress(run)):  # type: ignore[arg-type]
            raise InfeasibleError(refusal)
        if run.once("idle"):
            run.network.revive()
            if self._idle:
                run.network.add_idle()
        yield from run.train(self._method.last_phase, run.step + 1)
        self._check_idle()
        yield from run.train(self._method.last_phase, sys.maxsize)

    def _move(self) -> None:
        network = self._run.network
        before = network.changes
        next(self._moves)
        if network.changes != before or self.module is not network.module:
            if isinstance(self._run, LoopRun):
                self._run.take_over()
            self.module = network.module
            self._rebuild_parallel()
            self._check_finite(self.module)
        if self.module.training != self.training:  # peers' libraries leave what they looked at in evaluation
            self.module.train(self.training)

    def _rebuild_parallel(self) -> None:
        """Buckets of gradients by the present shapes, as after unpickling."""
        if self._parallel is not None:
            self._parallel.__setstate__(self._parallel.__getstate__())

    def _before_optimizer(self, *_: Any) -> None:
        trainer = getattr(self._run, "trainer", None)
        if trainer is not None and trainer.gradient_hook:
            trainer.gradient_hook(self._run.network.module)

    def _check_optimizers(self) -> None:
        if not self._run.network.optimizers:
            raise InputError("step: no optimizer is attached; call pruner.attach(optimizer) before it")
        for optimizer in self._run.network.optimizers:
            for parameter, kept in optimizer.state.items():
                for key, value in kept.items():
                    can_follow(optimizer, key, value, parameter)
        if isinstance(self._run, LoopRun) and not self.landed:
            self._run.batch()

    def _check_finite(self, module: nn.Module) -> None:
        for name, parameter in module.named_parameters():
            if not bool(torch.isfinite(parameter).all()):
                raise DivergedError(
                    f"{name} is not finite after step {self._run.step} of {self._run.steps}: "
                    "the loop needs a smaller learning rate, or gradients that are clipped"
                )

    def _check_idle(self) -> None:
        network = self._run.network
        self._check_finite(network.module)
        if not widening.idle_is_zero(network.module, network.graph, network.widths):
            raise InputError(
                "channels added for speed did not stay zero: the loop changes weights by more than gradients and "
                "decay; pass idle=False"
            )

    def _require_landed(self, what: str) -> None:
        if not self.landed:
            raise InputError(
                f"{what}: {self._run.step} of {self._run.steps} steps are done and channels are not final; "
                "call pruner.step() after every step of the optimizer until pruner.landed"
            )

    def _calibrated(self, calibration: Any, weights: nn.Module | None = None) -> FoldedNet:
        network = self._run.network
        module = network.module if weights is None else _copy_in(weights).module
        if isinstance(module, FoldedNet):
            return module
        self._check_idle()
        self._check_finite(module)
        folded, shapes = FoldedNet(network.graph, module), network.constraints.input_shape
        device = next(module.parameters()).device
        calibrate(folded, calibration_samples(calibration, device, self._interface.inputs, shapes))
        return folded

    def _exported(self, network: FoldedNet) -> ExportedModel:
        prunable = self._run.network
        runtime, charge = prunable.constraints.runtime, getattr(self._run, "charge", None)
        return ExportedModel.of(network, prunable.widths, self._run.budget, runtime, self._method.name, charge)

    def _simulate_int8(self, network: FoldedNet) -> None:
        prunable = self._run.network
        if isinstance(self._run, LoopRun):
            self._run.close()
        network.calibrated.fill_(True)  # or will be, by a state that is loaded
        network.fake_quantise(True)
        network.to(memory_format=prunable.memory_format)  # type: ignore[call-overload]
        for optimizer in prunable.optimizers:
            hand_over(optimizer, prunable.module, network)
        for copied in prunable.followers:
            own = FoldedNet(prunable.graph, copied.module)
            own.ranges.copy_(network.ranges)
            own.calibrated.fill_(True)
            own.fake_quantise(True)
            copied.module = own
        self._folded = network
        self.module = network
        self._rebuild_parallel()

    # -- what is kept -----------------------------------------------------------------------------------------------

    def get_extra_state(self) -> dict[str, Any]:
        """Progress of pruning; the weights are separate entries of ``state_dict``."""
        kept = self._run.state_dict() | {"int8": self._folded is not None, "asked": self._asked()}
        del kept["network"]
        kept["parts"] = {
            name: {key: value.clone() for key, value in part.items()} for name, part in kept["parts"].items()
        }
        return kept

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restore the network's widths; its weights are loaded after this.

        Raises:
            InputError: for a state of another network, budget or number of steps, or one saved before branches of this
                network were removed.
        """
        run, network = self._run, self._run.network
        if differing := [f"{n} = {then}" for n, then in state.get("asked", {}).items() if then != self._asked()[n]]:
            raise InputError(
                f"load_state_dict: the state is of {', '.join(differing)}; load it into a Pruner of the same arguments"
            )
        if self._folded is not None or run.notes.get("edits"):
            raise InputError("load_state_dict: this pruner has removed layers already; load into a new Pruner")
        self._moves.close()
        network.detach_gates()
        run.parts.clear()
        network.restore_widths()
        run.load_state_dict(state, self._method.rebuild)
        for optimizer in network.optimizers:
            forget_unfitting(optimizer)
        self._moves = self._all_moves()
        self._move()
        if state["int8"]:
            self._simulate_int8(FoldedNet(network.graph, network.module))

    def _asked(self) -> dict[str, int | None]:
        """What was asked of the pruner, which a state is of."""
        return {"steps": self._run.steps} | {name: getattr(self._run.budget, name) for name in RESOURCES}

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Refuse to be pickled, and so ``torch.save(pruner)``."""
        raise InputError("Pruner: cannot be pickled; save pruner.state_dict() and load it into a new Pruner")

    def __deepcopy__(self, memo: dict[int, Any]) -> PrunedCopy:
        """A copy of the network, such as an average of its weights, that loses and gains the same channels."""
        copied = PrunedCopy(copy.deepcopy(self.module, memo), self._interface)
        self._run.network.followers.add(copied)
        return copied


def _copy_in(weights: nn.Module) -> PrunedCopy | Pruner:
    for module in weights.modules() if isinstance(weights, nn.Module) else ():
        if isinstance(module, PrunedCopy | Pruner):
            return module
    raise InputError(f"weights = {type(weights).__name__}: holds no copy of the pruner; use copy.deepcopy(pruner)")
