"""One lineage against independent jobs: the same network, budgets and seeds, at equal and at a fraction of the CPU.

    OMP_NUM_THREADS=1 python benchmarks/pruning/lineage.py FOLDER --output docs/results/pruning/lineage
    ... --network mobilenet-v2 --width 0.5
    ... --arms lineage "independent jobs" --seeds 0

Twelve budgets in three directions. Trials that are in FOLDER, or among the scores beside the output, are not run again.
CPU time is the process's, training and export only, so that other load on the machine does not count.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lineage_text import PAGE, STATE

from mcu.budget import RESOURCES, Budget, Resources
from mcu.resource_model import ResourceModel
from mcu.tracing.trace import trace
from orchestrator.planning.plan import Plan
from orchestrator.planning.planned_trial import Trained
from orchestrator.planning.preflight import plan_of, reaches_of
from orchestrator.running.queue import Queue
from orchestrator.spec import FILES, NETWORK, TrialSpec
from orchestrator.worker.trial import inheriting, problem_of, settings_of
from pruning.methods import method
from pruning.training.evaluation import int8_accuracy
from pruning.training.problem import Outcome
from reports.fronts import hypervolume
from search_spaces.choices import NetworkChoice
from search_spaces.networks import build_network
from search_spaces.sweep import SweepConfig
from search_spaces.tasks import Task, load_task

FRACTIONS = {12: (0.6, 0.35, 0.2, 0.1), 24: (0.75, 0.6, 0.45, 0.35, 0.27, 0.2, 0.14, 0.1)}
"""Of what the dense network uses, by number of budgets."""

LEAST_SRAM = 0.2
"""Of the dense network's: less than this the widths of these networks cannot reach."""

PARENT = "dense parent"
DIRECTIONS = {"all": RESOURCES, "flash": ("flash",), "MACs": ("macs",)}


@dataclass(frozen=True)
class Arm:
    """A way to the same twelve models.

    Attributes:
        lineage: whether jobs begin with one another's networks.
        part: of the epochs that an independent job gets.
        parent: epochs of the dense parent, in those of an independent job; None for twice those of this arm's jobs.
    """

    lineage: bool
    part: float
    hyperparameters: tuple[tuple[str, float], ...] = ()
    parent: float | None = None


ARMS = {
    "independent jobs": Arm(False, 1.0),
    "lineage": Arm(True, 1.0),
    "lineage, half of the epochs": Arm(True, 1 / 2),
    "lineage, a third of the epochs": Arm(True, 1 / 3),
    "lineage, a quarter of the epochs": Arm(True, 1 / 4),
    "lineage, a quarter of the epochs after half a parent": Arm(True, 1 / 4, parent=1.0),
    "lineage without distillation": Arm(True, 1.0, (("distillation", 0.0),)),
    "lineage, short pruning": Arm(True, 1.0, (("pruning", 0.15),)),
}
FIRST = ("lineage", "independent jobs", "lineage, half of the epochs")


def budgets_of(dense: Resources, count: int) -> dict[str, Budget]:
    """Fractions of what the dense network uses, of one resource or of all three."""
    found = {}
    for direction, names in DIRECTIONS.items():
        for fraction in FRACTIONS[count]:
            least = {"sram": max(fraction, LEAST_SRAM)}
            bounds: dict[str, Any] = {name: int(getattr(dense, name) * least.get(name, fraction)) for name in names}
            found[f"{direction} {fraction}"] = Budget(**bounds)
    return found


def sweep_of(arm: Arm, seed: int, chosen: argparse.Namespace, budgets: dict[str, Budget]) -> SweepConfig:
    """The sweep of one arm and seed."""
    own = {} if arm.parent is None else {"parent_epochs": round(chosen.epochs * arm.parent)}
    return SweepConfig.model_validate({
        "sweep": {"name": "lineage", "seed": seed, "trials": len(budgets), "seeds": 1},
        "task": {"name": "fashion-mnist", "options": {"train_limit": chosen.images, "val_limit": 2000}},
        "network": {"name": chosen.network, "width": chosen.width},
        "budgets": {"list": [{"name": name, **budget.bounds()} for name, budget in budgets.items()]},
        "methods": {"names": ["differentiable"]},
        "training": {"epochs": max(1, round(chosen.epochs * arm.part)), "device": "cpu"},
        "hyperparameters": {"learning_rate": 0.1, **dict(arm.hyperparameters)},
        "lineage": {"enabled": arm.lineage} | own,
    })  # fmt: skip


def dense_resources(task: Task, choice: NetworkChoice) -> Resources:
    """What the unpruned network uses."""
    network = build_network(choice, task.input_shape, len(task.classes), seed=0)
    model = ResourceModel(trace(network, task.input_shape).graph)
    return model.exact(model.dense_widths)


def run_sweep(label: str, seed: int, chosen: argparse.Namespace) -> None:
    """All trials of an arm at one seed, in the order of the driver."""
    choice = NetworkChoice(name=chosen.network, width=chosen.width)
    arm = ARMS[label]
    first = sweep_of(arm, seed, chosen, {"any": Budget(flash=1)})
    task = load_task(first.task)
    sweep = sweep_of(arm, seed, chosen, budgets_of(dense_resources(task, choice), chosen.count))
    plan = plan_of(sweep, reaches_of(sweep, {(): task}))
    queue, wanted = Queue(plan.lineage), _with_ancestors(plan, chosen.budgets)
    while (number := queue.next()) is not None:
        trial = plan.trials[number]
        if number not in wanted:
            queue.ended(number, None)  # nothing that is wanted comes from it
            continue
        spec = plan.spec(trial, {}, queue.start(trial))
        row = run_trial(spec, trial.budget.label, label, seed, task, chosen)
        dense = Resources(**row["dense"])
        queue.ended(number, Trained(spec.hash(), spec.budget, dense) if spec.leaves_network else None)


def _with_ancestors(plan: Plan, names: list[str]) -> set[int]:
    """Numbers of the trials of these budgets (of all, if none is named), and of those they come from."""
    waiting = [trial.number for trial in plan.trials if not names or trial.budget.label in names]
    found: set[int] = set()
    while waiting:
        found.add(number := waiting.pop())
        waiting += plan.lineage.candidates(plan.trials[number])[:1]
    return found


def run_trial(
    spec: TrialSpec, budget: str, label: str, seed: int, task: Task, chosen: argparse.Namespace
) -> dict[str, Any]:
    """One trial's row; out of the folder if it is there."""
    place = chosen.folder / f"{label}-{spec.hash()}.json"
    if place.exists():
        return json.loads(place.read_text())
    for other in chosen.folder.glob(f"*-{spec.hash()}.json"):  # arms share the dense parent; each is charged for it
        row = json.loads(other.read_text()) | {"arm": label}
        place.write_text(json.dumps(row))
        return row
    shutil.rmtree(chosen.folder / spec.hash(), ignore_errors=True)  # CPU time of a job that was cut off is unknown
    problem = inheriting(problem_of(spec, task), spec, chosen.folder)
    began = time.process_time()
    outcome = method(spec.method).run(problem, spec.budget, settings_of(spec, chosen.folder), lambda _: True)
    seconds = time.process_time() - began
    if not isinstance(outcome, Outcome):
        raise SystemExit(f"{budget}: {outcome.reason}")
    used = problem.runtime.measure(outcome.model, outcome.data)
    row = {
        "subject": subject_of(vars(chosen)), "arm": label, "seed": seed, "budget": budget,
        "epochs": spec.training.epochs, "cpu_s": round(seconds, 2),
        "accuracy": int8_accuracy(outcome.model, task.x_test, task.y_test, problem),
        "val_accuracy": int8_accuracy(outcome.model, task.x_val, task.y_val, problem),
        "flash": used.flash, "sram": used.sram, "macs": used.macs, "spec": spec.hash(), "ancestor": spec.ancestor,
        "dense": {name: getattr(outcome.dense, name) for name in RESOURCES},
    }  # fmt: skip
    if spec.leaves_network and outcome.trained:
        (chosen.folder / spec.hash()).mkdir(parents=True, exist_ok=True)
        (chosen.folder / spec.hash() / FILES[NETWORK]).write_bytes(outcome.trained.encode())
    place.write_text(json.dumps(row))
    print({name: row[name] for name in ("arm", "seed", "budget", "epochs", "accuracy", "cpu_s")}, flush=True)
    return row


def volume(rows: list[dict[str, Any]], wanted: set[str]) -> float:
    """Hypervolume of accuracy above 50 % at the wanted budgets, over logarithmic resources from the dense network to a
    twentieth of it.
    """
    dense = rows[0]["dense"]
    rows = [row for row in rows if row["budget"] in wanted]
    if not rows:
        return 0.0
    scaled = [[1 + np.log(row[name] / dense[name]) / np.log(20) for name in RESOURCES] for row in rows]
    inside = np.clip(np.array(scaled), 0.0, 0.999)
    return hypervolume(inside, [max(0.0, 2 * row["accuracy"] - 1) for row in rows])


def until_reached(rows: list[dict[str, Any]], goals: dict[int, float], wanted: set[str]) -> float | None:
    """CPU time after which a sweep of one worker reaches the goal of its seed; None if it never does."""
    spent, done = 0.0, []
    for budget in _in_order(rows):
        done += [row for row in rows if row["budget"] == budget]
        spent += done[-1]["cpu_s"]
        if volume(done, wanted) >= goals.get(rows[0]["seed"], 1.0):
            return spent
    return None


def _in_order(rows: list[dict[str, Any]]) -> list[str]:
    """Names of the budgets in the order of the driver, which does not depend on results."""
    some = argparse.Namespace(images=1, network="resnet8", width=1.0, epochs=1)
    dense = Resources(**rows[0]["dense"])
    plan = Plan(sweep_of(ARMS[rows[0]["arm"]], 0, some, budgets_of(dense, planned(rows[0]["subject"]))))
    queue, found = Queue(plan.lineage), []
    while (number := queue.next()) is not None:
        found.append(plan.trials[number].budget.label)
        queue.ended(number, Trained("", plan.trials[number].budget, None))
    return [name for name in found if name in {row["budget"] for row in rows}]


def _rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]


def subject_of(row: dict[str, Any]) -> str:
    """What a comparison is about, in words."""
    many = f", {row['count']} budgets" if row["count"] > 12 else ""
    return f"{row['network']} x{row['width']:g}, {row['images']:,} images, {row['epochs']} epochs{many}"


def planned(subject: str) -> int:
    """How many budgets a subject's lineage is planned for."""
    return next((count for count in FRACTIONS if subject.endswith(f", {count} budgets")), min(FRACTIONS))


def groups(rows: list[dict[str, Any]]) -> dict[tuple[str, str, int], list[dict[str, Any]]]:
    """Rows of each network, arm and seed."""
    found: dict[tuple[str, str, int], list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault((row["subject"], row["arm"], row["seed"]), []).append(row)
    return found


def is_whole(rows: list[dict[str, Any]]) -> bool:
    """Whether every budget is there."""
    return len({row["budget"] for row in rows} - {PARENT}) == planned(rows[0]["subject"])


def asked(rows: list[dict[str, Any]]) -> set[str]:
    """The budgets that independent jobs were run for: all, or a part of the sweep; all if there are none."""
    found = {row["budget"] for row in rows if row["arm"] == "independent jobs"}
    return found or set(budgets_of(Resources(100, 100, 100), planned(rows[0]["subject"])))


def place_of(budget: str) -> tuple[int, float]:
    """Order of budgets in a table: the dense parent, then direction by direction, the largest first."""
    if budget == PARENT:
        return -1, 0.0
    direction, fraction = budget.split()
    return list(DIRECTIONS).index(direction), -float(fraction)


def tables(rows: list[dict[str, Any]]) -> str:
    """Per network: accuracy of every arm at every budget, its CPU time and hypervolume."""
    found = groups(rows)
    texts = []
    for subject in dict.fromkeys(key[0] for key in found):
        arms = {a: [part for (s, b, _), part in found.items() if (s, b) == (subject, a)] for a in ARMS}
        arms = {label: parts for label, parts in arms.items() if parts}
        lines = [f"## {subject}", "", "| | " + " | ".join(arms) + " |", "|---|" + "---:|" * len(arms)]
        for name in sorted({row["budget"] for row in rows if row["subject"] == subject}, key=place_of):
            per_arm = [[r for part in parts for r in part if r["budget"] == name] for parts in arms.values()]
            lines.append(f"| {name} | " + " | ".join(_cell(mine) for mine in per_arm) + " |")
        wanted = asked([row for row in rows if row["subject"] == subject])
        whole = [[part for part in parts if wanted <= {row["budget"] for row in part}] for parts in arms.values()]
        cpu = [_spread([sum(row["cpu_s"] for row in part) for part in parts], 0) for parts in whole]
        lines.append("| all: CPU s, parent included | " + " | ".join(cpu) + " |")
        volumes = [_spread([100 * volume(part, wanted) for part in parts]) for parts in whole]
        lines.append("| all: hypervolume, % | " + " | ".join(volumes) + " |")
        goals = {part[0]["seed"]: volume(part, wanted) for part in arms.get("independent jobs", [])}
        reached = [
            _spread([s for part in parts if (s := until_reached(part, goals, wanted)) is not None], 0)
            for parts in whole
        ]
        lines.append("| CPU s until it reaches that of all independent jobs | " + " | ".join(reached) + " |")
        texts.append("\n".join(lines))
    return "\n\n".join(texts) + "\n"


def _cell(rows: list[dict[str, Any]]) -> str:
    """Accuracy, seeds and CPU time at one budget."""
    if not rows:
        return "not run"
    seeds, seconds = len(rows), statistics.mean(row["cpu_s"] for row in rows)
    many = f", {seeds} seeds" if seeds > 1 else ", 1 seed"
    return f"{_spread([100 * row['accuracy'] for row in rows])} ({seconds:.0f} s{many})"


def _spread(values: list[float], digits: int = 2) -> str:
    if not values:
        return "not run"
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{spread}"


def main() -> None:
    """Run what is missing, write scores and page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--network", default="resnet8")
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--images", type=int, default=6_000)
    parser.add_argument("--epochs", type=int, default=12, help="of an independent job")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--count", type=int, choices=list(FRACTIONS), default=12, help="of budgets")
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(FIRST))
    parser.add_argument("--budgets", nargs="+", default=[], help='such as "all 0.2"; with those they come from')
    parser.add_argument("--report-only", action="store_true", help="run nothing")
    parser.add_argument("--output", type=Path, help="of the page and the scores, without suffix")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    chosen.folder.mkdir(parents=True, exist_ok=True)
    if chosen.output and (stored := chosen.output.with_suffix(".json")).exists():
        for row in json.loads(stored.read_text()):
            place = chosen.folder / f"{row['arm']}-{row['spec']}.json"
            if not place.exists():
                place.write_text(json.dumps(row))
    if not chosen.report_only:
        there = {(*key[1:], key[0]) for key, part in groups(_rows(chosen.folder)).items() if is_whole(part)}
        for seed, label in itertools.product(chosen.seeds, chosen.arms):
            if (label, seed, subject_of(vars(chosen))) not in there:
                run_sweep(label, seed, chosen)
    rows = _rows(chosen.folder)
    print(tables(rows))
    if chosen.output:
        rows.sort(key=lambda row: (row["subject"], row["arm"], row["seed"], row["budget"]))
        chosen.output.with_suffix(".json").write_text("[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n")
        chosen.output.with_suffix(".md").write_text(PAGE.format(sram=LEAST_SRAM) + tables(rows) + STATE)


if __name__ == "__main__":
    main()
