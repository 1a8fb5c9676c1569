"""kill -9 at random over one real sweep, against the same sweep left in peace.

    python benchmarks/sweeps/chaos.py --kills 30 --output docs/results/sweeps/chaos.md

Victims take turns at random: the supervisor (then somebody enters the sweep again by `resume` or `launch`), the driver,
a worker, and on Ray its raylet and its head (then the supervisor enters again by itself). Every finished row is noted
when it is first seen and compared at the end; so are the processes that a kill orphaned, ten seconds later.
"""

from __future__ import annotations

import argparse
import json
import random
import shlex
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.processes import LocalProcess, descendants, process_start

SWEEP = """
[sweep]
name = "chaos"
trials = {trials}
[task]
name = "digits"
[network]
name = "ds-cnn"
width = 0.25
[budgets]
list = [{{flash = "4600", sram = "4700"}}, {{flash = "5KB", sram = "5KB"}}, {{flash = "6KB", sram = "5KB"}}]
[methods]
names = ["differentiable", "uniform", "l1"]
[training]
epochs = {epochs}
batch_size = 32
device = "cpu"
[hyperparameters]
learning_rate = {{low = 0.03, high = 0.12, log = true}}
[sampler]
name = "qmc"
[stopping]
enabled = false
[lineage]
enabled = {lineage}
[workers]
executor = "{executor}"
count = {workers}
max_attempts = 50
"""
COMPARED = "number, state, spec_hash, accuracy, val_accuracy, float_accuracy, flash, sram, macs, violation, widths_json"
FINAL = "('complete', 'failed', 'infeasible', 'stopped', 'cannot')"
ON_RAY = ("supervisor", "driver", "worker", "raylet", "head")
ON_LOCAL = ("supervisor", "driver", "worker")
ORPHAN_SECONDS = 10.0
PATIENCE = 900.0
NOTE = (
    "The sweep trains and prunes real networks on the digits, three methods, hyperparameters from a Sobol sequence, on "
    "two workers. A killed worker's trial goes on from its last checkpoint; rows are compared with the same sweep in "
    "peace, on local processes: state, specification, accuracies, sizes, multiply-accumulates, violation and widths."
)
LINEAGE_NOTE = (
    "The sweep is that of [chaos.md](chaos.md), but trials of `differentiable` begin with one another's trained "
    "networks: a specification, which names its ancestor's, and all that follows from it is the same however often a "
    "process was killed and however many trials ran at a time."
)


@dataclass
class Sweep:
    """One study in a folder of its own, and the command that runs it now."""

    folder: Path
    text: str
    command: subprocess.Popen[bytes] | None = None
    entered: int = 0

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "sweep.toml").write_text(self.text)

    @property
    def database(self) -> Path:
        return self.folder / "mcusweep.db"

    def enter(self) -> None:
        """As a person would: `launch` at first, later `resume` and `launch` in turn."""
        words = (
            ["resume", "--study", "chaos"]
            if self.entered % 2 and self.rows("number")
            else ["launch", "sweep.toml", "--no-preflight"]
        )
        self.entered += 1
        self.command = subprocess.Popen(
            [sys.executable, "-P", "-m", "orchestrator.cli.main", *words],
            cwd=self.folder, stdout=subprocess.DEVNULL, stderr=(self.folder / "log").open("ab"),
        )  # fmt: skip

    def rows(self, columns: str, where: str = "1") -> list[tuple]:
        """Rows of trials; none before there is a table."""
        try:
            with sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=30) as connection:
                return connection.execute(f"select {columns} from mcusweep_trials where {where}").fetchall()
        except sqlite3.OperationalError:
            return []

    def finished(self) -> dict[int, tuple]:
        """Every finished trial's whole row, by number."""
        return {row[0]: row for row in self.rows(f"{COMPARED}, id, reason, finished_at", f"state in {FINAL}")}

    def processes(self) -> list[LocalProcess]:
        assert self.command is not None
        root = LocalProcess(self.command.pid, process_start(self.command.pid))
        return [root, *descendants(root.pid)]

    def victim(self, kind: str, dice: random.Random) -> LocalProcess | None:
        """A living process of that kind."""
        root, *others = self.processes()
        if kind == "supervisor":
            return root if root.alive else None
        found = [process for process in others if process.alive and kind_of(process) == kind]
        return dice.choice(found) if found else None


def kind_of(process: LocalProcess) -> str:
    try:
        words = Path(f"/proc/{process.pid}/cmdline").read_text()
    except OSError:
        return ""
    if process.name == "gcs_server":
        return "head"
    if process.name == "raylet":
        return "raylet"
    if "ray::mcusweep" in words or "multiprocessing.spawn" in words:
        return "worker"
    return "driver" if "orchestrator.cli.main" in words else ""


@dataclass
class Book:
    """What was seen while the sweep was disturbed."""

    kills: Counter[str] = field(default_factory=Counter)
    first_seen: dict[int, tuple] = field(default_factory=dict)
    changed: list[str] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    watched: list[tuple[float, str, list[LocalProcess]]] = field(default_factory=list)

    def look(self, sweep: Sweep) -> None:
        """Note what has finished, and what a kill orphaned."""
        now = sweep.finished()
        for number, row in self.first_seen.items():
            if now.get(number) != row:
                self.changed.append(f"trial {number}: {row} -> {now.get(number)}")
        self.first_seen |= now
        due = [entry for entry in self.watched if time.monotonic() >= entry[0]]
        self.watched = [entry for entry in self.watched if entry not in due]
        for _, kind, processes in due:
            self.orphans += [f"{kind}: {process.pid} {process.name}" for process in processes if process.alive]


def disturb(sweep: Sweep, kills: list[str], planned: int, dice: random.Random) -> Book:
    """Run the sweep to its end; the k-th kill comes once its share of the trials has finished, and a while later."""
    book, waiting = Book(), list(kills)
    sweep.enter()
    deadline = time.monotonic() + PATIENCE
    while True:
        assert sweep.command is not None
        book.look(sweep)
        if sweep.command.poll() is not None:
            if len(book.first_seen) == planned:
                break
            sweep.enter()
        share = planned * (len(kills) - len(waiting)) / (len(kills) + 1)
        due = waiting and len(book.first_seen) >= min(planned - 1, share)
        victim = sweep.victim(waiting[0], dice) if due else None
        if victim is not None:
            time.sleep(dice.uniform(0.0, 3.0))
            strike(sweep, victim, waiting.pop(0), book)
            deadline = time.monotonic() + PATIENCE
        if time.monotonic() > deadline:
            raise SystemExit(f"no end after {PATIENCE:.0f} s; see {sweep.folder / 'log'}")
        time.sleep(0.2)
    while book.watched:
        book.look(sweep)
        time.sleep(0.2)
    return book


def strike(sweep: Sweep, victim: LocalProcess, kind: str, book: Book) -> None:
    """Kill; what a killed supervisor or driver started has ten seconds to leave."""
    _, *others = sweep.processes()
    victim.kill()
    book.kills[kind] += 1
    print(f"{sum(book.kills.values())}: kill -9 of the {kind}, {len(book.first_seen)} trials finished", flush=True)
    if kind in ("supervisor", "driver"):
        book.watched.append((time.monotonic() + ORPHAN_SECONDS, kind, others))
    if kind == "supervisor" and sweep.command is not None:
        sweep.command.wait()


def report(calm: Sweep, wild: Sweep, book: Book, planned: int) -> dict[str, object]:
    """What the two sweeps left, as checks that hold or not."""
    with sqlite3.connect(f"file:{wild.database}?mode=ro", uri=True) as connection:
        sound = connection.execute("pragma integrity_check").fetchone()[0]
        ends = connection.execute(
            "select t.number, count(*) from mcusweep_attempts a join mcusweep_trials t on t.id = a.trial_id "
            "where a.reason in ('complete', 'infeasible', 'stopped', 'failed', 'cannot') group by t.number"
        ).fetchall()
        reasons = dict(connection.execute("select reason, count(*) from mcusweep_attempts group by reason").fetchall())
    peace, war = sorted(calm.rows(COMPARED)), sorted(wild.rows(COMPARED))
    return {
        "planned trials": planned,
        "kills": dict(book.kills),
        "entered by hand": wild.entered,
        "entered by the supervisor": (wild.folder / "log").read_text().count("; restarting ("),
        "attempts by their end": reasons,
        "trials that ended exactly once": sum(count == 1 for _, count in ends),
        "finished rows lost or changed": len(book.changed),
        "integrity_check": sound,
        "rows equal to the undisturbed sweep's": sum(a == b for a, b in zip(peace, war, strict=True)),
        "processes left 10 s after a killed supervisor or driver": len(book.orphans),
        "details": [*book.changed, *book.orphans],
    }


def holds(found: dict[str, object], kills: int) -> bool:
    """Whether nothing was lost, repeated, changed or left."""
    planned = found["planned trials"]
    return (
        found["trials that ended exactly once"] == found["rows equal to the undisturbed sweep's"] == planned
        and found["integrity_check"] == "ok"
        and not found["finished rows lost or changed"]
        and not found["processes left 10 s after a killed supervisor or driver"]
        and sum(dict(found["kills"]).values()) == kills  # type: ignore[call-overload]
    )


def sweep_in_peace(folder: Path, **settings: object) -> Sweep:
    """The sweep that nobody disturbs, on local processes, with two workers."""
    calm = Sweep(folder / "calm", SWEEP.format(executor="local", workers=2, **settings))
    calm.enter()
    assert calm.command is not None
    if calm.command.wait() != 0:
        raise SystemExit((calm.folder / "log").read_text())
    return calm


def run_chaos(
    calm: Sweep, kills: int, seed: int, *, executor: str = "ray", workers: int = 2, **settings: object
) -> dict[str, object]:
    """The same sweep, disturbed; ``settings`` are those of the one in peace."""
    dice = random.Random(seed)
    kinds = ON_RAY if executor == "ray" else ON_LOCAL
    order = [kinds[k % len(kinds)] for k in range(kills)]
    dice.shuffle(order)
    planned = len(calm.rows("number"))
    text = SWEEP.format(executor=executor, workers=workers, **settings)
    wild = Sweep(calm.folder.parent / f"wild-{workers}", text)
    try:
        book = disturb(wild, order, planned, dice)
    finally:
        if wild.command is not None and wild.command.poll() is None:
            wild.command.kill()
    return report(calm, wild, book, planned)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--trials", type=int, default=8, help="of each of three methods")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--workers", type=int, nargs="+", default=[2], help="trials at a time, a disturbed sweep each")
    parser.add_argument("--lineage", action="store_true", help="trials begin with one another's trained networks")
    parser.add_argument("--executor", choices=("ray", "local"), default="ray")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="kept; a temporary one by default")
    parser.add_argument("--output", type=Path, help="Markdown table")
    given = parser.parse_args()
    settings = {"trials": given.trials, "epochs": given.epochs, "lineage": str(given.lineage).lower()}
    with tempfile.TemporaryDirectory() as temporary:
        calm = sweep_in_peace(given.folder or Path(temporary), **settings)
        found = {
            workers: run_chaos(calm, given.kills, given.seed, executor=given.executor, workers=workers, **settings)
            for workers in given.workers
        }
    lines = ["| what | " + " | ".join(f"found, {workers} at a time" for workers in found) + " |"]
    lines.append("| --- |" + " --- |" * len(found))
    names = [what for what in next(iter(found.values())) if what != "details"]
    lines += [f"| {what} | " + " | ".join(_shown(each[what]) for each in found.values()) + " |" for what in names]
    held = all(holds(each, given.kills) for each in found.values())
    verdict = "Everything holds." if held else "NOT everything holds."
    print("\n".join([*lines, "", verdict]))
    print(json.dumps([each["details"] for each in found.values()], indent=1), file=sys.stderr)
    if given.output:
        words = ["python", "benchmarks/sweeps/chaos.py", *sys.argv[1:]]
        text = f"# kill -9 at random over one sweep\n\n`{shlex.join(words)}`\n\n"
        note = LINEAGE_NOTE if given.lineage else NOTE
        given.output.write_text(text + "\n".join(lines) + f"\n\n{verdict} {note}\n")
    sys.exit(0 if held else 1)


def _shown(value: object) -> str:
    return ", ".join(f"{count} {name}" for name, count in value.items()) if isinstance(value, dict) else str(value)


if __name__ == "__main__":
    main()
