"""What a sweep will run: every trial's method, network, budget and seed, before anything is sampled."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product

from optuna.distributions import BaseDistribution

from mcu.errors import InputError
from orchestrator.methods import find_method
from orchestrator.sampler import derive_seed
from orchestrator.spec import Bounds, TrialSpec
from search_spaces.budgets import NamedBudget
from search_spaces.choices import NetworkChoice, Scalar
from search_spaces.hyperparameters import Hyperparameter, distributions, fixed_values
from search_spaces.sweep import SweepConfig
from search_spaces.tasks import task_digest


@dataclass(frozen=True)
class PlannedTrial:
    """One trial of the plan; its hyperparameters come from the sampler when its turn comes.

    Attributes:
        number: in the study, from 0.
        index: among the trials of its method, from 0.
        seed: the same for trials of one index, so methods are compared on equal terms.
    """

    number: int
    method: str
    index: int
    network: NetworkChoice
    budget: NamedBudget
    seed: int


@dataclass(frozen=True)
class Plan:
    """The trials of a sweep in the order they are asked for: methods take turns, budgets take turns in each."""

    sweep: SweepConfig

    @cached_property
    def cells(self) -> tuple[tuple[NetworkChoice, NamedBudget], ...]:
        """Every network at every budget; a method's trials go round these."""
        return tuple(product(self.sweep.network.choices(), self.sweep.named_budgets()))

    @cached_property
    def trials(self) -> tuple[PlannedTrial, ...]:
        """All planned trials by number.

        Raises:
            InputError: as `check`.
        """
        methods = self.sweep.methods.names
        self.check()
        counts = {method: self.sweep.trials_of(method) for method in methods}
        planned: list[PlannedTrial] = []
        for index in range(max(counts.values())):
            network, budget = self.cells[index % len(self.cells)]
            seed = self._seed(index)
            for method in methods:
                if index < counts[method]:
                    planned.append(PlannedTrial(len(planned), method, index, network, budget, seed))
        return tuple(planned)

    def _seed(self, index: int) -> int:
        """Seed of a method's trials of this index: one of its own, or with ``sweep.seeds`` one for the whole round."""
        section = self.sweep.sweep
        if section.seeds is None:
            return derive_seed(section.seed, "trial", index)
        return derive_seed(section.seed, "round", index // len(self.cells) % section.seeds)

    @cached_property
    def spaces(self) -> dict[str, dict[str, BaseDistribution]]:
        """What is searched, by method: only hyperparameters the method takes."""
        return {method: distributions(self._taken(method)) for method in self.sweep.methods.names}

    def check(self) -> None:
        """Refuse what no trial could use.

        Raises:
            InputError: for an unknown method, or a hyperparameter that no method takes.
        """
        taken = {name for method in self.sweep.methods.names for name in self._taken(method)}
        for name in self.sweep.hyperparameters:
            if name not in taken:
                methods = ", ".join(self.sweep.methods.names)
                known = {
                    key for method in self.sweep.methods.names for key in find_method(method).hyperparameters or ()
                }
                raise InputError(
                    f"hyperparameters.{name}: no method of this sweep ({', '.join(methods)}) takes it; "
                    f"allowed are {', '.join(sorted(known))}"
                )

    def _taken(self, method: str) -> dict[str, Hyperparameter]:
        takes = find_method(method).hyperparameters
        given = self.sweep.hyperparameters
        return {name: value for name, value in given.items() if takes is None or name in takes}

    @cached_property
    def data(self) -> str:
        """Digest of the task's data: the same file name with other content makes other trials."""
        return task_digest(self.sweep.task)

    def spec(self, trial: PlannedTrial, suggested: dict[str, Scalar]) -> TrialSpec:
        """The full specification of a planned trial with its suggested hyperparameters."""
        bounds = trial.budget.budget
        return TrialSpec(
            task=self.sweep.task,
            data=self.data,
            network=trial.network,
            method=trial.method,
            device=trial.budget.device,
            runtime=self.sweep.budgets.runtime,
            budget=Bounds(flash=bounds.flash, sram=bounds.sram, macs=bounds.macs),
            hyperparameters=fixed_values(self._taken(trial.method)) | suggested,
            seed=trial.seed,
            training=self.sweep.training,
        )
