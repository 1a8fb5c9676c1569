"""Channel pruning by the Torch-Pruning library: pre-train, prune in one or several rounds, fine-tune."""

from __future__ import annotations

import copy
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch_pruning as tp
from torch import fx, nn

from mcu.budget import Budget, Resources
from mcu.errors import InputError
from pruning.baselines.floor import below_floor, used_by
from pruning.engine.widths import first_fit
from pruning.methods import Compression
from pruning.training.evaluation import channels_last, normalise
from pruning.training.job import Job
from pruning.training.pretraining import pretrain, pretrained_steps
from pruning.training.problem import CannotTakeError, Infeasible, Problem, Settings

PRUNING_FRACTION = 0.5
"""Several rounds are spread over this fraction of the steps after pre-training; what is left fine-tunes."""

GRADIENT_BATCHES = 8
"""Batches whose gradients are summed for criteria that need them; no optimiser step is taken on them."""

SCOPES = ("global", "local")

ABOVE_ALL = 1e6
"""Added to the importance of the best channels of every layer: far above any other."""

Gradients = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Rounds:
    """When to prune, and how far.

    Attributes:
        steps: optimiser step of each round, ascending.
        shares: fraction of the way (in log resources) from dense to the budget after each round; the last is 1.
    """

    steps: tuple[int, ...]
    shares: tuple[float, ...]

    @classmethod
    def of(cls, hyperparameters: Mapping[str, Any], float_steps: int) -> Rounds:
        """Rounds by the hyperparameters ``pretrain`` (fraction of the float steps) and ``rounds`` (1 is one-shot).

        Raises:
            InputError: for values that are not allowed.
        """
        count = int(hyperparameters.get("rounds", 1))
        if not 1 <= count <= 100:
            raise InputError(f"hyperparameters.rounds = {count}: allowed is 1 (one-shot) to 100")
        first = pretrained_steps(hyperparameters, float_steps)
        last = first + (PRUNING_FRACTION * (float_steps - first) if count > 1 else 0)
        steps = np.rint(np.linspace(first, last, count)).astype(int)
        return cls(tuple(steps.tolist()), tuple(((np.arange(count) + 1) / count).tolist()))

    def target(self, share: float, dense: Resources, budget: Budget) -> Budget:
        """Bounds of a round: geometric interpolation between the dense network's resources and the budget."""
        bounds = budget.bounds()
        start = {name: max(getattr(dense, name), bound) for name, bound in bounds.items()}
        exact = {name: start[name] ** (1 - share) * bound**share for name, bound in bounds.items()}
        return budget if share == 1 else Budget(**{name: max(1, round(value)) for name, value in exact.items()})


class PeerPruning(Compression):
    """Structured pruning with a Torch-Pruning criterion, at the smallest ratio that fits.

    Hyperparameters: those of ``pruning.training.recipe``; ``pretrain`` (fraction of the float steps before pruning),
    ``rounds`` (1 is one-shot, more is iterative), ``scope`` (``global``: channels of all layers compete; ``local``:
    every layer loses the same fraction; default: that of the method's paper). With ``parent_epochs`` and ``start =
    "parent"`` the network to prune is the converged parent.
    """

    name = ""
    scope = "global"
    heir_defaults: Mapping[str, Any] = {"pretrain": 0.0}

    def refuse(self, problem: Problem, budget: Budget, settings: Settings) -> Infeasible | None:
        """Infeasible if one channel in every layer exceeds the budget. Refuses an unknown scope."""
        if refusal := below_floor(problem, budget):
            return refusal
        self._scope(settings.hyperparameters)
        return None

    def _scope(self, hyperparameters: Mapping[str, Any]) -> str:
        scope = str(hyperparameters.get("scope", self.scope))
        if scope not in SCOPES:
            raise InputError(f"hyperparameters.scope = {scope!r}: allowed are {', '.join(SCOPES)}")
        return scope

    def compress(self, job: Job) -> Generator[None, None, Infeasible | None]:
        """Pre-train, find the ratio of each round by bisection, prune."""
        scope, dense = self._scope(job.hyperparameters), job.network.dense
        rounds = Rounds.of(job.hyperparameters, job.float_steps)
        if job.step == 0:
            self._pruned(job, self._largest(job), scope, self.gradients(job))  # before any training: can it be done?
        yield from pretrain(job, rounds.steps[0], lambda: self.sparsify(job), kind=self.learning(job))
        for step, share in zip(rounds.steps, rounds.shares, strict=True):
            yield from job.train("pruning", step)
            if job.step == step:
                refusal = self._prune(job, rounds.target(share, dense, job.budget), scope, last=share == 1)
                if refusal:
                    return refusal
        return None

    def importance(self) -> Any:
        """Torch-Pruning's importance criterion."""
        raise NotImplementedError

    def pruner(self, network: fx.GraphModule, job: Job, ratio: float, scope: str) -> Any:
        """Torch-Pruning's pruner for a network, which it changes in place."""
        return tp.pruner.BasePruner(network, **self.pruner_options(network, job, ratio, scope))

    def pruner_options(self, network: fx.GraphModule, job: Job, ratio: float, scope: str) -> dict[str, Any]:
        """Arguments for every pruner of the library."""
        last = next(op for op in job.network.graph.ops if op.output == job.network.graph.outputs[0].tensor)
        fixed = [network.get_submodule(path) for path in (str(last.layer), *job.problem.frozen)]
        return {
            "example_inputs": torch.zeros(1, *job.problem.input_shape, device=job.trainer.device),
            "importance": self.importance(),
            "pruning_ratio": ratio,
            "max_pruning_ratio": 1.0,
            "ignored_layers": fixed,
            "round_to": job.problem.round_to if job.problem.round_to > 1 else None,
            "global_pruning": scope == "global",
        }

    def sparsify(self, job: Job) -> None:
        """Prepare pre-training; methods that learn sparsity regularise it."""

    def learning(self, job: Job) -> str:
        """Identifies what ``sparsify`` does, with its settings: jobs with equal values share their pre-training."""
        return "plain"

    def gradients(self, job: Job) -> Gradients:
        """Gradients that the criterion needs, by parameter; none by default."""
        return {}

    def _prune(self, job: Job, target: Budget, scope: str, *, last: bool) -> Infeasible | None:
        """Prune to a target; an answer if the last target cannot be met (an earlier one is then left out)."""
        gradients = self.gradients(job)
        largest = self._largest(job)
        network = first_fit(
            lambda cut: self._pruned(job, cut * largest, scope, gradients), lambda n: used_by(n, job.problem), target
        )
        if network is not None:
            job.replace(network)
        elif last:
            least = used_by(self._pruned(job, largest, scope, gradients), job.problem)
            return Infeasible("over budget at every pruning ratio", least)
        return None

    def _largest(self, job: Job) -> float:
        """The ratio that leaves every layer its least number of channels."""
        graph = job.network.graph
        if not graph.groups:
            return 0.0  # every layer is frozen
        return 1 - _least_channels(job.network.module) * len(graph.groups) / int(graph.widths.sum())

    def _pruned(self, job: Job, ratio: float, scope: str, gradients: Gradients) -> fx.GraphModule:
        """A copy of the network without ``ratio`` of its channels."""
        network = copy.deepcopy(job.network.module)
        for name, parameter in network.named_parameters():
            parameter.grad = gradients[name].clone() if name in gradients else None
        network.eval()
        with torch.random.fork_rng(devices=[]):  # criteria that draw do so alike at every ratio, or bisection would err
            torch.manual_seed(job.settings.seed)
            with torch_pruning_errors():
                pruner = self.pruner(network, job, ratio, scope)
                pruner.importance = Protected(pruner.importance, _least_channels(network))
                pruner.step()
                with torch.no_grad():  # it may leave layers that do not fit each other
                    network(torch.zeros(1, *job.problem.input_shape, device=job.trainer.device))
        return network


@contextmanager
def torch_pruning_errors() -> Iterator[None]:
    """Converts errors of Torch-Pruning on an unsupported network, which can be of any type, to ``CannotTakeError``.

    Raises:
        CannotTakeError: with the library's message.
    """
    try:
        yield
    except (InputError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        lines = str(error).splitlines() or [""]
        raise CannotTakeError(f"Torch-Pruning: {type(error).__name__}: {lines[0]}") from error


@dataclass(frozen=True)
class Protected:
    """A criterion that never empties a layer: the best channels of each layer are removed last.

    Torch-Pruning does not prune a layer if all of its channels would be removed, and so prunes less at higher ratios;
    with one protected channel per layer, the ratio goes from the dense network to one channel in every layer.
    """

    criterion: Any
    channels: int

    def __call__(self, group: Any) -> torch.Tensor | None:
        """Importance of each channel of a group of coupled layers."""
        importance = self.criterion(group)
        if importance is None:
            return None
        importance = importance.clone()
        importance[importance.topk(min(self.channels, len(importance))).indices] += ABOVE_ALL
        return importance


def _least_channels(network: nn.Module) -> int:
    """Channels every layer keeps: two where there are depthwise layers, as one of a single channel is a plain one."""
    return 2 if any(isinstance(layer, nn.Conv2d) and layer.groups > 1 for layer in network.modules()) else 1


def loss_gradients(job: Job) -> Gradients:
    """Gradients of the loss on a few training batches, with frozen batch-norm statistics, by parameter."""
    module, problem, size = job.network.module, job.problem, job.trainer.batches.size
    training = module.training
    module.eval()
    module.zero_grad(set_to_none=True)
    stride = max(1, len(problem.x_train) // (GRADIENT_BATCHES * size))  # data may come sorted by class
    images = torch.as_tensor(np.ascontiguousarray(problem.x_train[::stride][: GRADIENT_BATCHES * size]))
    labels = torch.as_tensor(problem.y_train[::stride][: GRADIENT_BATCHES * size])
    for x, y in zip(images.split(size), labels.split(size), strict=True):
        x, y = x.to(job.trainer.device), y.to(job.trainer.device)
        inputs = channels_last(normalise(x, problem))
        problem.objective.loss(module(inputs).flatten(1), inputs, y).backward()
    found = {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}
    module.zero_grad(set_to_none=True)
    module.train(training)
    return found
