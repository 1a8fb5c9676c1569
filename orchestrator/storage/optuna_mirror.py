"""A mirror of a study in Optuna's own tables, so that optuna-dashboard and Optuna's API show the sweep.

It is write-only: our tables are authoritative, and `OptunaMirror.complete` adds what is missing after a crash. A trial
here has the number of ours, unless it was started out of order: then its attribute `NUMBER` has our number.

Studies are written by Optuna's functions (`create_study`, `delete_study`), trials by the methods of `RDBStorage`:
`Study.add_trial` keeps a copy of every trial in memory, `Study.tell` sets no constraints, and creating a `Trial` calls
a sampler. Constraints are written as in `Trial.set_constraint`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import exc
from sqlalchemy.engine import URL

from orchestrator.samplers.observation import DIRECTIONS, OBJECTIVES, observe
from orchestrator.samplers.optuna import STATES
from orchestrator.spec import TrialResult, TrialSpec
from orchestrator.storage.connection import database_errors
from orchestrator.storage.optuna_storage import open_optuna
from orchestrator.storage.reconnecting import Patience, reconnecting
from orchestrator.storage.records import asked_row
from reports.columns import Shown, names

NUMBER = "mcusweep_number"
_SHOWN = names(shown=Shown.OPTUNA)


@dataclass(frozen=True)
class MirroredTrial:
    """A trial of the mirror.

    Attributes:
        space: of the sampled hyperparameters; fixed ones are shown as attributes.
        index: among the trials of its method.
    """

    number: int
    spec: TrialSpec
    space: Mapping[str, BaseDistribution]
    index: int


class OptunaMirror:
    """The Optuna study that mirrors one of ours.

    Raises:
        InputError, StoreError: as `database_errors`.
    """

    def __init__(self, url: URL, study_name: str, methods: tuple[str, ...], patience: Patience | None = None) -> None:
        self.patience = patience or Patience()
        self._url, self._name = url, study_name
        self._methods = CategoricalDistribution(methods)
        with self._errors():
            self._storage = open_optuna(url, writing=True)
            self._study = self._open()
        self.reconnected()

    def reconnected(self) -> None:
        """Read again which trials are written, after a broken transaction."""
        with self._errors():
            written = self._storage.get_all_trials(self._study._study_id, deepcopy=False)
        self._places = {_number(trial): trial.number for trial in written}
        self._ended = {_number(trial) for trial in written if trial.state.is_finished()}
        self._outdated = any(trial.distributions["method"] != self._methods for trial in written)

    def _open(self) -> optuna.Study:
        study = optuna.create_study(
            study_name=self._name, storage=self._storage, directions=list(DIRECTIONS), load_if_exists=True
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names(list(OBJECTIVES))
        return study

    @contextmanager
    def _errors(self) -> Iterator[None]:
        with database_errors(self._url):
            try:
                yield
            except optuna.exceptions.StorageInternalError as error:
                cause = error.__cause__
                if isinstance(cause, exc.DBAPIError):
                    raise cause from error
                raise

    def close(self) -> None:
        """Close the connections."""
        self._storage.remove_session()
        self._storage.engine.dispose()

    def complete(self, trials: Sequence[tuple[MirroredTrial, TrialResult | None]]) -> None:
        """Write our trials, with results, that are missing or still running here.

        Optuna does not allow changed choices or repeated trials: in these cases the mirror is rewritten.
        """
        if self._outdated or any(result is None and trial.number in self._ended for trial, result in trials):
            with self._errors():
                optuna.delete_study(study_name=self._name, storage=self._storage)
                self._study = self._open()
            self.reconnected()
        for trial, result in trials:
            if trial.number not in self._places:
                self._add(trial, result)
            elif result is not None and trial.number not in self._ended:
                self.finish(trial, result)

    def start(self, trial: MirroredTrial) -> None:
        """Write a running trial."""
        self._add(trial, None)

    @reconnecting
    def _add(self, trial: MirroredTrial, result: TrialResult | None) -> None:
        if trial.number in self._places:
            return
        attributes: dict[str, Any] = {"index": trial.index}
        if trial.number != len(self._places):
            attributes[NUMBER] = trial.number
        sampled = {name: trial.spec.hyperparameters[name] for name in trial.space}
        fixed = {name: value for name, value in trial.spec.hyperparameters.items() if name not in trial.space}
        ended = None if result is None else observe(result, trial.spec.budget, trial.spec.runtime)
        template = optuna.trial.create_trial(
            state=TrialState.RUNNING if ended is None else STATES[ended.state],
            params={"method": trial.spec.method, **sampled},
            distributions={"method": self._methods, **trial.space},
            values=None if ended is None else ended.values,
            constraints=None if ended is None else ended.constraints,
            user_attrs=attributes | _shown(asked_row(trial.spec)) | fixed | _answered(result),
        )
        with self._errors():
            self._storage.create_new_trial(self._study._study_id, template)
        self._places[trial.number] = len(self._places)

    @reconnecting
    def finish(self, trial: MirroredTrial, result: TrialResult) -> None:
        """Write the result of a running trial."""
        ended = observe(result, trial.spec.budget, trial.spec.runtime)
        with self._errors(), suppress(optuna.exceptions.UpdateFinishedTrialError):  # by a transaction that was cut
            place = self._places[trial.number]
            trial_id = self._storage.get_trial_id_from_study_id_trial_number(self._study._study_id, place)
            for name, value in _answered(result).items():
                self._storage.set_trial_user_attr(trial_id, name, value)
            for name, bound in ended.constraints.items():
                self._storage.set_trial_system_attr(trial_id, f"constraints:{name}", bound)
            self._storage.set_trial_state_values(trial_id, STATES[ended.state], ended.values)
        self._ended.add(trial.number)


def forget_mirror(url: URL, study_name: str) -> None:
    """Remove a study from Optuna's tables, if present."""
    storage = open_optuna(url, writing=True)
    try:
        if study_name in optuna.get_all_study_names(storage):
            optuna.delete_study(study_name=study_name, storage=storage)
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _number(trial: FrozenTrial) -> int:
    """Our number of a trial of Optuna's."""
    return int(trial.user_attrs.get(NUMBER, trial.number))


def _answered(result: TrialResult | None) -> dict[str, Any]:
    return {} if result is None else _shown({name: getattr(result, name, None) for name in _SHOWN})


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in _SHOWN if row.get(name) is not None}
