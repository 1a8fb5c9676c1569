"""Trials to a given hypervolume: samplers and budget plans replayed on recorded real trials.

    python benchmarks/sweeps/sampler.py [--seeds 20] [--trials 128] [--answers trees|nearest]
        [--folder docs/results/sweeps/sampler]

A replayed trial is answered by an interpolation of the recorded ones (`record_trials.py`), in logarithms, on the logit
of accuracy and on what was used of each bound: extremely randomised trees through every recorded point, or the inverse
distances to the five nearest. Samplers and planner are the sweep's own. The hypervolume is the mean over budgets, drawn
log-uniformly from the ranges, of the best validation accuracy that fits. The limit is half of random search's trials.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from mcu.budget import Budget
from mcu.terms import TrialState
from orchestrator.planning.adaptive_budgets import AdaptiveBudgets
from orchestrator.samplers.base import Context
from orchestrator.samplers.observation import Observation
from orchestrator.samplers.registry import make_sampler
from reports.fronts import Box, hypervolume_steps
from search_spaces.budgets import BudgetsSection
from search_spaces.hyperparameters import distributions, parse_hyperparameter

RANGES = {"flash": ["4KB", "48KB"], "macs": ["15k", "300k"]}
SECTION = BudgetsSection.model_validate(RANGES)
SPACE = distributions(
    {
        name: parse_hyperparameter(value)
        for name, value in {
            "learning_rate": {"low": 0.003, "high": 1.0, "log": True},
            "weight_decay": {"low": 1e-5, "high": 0.1, "log": True},
            "warmup": {"low": 0.02, "high": 0.4},
            "pruning": {"low": 0.1, "high": 0.5},
        }.items()
    }
)
NAMES = tuple(SPACE)
RANDOM, OURS = "random, Sobol budgets", "conditioned TPE, adaptive budgets"
STRATEGIES = {
    RANDOM: ("random", False),
    "Optuna's TPE, Sobol budgets": ("optuna-tpe", False),
    "conditioned TPE, Sobol budgets": ("tpe", False),
    "random, adaptive budgets": ("random", True),
    OURS: ("tpe", True),
}


@dataclass(frozen=True)
class Answer:
    """What the table says of a trial."""

    accuracy: float
    flash: float
    macs: float


class Table:
    """Recorded trials as a function of budget and hyperparameters."""

    def __init__(self, folder: Path, nearest: bool = False) -> None:
        from sklearn.ensemble import ExtraTreesRegressor
        from sklearn.neighbors import KNeighborsRegressor

        frame = pd.read_csv(folder / "trials.csv")
        self.frame = frame[frame["state"] == "complete"].reset_index(drop=True)
        self.inputs, self.targets = features(self.frame), targets(self.frame)
        self._scale = self.inputs.max(axis=0) - self.inputs.min(axis=0)
        self._model = (
            KNeighborsRegressor(5, weights="distance") if nearest else ExtraTreesRegressor(200, random_state=0)
        )
        self._model.fit(self.inputs / self._scale, self.targets)
        self._forest = None if nearest else Forest.of([tree.tree_ for tree in self._model.estimators_])

    def fit_quality(self) -> tuple[float, float]:
        """R2 of the accuracy in ten-fold cross-validation, on the logit and as accuracy's mean absolute error."""
        from sklearn.model_selection import cross_val_predict

        guessed = cross_val_predict(self._model, self.inputs / self._scale, self.targets, cv=10)[:, 0]
        true = self.targets[:, 0]
        r2 = 1 - ((guessed - true) ** 2).sum() / ((true - true.mean()) ** 2).sum()
        return float(r2), float(np.abs(expit(guessed) - expit(true)).mean())

    def answer(self, budget: Budget, params: Mapping[str, float]) -> Answer:
        """The interpolated trial."""
        bounds = budget.bounds()
        logs = [bounds["flash"], bounds["macs"], params["learning_rate"], params["weight_decay"]]
        point = np.array([*np.log(logs), params["warmup"], params["pruning"]]) / self._scale
        guess = self._forest.mean(point) if self._forest else self._model.predict(point[None])[0]
        flash, macs = (bounds[name] * float(np.exp(min(0.0, guess[at]))) for at, name in ((1, "flash"), (2, "macs")))
        return Answer(float(expit(guess[0])), flash, macs)


@dataclass(frozen=True)
class Forest:
    """All trees walked at once: for a single point scikit-learn's own prediction is mostly checks."""

    left: np.ndarray
    right: np.ndarray
    feature: np.ndarray
    threshold: np.ndarray
    value: np.ndarray
    roots: np.ndarray

    @classmethod
    def of(cls, trees: list) -> Forest:
        """The trees' nodes one behind the other; a leaf is its own child."""
        sizes = np.array([tree.node_count for tree in trees])
        roots = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        leaf = np.concatenate([tree.children_left < 0 for tree in trees])
        here, start = np.arange(sizes.sum()), np.repeat(roots, sizes)
        left = np.where(leaf, here, np.concatenate([tree.children_left for tree in trees]) + start)
        right = np.where(leaf, here, np.concatenate([tree.children_right for tree in trees]) + start)
        feature = np.where(leaf, 0, np.concatenate([tree.feature for tree in trees]))
        threshold = np.concatenate([tree.threshold for tree in trees])
        return cls(left, right, feature, threshold, np.concatenate([tree.value[:, :, 0] for tree in trees]), roots)

    def mean(self, point: np.ndarray) -> np.ndarray:
        """Mean over the trees of the leaves that the point falls into."""
        node, single = self.roots, point.astype(np.float32)
        while True:
            below = np.where(single[self.feature[node]] <= self.threshold[node], self.left[node], self.right[node])
            if (below == node).all():
                return self.value[node].mean(axis=0)
            node = below


def expit(value: np.ndarray | float) -> np.ndarray:
    return 1 / (1 + np.exp(-np.asarray(value)))


def features(frame: pd.DataFrame) -> np.ndarray:
    """Budgets and hyperparameters on their natural scales."""
    logs = np.log(frame[["budget_flash", "budget_macs", "learning_rate", "weight_decay"]].to_numpy(dtype=float))
    return np.column_stack([logs, frame[["warmup", "pruning"]].to_numpy(dtype=float)])


def targets(frame: pd.DataFrame) -> np.ndarray:
    """Logit of validation accuracy, logarithm of the shares of the bounds that are used."""
    accuracy = frame["val_accuracy"].to_numpy(dtype=float).clip(0.02, 0.995)
    shares = [np.log(frame[name] / frame[f"budget_{name}"]) for name in ("flash", "macs")]
    return np.column_stack([np.log(accuracy / (1 - accuracy)), *shares])


def replay(table: Table, strategy: str, seed: int, trials: int) -> list[float]:
    """Hypervolume after each trial of one sweep."""
    name, adaptive = STRATEGIES[strategy]
    sampler = make_sampler(name, {"differentiable": SPACE}, seed)
    count = SECTION.count if adaptive else trials
    fixed = list(SECTION.model_copy(update={"count": count}).planned(seed))
    planner = AdaptiveBudgets(SECTION.ranges(), seed, SECTION.count)
    found: list[Answer] = []
    for index in range(trials):
        budget = fixed[index % len(fixed)] if not adaptive or index < len(fixed) else planner.next(index)
        planner.spend(budget)
        params = sampler.suggest("differentiable", index, Context(budget, "net", len(fixed)))
        result = table.answer(budget, {key: float(value) for key, value in params.items()})
        found.append(result)
        planner.found({"flash": result.flash, "macs": result.macs}, result.accuracy)
        values = (result.accuracy, result.flash, 0.0, result.macs)
        sampler.learn("differentiable", index, Observation(TrialState.COMPLETE, values, {"flash": -0.01}))
    return volumes(found)


def volumes(found: list[Answer]) -> list[float]:
    """Hypervolume of the first 1..n trials over the box of the budget ranges."""
    low, high = ({name: pair[at] for name, pair in SECTION.ranges().items()} for at in (0, 1))
    used = {name: np.array([getattr(one, name) for one in found]) for name in low}
    scaled = Box(low, {name: bound * 1.001 for name, bound in high.items()}).scale(used, tuple(low))
    return hypervolume_steps(scaled, np.array([one.accuracy for one in found]), len(found))[1].tolist()


def trials_to(curve: np.ndarray, goal: float) -> int | None:
    """Trials until a curve reaches the goal."""
    reached = np.flatnonzero(curve >= goal)
    return int(reached[0]) + 1 if len(reached) else None


def draw(curves: pd.DataFrame, goal: float, trials: int, path: Path) -> None:
    """Mean hypervolume and its interquartile range against trials."""
    from reports.figures.style import PALETTE, Style, encode, new_figure, styled

    with styled(Style.SCREEN):
        figure = new_figure(7.2, 3.8)
        axes = figure.subplots()
        for at, name in enumerate(STRATEGIES):
            mine = curves[curves["strategy"] == name].pivot(index="trials", columns="seed", values="hypervolume")
            axes.plot(mine.index, mine.mean(axis=1), color=PALETTE[at], label=name)
            axes.fill_between(mine.index, mine.quantile(0.25, axis=1), mine.quantile(0.75, axis=1),
                              color=PALETTE[at], alpha=0.12, linewidth=0)  # fmt: skip
        axes.axhline(goal, color="0.5", linestyle=":", linewidth=1)
        axes.axvline(trials / 2, color="0.5", linestyle=":", linewidth=1)
        axes.set_xlim(4, trials)
        axes.set_ylim(curves[curves["trials"] == 8]["hypervolume"].median() - 0.02, None)
        axes.set_xlabel("trials")
        axes.set_ylabel("hypervolume (0..1)")
        axes.legend(loc="lower right")
        path.write_bytes(encode(figure, (path.suffix[1:],))[path.suffix[1:]])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--trials", type=int, default=128)
    parser.add_argument("--answers", choices=("trees", "nearest"), default="trees")
    parser.add_argument("--folder", type=Path, default=Path("docs/results/sweeps/sampler"))
    arguments = parser.parse_args()
    table = Table(arguments.folder, arguments.answers == "nearest")
    r2, error = table.fit_quality()
    print(f"{len(table.frame)} recorded trials; in ten-fold cross-validation R2 {r2:.2f}, mean error {error:.3f}")
    rows: list[tuple[str, int, int, float]] = []
    means: dict[str, np.ndarray] = {}
    for strategy in STRATEGIES:
        runs = [replay(table, strategy, seed, arguments.trials) for seed in range(arguments.seeds)]
        means[strategy] = np.mean(runs, axis=0)
        rows += [(strategy, seed, at + 1, v) for seed, run in enumerate(runs) for at, v in enumerate(run)]
    goal = float(means[RANDOM][-1])
    print(f"{'':36} {'at 32':>7} {'at 64':>7} {'at end':>7} {'to goal':>8} {'share':>6}")
    for strategy, mean in means.items():
        needed = trials_to(mean, goal)
        share = f"{needed / arguments.trials:6.2f}" if needed else "  none"
        print(f"{strategy:36} {mean[31]:7.4f} {mean[63]:7.4f} {mean[-1]:7.4f} {needed or 0:8} {share}")
    curves = pd.DataFrame(rows, columns=["strategy", "seed", "trials", "hypervolume"])
    draw(curves, goal, arguments.trials, arguments.folder / f"hypervolume_{arguments.answers}.svg")
    groups = curves.groupby(["strategy", "trials"])["hypervolume"]
    summary = pd.DataFrame({part: groups.quantile(part) for part in (0.25, 0.5, 0.75)} | {"mean": groups.mean()})
    summary.to_csv(arguments.folder / f"hypervolume_{arguments.answers}.csv", float_format="%.4f")
    needed = trials_to(means[OURS], goal)
    return 0 if needed is not None and needed <= arguments.trials / 2 else 1


if __name__ == "__main__":
    raise SystemExit(main())
