"""What a sweep will run: every trial's method, network, budget and seed, before anything is sampled."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product

from optuna.distributions import BaseDistribution

from mcu.budget import Budget
from mcu.errors import InputError
from orchestrator.methods import find_method
from orchestrator.samplers.base import derive_seed
from orchestrator.spec import TrialSpec
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
    budget: Budget
    seed: int


@dataclass(frozen=True)
class Plan:
    """The trials of a sweep in the order they are asked for: methods take turns, budgets take turns in each."""

    sweep: SweepConfig

    @cached_property
    def cells(self) -> tuple[tuple[NetworkChoice, Budget], ...]:
        """Every network at every budget; a method's trials go round these."""
        return tuple(product(self.sweep.network.choices(), self.sweep.planned_budgets()))

    @cached_property
    def trials(self) -> tuple[PlannedTrial, ...]:
        """All planned trials by number.

        Raises:
            InputError: as `check`.
        """
        self.check()
        earlier = self._earlier.trials if self._earlier is not None else ()
        return (*earlier, *self._added(earlier))

    @cached_property
    def _earlier(self) -> Plan | None:
        """The plan this one grew from."""
        grown_from = self.sweep.grown_from
        return Plan(SweepConfig.model_validate(grown_from)) if grown_from is not None else None

    def _added(self, earlier: tuple[PlannedTrial, ...]) -> list[PlannedTrial]:
        """What the sweep asks for beyond earlier trials: every method gets its trials, budgets taking turns.

        Trials of one index have one budget and one seed in all methods, also in those that came later.
        """
        slots = {trial.index: trial for trial in earlier}
        turns = Counter(self._cell_of(slot) for slot in slots.values())
        taken = {(trial.method, trial.index) for trial in earlier}
        missing = self._missing(earlier)
        left = sum(cells.total() for cells in missing.values())
        planned: list[PlannedTrial] = []
        index = at = 0
        while len(planned) < left:
            if index not in slots:
                while not any(cells[at % len(self.cells)] for cells in missing.values()):
                    at += 1
                cell = at % len(self.cells)
                slots[index] = PlannedTrial(-1, "", index, *self.cells[cell], self._seed(index, turns[cell]))
                turns[cell] += 1
                at += 1
            cell = self._cell_of(slots[index])
            for method, cells in missing.items():
                if (method, index) not in taken and cells[cell]:
                    cells[cell] -= 1
                    planned.append(replace(slots[index], number=len(earlier) + len(planned), method=method))
            index += 1
        return planned

    def _missing(self, earlier: tuple[PlannedTrial, ...]) -> dict[str, Counter[int]]:
        """How many trials of each cell each method lacks."""
        there = Counter((trial.method, self._cell_of(trial)) for trial in earlier)
        missing: dict[str, Counter[int]] = {}
        for method in self.sweep.methods.names:
            wanted = Counter(index % len(self.cells) for index in range(self.sweep.trials_of(method)))
            missing[method] = Counter(
                {cell: count - there[method, cell] for cell, count in wanted.items() if count > there[method, cell]}
            )
        return missing

    def _cell_of(self, trial: PlannedTrial) -> int:
        return self._positions[trial.network.model_dump_json(), trial.budget.label]

    @cached_property
    def _positions(self) -> dict[tuple[str, str], int]:
        return {(network.model_dump_json(), budget.label): at for at, (network, budget) in enumerate(self.cells)}

    def _seed(self, index: int, turn: int) -> int:
        """Seed of a method's trials of this index: one of its own, or with ``sweep.seeds`` one for the whole round.

        ``turn`` counts the trials the budget had before.
        """
        section = self.sweep.sweep
        if section.seeds is None:
            return derive_seed(section.seed, "trial", index)
        return derive_seed(section.seed, "round", turn % section.seeds)

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
        return TrialSpec(
            task=self.sweep.task,
            data=self.data,
            network=trial.network,
            method=trial.method,
            device=trial.budget.device,
            runtime=self.sweep.budgets.runtime,
            budget=trial.budget,
            hyperparameters=fixed_values(self._taken(trial.method)) | suggested,
            seed=trial.seed,
            training=self.sweep.training,
        )
