"""Optuna's own tables in the same database, kept so that optuna-dashboard and Optuna's API show the sweep.

Our tables lead, and `reconcile` writes what a crash left out. A trial here has the number of ours, unless that was
asked for out of turn: then its attribute `NUMBER` says which it is.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, distribution_to_json
from optuna.storages._rdb.models import TrialModel, TrialParamModel, TrialValueModel
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import delete, exc, select, update
from sqlalchemy.engine import URL

from mcu.budget import RESOURCES, Budget
from orchestrator.samplers.base import Context, Record
from orchestrator.samplers.observation import DIRECTIONS, OBJECTIVES, observe
from orchestrator.samplers.optuna import write_observation
from orchestrator.spec import TrialResult, TrialSpec
from orchestrator.storage.connection import database_errors
from orchestrator.storage.optuna_storage import open_optuna
from orchestrator.storage.reconnecting import Patience, reconnecting

NUMBER = "mcusweep_number"
_SHOWN_RESULTS = ("accuracy", "violation", "binding_use", "duration_s", "reason")


class OptunaRecord:
    """The Optuna study beside one of ours.

    Raises:
        InputError, StoreError: as `database_errors`.
    """

    def __init__(self, url: URL, study_name: str, methods: tuple[str, ...], patience: Patience | None = None) -> None:
        self.patience = patience or Patience()
        self._url, self._methods = url, methods
        with self._errors():
            storage = open_optuna(url, writing=True)
            self._storage = storage
            study = optuna.create_study(
                study_name=study_name,
                storage=storage,
                directions=list(DIRECTIONS),
                load_if_exists=True,
            )
            self._study_id = storage.get_study_id_from_name(study_name)
            self._read_ids()
            self._widen_methods()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                study.set_metric_names(list(OBJECTIVES))

    def _widen_methods(self) -> None:
        """Rewrite the choices of ``method`` where an extension added some behind the old ones.

        Optuna refuses a parameter whose choices change; the values are positions among them, and stay right.
        """
        wide = distribution_to_json(CategoricalDistribution(self._methods))
        ours = select(TrialModel.trial_id).where(TrialModel.study_id == self._study_id)
        old = (TrialParamModel.param_name == "method") & (TrialParamModel.distribution_json != wide)
        with self._storage.engine.begin() as connection:
            connection.execute(
                update(TrialParamModel).where(old & TrialParamModel.trial_id.in_(ours)).values(distribution_json=wide)
            )

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
        """Give back the connections."""
        self._storage.remove_session()
        self._storage.engine.dispose()

    def reconnected(self) -> None:
        """Find out what a cut transaction left."""
        with self._errors():
            self._read_ids()

    def _read_ids(self) -> None:
        trials = self._storage.get_all_trials(self._study_id, deepcopy=False)
        self._ids = {_number(trial): trial._trial_id for trial in trials}

    @reconnecting
    def start(
        self,
        number: int,
        spec: TrialSpec,
        space: Mapping[str, BaseDistribution],
        index: int,
        memory: Mapping[str, Any],
    ) -> None:
        """Write a running trial, in one transaction, unless it is there."""
        if number in self._ids:
            return
        params: dict[str, Any] = {"method": spec.method}
        distributions: dict[str, BaseDistribution] = {"method": CategoricalDistribution(self._methods)}
        for name, distribution in space.items():
            params[name], distributions[name] = spec.hyperparameters[name], distribution
        fixed = {name: value for name, value in spec.hyperparameters.items() if name not in space}
        attributes: dict[str, Any] = {
            "index": index,
            "network": spec.network.name,
            "task": spec.task.name,
            "device": spec.device,
            "seed": spec.seed,
            "spec_hash": spec.hash(),
            **{f"budget_{name}": bound for name, bound in spec.budget.bounds().items()},
            **fixed,
        }
        if number != len(self._ids):
            attributes[NUMBER] = number
        template = FrozenTrial(
            number=number,
            trial_id=-1,
            state=TrialState.RUNNING,
            value=None,
            datetime_start=datetime.now(),
            datetime_complete=None,
            params=params,
            distributions=distributions,
            user_attrs=attributes,
            system_attrs=dict(memory),
            intermediate_values={},
        )
        with self._errors():
            self._ids[number] = self._storage.create_new_trial(self._study_id, template_trial=template)

    @reconnecting
    def finish(self, number: int, spec: TrialSpec, result: TrialResult) -> None:
        """Write how a running trial ended."""
        shown = {name: value for name in _SHOWN_RESULTS if (value := getattr(result, name)) is not None}
        with self._errors(), suppress(optuna.exceptions.UpdateFinishedTrialError):  # by a transaction that was cut
            trial_id = self._ids[number]
            for name, value in shown.items():
                self._storage.set_trial_user_attr(trial_id, name, value)
            write_observation(self._storage, trial_id, observe(result, spec.budget))

    def reopen(self, numbers: Sequence[int]) -> None:
        """Make trials run again that had ended."""
        ids = [self._ids[number] for number in numbers if number in self._ids]
        with self._errors(), self._storage.engine.begin() as connection:
            connection.execute(delete(TrialValueModel).where(TrialValueModel.trial_id.in_(ids)))
            running = {"state": TrialState.RUNNING, "datetime_complete": None}
            connection.execute(update(TrialModel).where(TrialModel.trial_id.in_(ids)).values(running))

    @reconnecting
    def records(self) -> list[Record]:
        """Every trial with its method, index and budget, for a sampler to learn from; ``method`` is taken out."""
        with self._errors():
            trials = self._storage.get_all_trials(self._study_id)
        return [_without_method(trial) for trial in trials]


def _number(trial: FrozenTrial) -> int:
    """Our number of a trial of Optuna's."""
    return int(trial.user_attrs.get(NUMBER, trial.number))


def _without_method(trial: FrozenTrial) -> Record:
    method = str(trial.params["method"])
    params = {name: value for name, value in trial.params.items() if name != "method"}
    distributions = {name: value for name, value in trial.distributions.items() if name != "method"}
    bare = FrozenTrial(
        number=_number(trial),
        trial_id=-1,
        state=trial.state,
        value=None,
        values=trial.values,
        datetime_start=trial.datetime_start,
        datetime_complete=trial.datetime_complete,
        params=params,
        distributions=distributions,
        user_attrs={},
        system_attrs=trial.system_attrs,
        intermediate_values={},
    )
    bounds = {name: trial.user_attrs.get(f"budget_{name}") for name in RESOURCES}
    context = Context(Budget(**bounds), str(trial.user_attrs["network"]))
    return Record(method, int(trial.user_attrs["index"]), context, bare)
