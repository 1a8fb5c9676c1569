"""Plan of a sweep: every trial's method, network, budget and seed, before hyperparameters are sampled."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from typing import Any, NamedTuple

from optuna.distributions import BaseDistribution
from pydantic import TypeAdapter, ValidationError

from mcu.budget import Budget, Resources
from mcu.errors import InputError
from mcu.terms import RuntimeName
from orchestrator.planning.inputs import Inputs, combinations, input_space, network_key, with_inputs
from orchestrator.planning.lineage import Lineage, job_epochs, shrinkage
from orchestrator.planning.planned_trial import PlannedTrial, Start
from orchestrator.samplers.base import derive_seed
from orchestrator.spec import TrialSpec
from pruning.catalogue import find_method, method_entries
from search_spaces.choices import NetworkChoice, Scalar, TaskChoice
from search_spaces.hyperparameters import Hyperparameter, distributions, fixed_values
from search_spaces.source_code import own_functions, source_digest
from search_spaces.sweep import SweepConfig
from search_spaces.tasks import task_digest
from search_spaces.tasks.registry import may_have_front_end, searchable

PARENT_METHOD = "dense-ptq"
"""What trains the dense network of a lineage: the method that compresses nothing, without a bound."""

DENSE = Budget(name="dense parent")


LEAST = "least"
"""Key of `Plan.least` among the facts of a study."""


def least_of(facts: Mapping[str, Any]) -> dict[str, Resources]:
    """`Plan.least` from the facts of a study; nothing where they do not say.

    Raises:
        InputError: they are damaged.
    """
    try:
        return TypeAdapter(dict[str, Resources]).validate_python(facts.get(LEAST, {}))
    except ValidationError as error:
        why = error.errors()[0]["msg"]
        raise InputError(f"the study's facts about its task are damaged: {LEAST!r}: {why}; import it again") from None


class Cell(NamedTuple):
    """What a method's trials cycle through."""

    network: NetworkChoice
    inputs: Inputs
    budget: Budget


@dataclass(frozen=True)
class Plan:
    """The trials of a sweep in sampling order: round-robin over methods, and within each over budgets.

    Attributes:
        least: what each network takes with one channel in every group, by `network_key`, where it is known.
    """

    sweep: SweepConfig
    least: Mapping[str, Resources] = field(default_factory=dict)

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """Every network at every budget; a method's trials cycle through these.

        In a lineage the searched options of the task are planned as well, because each needs a dense network.
        """
        inputs = self.inputs if self._inheriting else ((),)
        return tuple(map(Cell._make, product(self.sweep.network.choices(), inputs, self.sweep.planned_budgets())))

    @cached_property
    def inputs(self) -> tuple[Inputs, ...]:
        """Every combination of the searched options of the task; one without values if there are none.

        Raises:
            InputError: for an option without a list of values, or too many combinations.
        """
        return combinations(self._input_space)

    @cached_property
    def _input_space(self) -> dict[str, Hyperparameter]:
        return input_space(self.sweep)

    def task(self, inputs: Inputs) -> TaskChoice:
        """The task with these options."""
        return with_inputs(self.sweep.task, inputs)

    @cached_property
    def trials(self) -> tuple[PlannedTrial, ...]:
        """All planned trials by number.

        Raises:
            InputError: as `check`.
        """
        self.check()
        earlier = self._earlier.trials if self._earlier is not None else ()
        added = self._added(tuple(trial for trial in earlier if trial.is_sampled))
        together = (*earlier, *self._parents(earlier, added), *added, *self._repeats(earlier))
        return tuple(replace(trial, number=number) for number, trial in enumerate(together))

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Number of trials before each extension, and now."""
        return (*(self._earlier.sizes if self._earlier is not None else ()), len(self.trials))

    @cached_property
    def lineage(self) -> Lineage:
        """Which trials may start from the trained networks of which others."""
        planned = len(self.cells) if self.sweep.budgets.plan == "adaptive" else math.inf
        return Lineage(self.trials, self.sizes, self._inheriting, self._taught, planned)

    @cached_property
    def _inheriting(self) -> frozenset[str]:
        names = self.sweep.methods.names if self.sweep.lineage.enabled else []
        return frozenset(name for name in names if find_method(name).inherits)

    @cached_property
    def _taught(self) -> frozenset[str]:
        names = self.sweep.methods.names if self._inheriting else []
        return frozenset(name for name in names if find_method(name).taught)

    def _parents(self, earlier: Sequence[PlannedTrial], added: Sequence[PlannedTrial]) -> list[PlannedTrial]:
        """The dense networks that added trials begin with and that are not there yet."""
        there = {(trial.network.model_dump_json(), trial.inputs, trial.seed) for trial in earlier if trial.is_parent}
        index = -1 - len(there)
        found: list[PlannedTrial] = []
        for trial in added:
            key = (trial.network.model_dump_json(), trial.inputs, trial.parent_seed)
            if trial.method in self._inheriting | self._taught and key not in there:
                there.add(key)
                mine = index - len(found)
                found.append(
                    PlannedTrial(0, PARENT_METHOD, mine, trial.network, DENSE, trial.parent_seed, inputs=trial.inputs)
                )
        return found

    def _repeats(self, earlier: Sequence[PlannedTrial]) -> list[PlannedTrial]:
        """The trials that are trained again, with seeds of their own, and that are not there yet."""
        turns: Counter[int] = Counter()
        found = []
        for number in self.sweep.repeats:
            seed = derive_seed(self.sweep.sweep.seed, "repeat", number, turns[number])
            turns[number] += 1
            found.append(replace(earlier[number], seed=seed, repeats=number))
        return found[sum(trial.repeats is not None for trial in earlier) :]

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
        parent_seed = derive_seed(self.sweep.sweep.seed, "parent")
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
                seed = self._seed(index, turns[cell])
                root = parent_seed if self.sweep.sweep.seeds is None else seed
                network, inputs, budget = self.cells[cell]
                slots[index] = PlannedTrial(0, "", index, network, budget, seed, turns[cell], root, inputs=inputs)
                turns[cell] += 1
                at += 1
            cell = self._cell_of(slots[index])
            for method, cells in missing.items():
                if (method, index) not in taken and cells[cell]:
                    cells[cell] -= 1
                    planned.append(replace(slots[index], method=method))
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
        return self._positions[trial.network.model_dump_json(), trial.inputs, trial.budget.label]

    @cached_property
    def _positions(self) -> dict[tuple[str, Inputs, str], int]:
        return {
            (cell.network.model_dump_json(), cell.inputs, cell.budget.label): at for at, cell in enumerate(self.cells)
        }

    def _seed(self, index: int, turn: int) -> int:
        """Seed of a method's trials of this index: one of its own, or with ``sweep.seeds`` one for the whole round.

        ``turn`` counts the trials the budget had before.
        """
        section = self.sweep.sweep
        if section.seeds is None:
            return derive_seed(section.seed, "trial", index)
        return derive_seed(section.seed, "round", turn % section.seeds)

    @property
    def methods(self) -> tuple[str, ...]:
        """Every method of the trials; those added by an extension come last."""
        names = self.sweep.methods.names
        return tuple(dict.fromkeys((PARENT_METHOD, *names))) if self._inheriting else tuple(names)

    @cached_property
    def spaces(self) -> dict[str, dict[str, BaseDistribution]]:
        """Search space by method: only hyperparameters that the method accepts, and options of the task."""
        inputs = {} if self._inheriting else self._input_space
        return {method: distributions(self._taken(method) | inputs) for method in self.sweep.methods.names}

    def check(self) -> None:
        """Refuse settings that no trial can use.

        Raises:
            InputError: for an unknown method, or a hyperparameter that no method accepts.
        """
        for name in ("parent_epochs", "start"):
            if self._inheriting and name in self.sweep.hyperparameters:
                raise InputError(
                    f"hyperparameters.{name}: with lineage.enabled = true the dense parent is a trial of its own, "
                    "trained for lineage.parent_epochs"
                )
        taken = {name for method in self.sweep.methods.names for name in self._taken(method)}
        if self.sweep.lineage.enabled and not self._inheriting:
            able = ", ".join(entry.name for entry in method_entries() if entry.inherits)
            raise InputError(
                f"lineage.enabled = true: no method of this sweep ({', '.join(self.sweep.methods.names)}) can begin "
                f"with a trained network; those that can are {able}"
            )
        combinations(self._input_space)
        for name in self.sweep.hyperparameters:
            if name not in taken and name not in self._input_space:
                methods = ", ".join(self.sweep.methods.names)
                known = {
                    key for method in self.sweep.methods.names for key in find_method(method).hyperparameters or ()
                }
                raise InputError(
                    f"hyperparameters.{name}: no method of this sweep ({', '.join(methods)}) takes it; "
                    f"allowed are {', '.join(sorted(known | set(searchable(self.sweep.task.name))))}"
                )

    def _taken(self, method: str) -> dict[str, Hyperparameter]:
        takes = find_method(method).hyperparameters
        given = dict(self.sweep.hyperparameters)
        if self._inheriting and method not in self._inheriting | self._taught:
            given.pop("distillation", None)  # the scores to imitate are those of the lineage's parent
        theirs = {name: value for name, value in given.items() if name not in self._input_space}
        return {name: value for name, value in theirs.items() if takes is None or name in takes}

    def code(self, network: NetworkChoice) -> str | None:
        """Digest of the source of the user's functions of a trial, so that changed functions make different trials."""
        functions = own_functions(network, self.sweep.training)
        if functions not in self._sources:
            self._sources[functions] = source_digest(*functions)
        return self._sources[functions]

    @cached_property
    def _sources(self) -> dict[tuple[tuple[str, ...], str | None], str | None]:
        return {}

    @cached_property
    def _digests(self) -> dict[Inputs, str]:
        return {}

    def data(self, inputs: Inputs) -> str:
        """Digest of the task's data, so that changed files make different trials."""
        if inputs not in self._digests:
            self._digests[inputs] = task_digest(self.task(inputs))
        return self._digests[inputs]

    def require_unchanged(self, stored: Mapping[int, TrialSpec]) -> None:
        """Refuse to go on beside stored trials, by number, with other data or code of the user's than they had.

        Raises:
            InputError: naming the trial and what changed.
        """
        for number, spec in stored.items():
            code, data = self.code(spec.network), self.data(tuple(spec.task.searched.items()))
            now = {"code beside the sweep": (spec.code, code), f"data of task {spec.task.name!r}": (spec.data, data)}
            for what, (then, here) in now.items():
                if then is not None and then != here:
                    raise InputError(
                        f"the {what} changed since trial {number} began: its study would mix results of both; "
                        "restore what was there, or launch the sweep with another [sweep] name"
                    )

    def spec(self, trial: PlannedTrial, suggested: dict[str, Scalar], start: Start | None = None) -> TrialSpec:
        """The full specification of a planned trial with its suggested hyperparameters and its starting point."""
        inputs = trial.inputs or tuple((name, suggested[name]) for name in self._input_space)
        ancestor = start.ancestor if start else None
        epochs = self._epochs(
            trial, inputs, ancestor.budget if ancestor else None, ancestor.dense if ancestor else None
        )
        runtime = RuntimeName.TFLM if trial.is_parent else self.sweep.budgets.runtime
        return TrialSpec(
            task=self.task(inputs),
            data=self.data(inputs),
            network=trial.network,
            method=trial.method,
            device=trial.budget.device,
            runtime=runtime,
            budget=trial.budget,
            hyperparameters=fixed_values(self._taken(trial.method)) | suggested | dict(inputs),
            seed=trial.seed,
            training=self.sweep.training.model_copy(update={"epochs": epochs}),
            ancestor=start.ancestor.hash if start and trial.method in self._inheriting else None,
            parent=start.parent if start else None,
            code=self.code(trial.network),
            front_end_counts=runtime is RuntimeName.FIRMWARE and may_have_front_end(self.sweep.task.name),
        )

    def expected_epochs(self, trial: PlannedTrial, dense: Resources | None) -> int:
        """Epochs of a trial if it starts from its preferred ancestor."""
        first = self.lineage.candidates(trial)[:1]
        return self._epochs(trial, trial.inputs, self.trials[first[0]].budget if first else None, dense)

    def _epochs(self, trial: PlannedTrial, inputs: Inputs, ancestor: Budget | None, dense: Resources | None) -> int:
        if trial.is_parent:
            return self.sweep.parent_epochs
        epochs = self.sweep.training.epochs
        if ancestor is None or trial.method not in self._inheriting:
            return epochs
        least = self.least.get(network_key(trial.network, inputs))
        return job_epochs(epochs, shrinkage(trial.budget, ancestor, dense, least))
