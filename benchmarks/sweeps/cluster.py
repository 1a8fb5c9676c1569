"""A sweep on hosts that share nothing but a wire: how busy its workers are, and what random faults of nodes change.

    python benchmarks/sweeps/cluster.py throughput [--trials 36]
    python benchmarks/sweeps/cluster.py faults [--trials 100] [--faults 20] [--seed 0]
    python benchmarks/sweeps/cluster.py head [--trials 40]
    python benchmarks/sweeps/cluster.py memory [--trials 5000] [--figure FILE.svg]

Three hosts on one kernel (namespaces; root only), a worker on each. Trials sleep instead of training, so what is
measured is the orchestration; each begins with the network of another one, which has to travel. Faults are kills of a
node, which then joins anew, and cables that are pulled for 10 s; the head is spared. Every trial must have one result,
equal to that of the same sweep on one machine without faults. ``head`` kills everything on the head in mid-sweep,
starts it again and resumes. ``memory`` runs short trials on a Ray head of its own and looks at the driver's memory.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

HOUSE = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(HOUSE), str(HOUSE / "tests" / "orchestrator" / "fakes")]

from hosts import PORT, Host, hosts, join, reason_against  # noqa: E402  (beside the tests)

from mcu.errors import InputError  # noqa: E402
from orchestrator.storage.store import Store  # noqa: E402

DRIVER = """
import sys
from dataclasses import replace

from fake_sweep import OPTIONS, make_sweep, run
from orchestrator.executors import ray
from orchestrator.executors.ray import RayExecutor
from orchestrator.running.watcher import Watcher
from search_spaces.sweep import SweepConfig

class Told(Watcher):
    def note(self, text):
        print(text, flush=True)

def end(self, shutdown=RayExecutor.shutdown):
    print(f"sent {self.bytes_sent}, taken in {self.bytes_taken}", flush=True)
    shutdown(self)

RayExecutor.shutdown = end
ray.LOST_SECONDS = 6.0
trials, reports, sleep, address = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
sweep = make_sweep(methods=("heir",), trials=trials, reports=reports, sleep=sleep).model_dump(mode="json")
sweep["workers"]["max_attempts"] = 20
budgets = [{"flash": flash} for flash in (60_000, 50_000, 40_000, 30_000)]
sweep |= {"budgets": {"list": budgets}, "lineage": {"enabled": True}}
options = replace(OPTIONS, executor="ray", workers=None, address=address) if address else replace(OPTIONS, workers=8)
print(run("sqlite:///s.db", SweepConfig.model_validate(sweep), options, watcher=Told()))
"""


def driver(host: Host, trials: int, reports: int, sleep: float, *, alone: bool = False) -> subprocess.Popen[str]:
    """The sweep's driver on a host, for the cluster or for that machine alone."""
    address = "" if alone else f"{host.address}:{PORT}"
    words = [sys.executable, "-c", DRIVER, str(trials), str(reports), str(sleep), address]
    return host.start(*words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def opened(host: Host) -> Store:
    """The database that a host's driver writes."""
    return Store(f"sqlite:///{host.work}/s.db")


def seconds(text: str) -> float:
    """A time of the database."""
    return datetime.fromisoformat(text).timestamp()


def throughput(trials: int, folder: Path) -> None:
    """Trials of 10 s: how much of their time the workers were at work, and how much was moved."""
    with hosts([1, 1, 1], folder) as (head, *_):
        time.sleep(20)  # the nodes come up
        said, _ = driver(head, trials, 2, 5.0).communicate()
        store = opened(head)
        rows = store.attempts(store.study())
        root = [row for row in rows if row["number"] == 0]  # the dense network, for which all wait
        rows = [row for row in rows if row["number"] > 0]
        begun, ended = (sorted(seconds(row[name]) for row in rows) for name in ("started_at", "ended_at"))
        span = ended[-3] - begun[0]  # until a worker finds nothing more to do
        busy = sum(min(10.0, max(0.0, ended[-3] - seconds(row["started_at"]))) for row in rows)
        print(said.splitlines()[-2:], len(root) + len(rows), "attempts")
        print(Counter(row["worker_host"] for row in rows))
        print(f"busy share {busy / (3 * span):.3f} over {span:.0f} s")


def faults(trials: int, count: int, seed: int, folder: Path) -> None:
    """Random kills and pulled cables, then the same sweep alone."""
    chance = random.Random(seed)
    with hosts([1, 1, 1], folder) as (head, *others):
        running = driver(head, trials, 2, 1.0)
        done: list[str] = []
        while running.poll() is None and len(done) < count:
            time.sleep(chance.uniform(3, 6))
            host, kind = chance.choice(others), chance.choice(("kill", "cable"))
            if kind == "cable":
                host.cable(False)
                time.sleep(10)
                host.cable(True)
            else:
                host.end_others()
                join(host, head, 1)
            done.append(f"{kind} {host.name}")
        said, _ = running.communicate()
        print(said.splitlines()[-1])
        print(len(done), "faults:", Counter(name.partition(" ")[0] for name in done))
        store = opened(head)
        print(Counter(str(row["reason"]) for row in store.attempts(store.study())))
        alone = others[0]
        driver(alone, trials, 2, 1.0, alone=True).communicate()
        ours, theirs = results(store), results(opened(alone))
        print("rows equal to one machine's:", ours == theirs, len(ours), "trials")


def killed_head(trials: int, folder: Path) -> None:
    """Kill Ray and the driver on the head in mid-sweep, start Ray again, resume; then the same sweep alone."""
    with hosts([1, 1, 1], folder) as (head, *others):
        time.sleep(20)
        running = driver(head, trials, 2, 1.0)
        while not (head.work / "s.db").exists() or finished(head) < trials // 3:
            time.sleep(1)
        head.end_others()
        running.wait()
        before = results(opened(head))
        print("head killed after", finished(head), "trials")
        for host in others:
            host.end_others()
        for host in (head, *others):
            join(host, head, 1)
        time.sleep(20)
        said, _ = driver(head, trials, 2, 1.0).communicate()
        print(said.splitlines()[-1])
        store = opened(head)
        print(Counter(str(row["reason"]) for row in store.attempts(store.study())))
        driver(others[0], trials, 2, 1.0, alone=True).communicate()
        ours, theirs = results(store), results(opened(others[0]))
        kept = {row for row in before if row[2] is not None} <= set(ours)
        print("rows equal to one machine's:", ours == theirs, len(ours), "trials; results from before kept:", kept)


def finished(host: Host) -> int:
    """Trials of a host's sweep with a result."""
    try:
        return sum(accuracy is not None for *_, accuracy in results(opened(host)))
    except InputError:  # the database is being made
        return 0


MEMORY = """
import sys, threading, time
from dataclasses import replace
from pathlib import Path

from fake_sweep import OPTIONS, make_sweep, run
from orchestrator.executors.ray import RayExecutor
from orchestrator.running.watcher import Watcher
from search_spaces.sweep import SweepConfig

class Looking(Watcher):
    done = 0

    def finished(self, number, spec, result, reused_from):
        self.done += 1
        if self.done % 50 == 0:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            print(f"memory {self.done} {pages * 4096}", flush=True)

def end(self, shutdown=RayExecutor.shutdown):
    print(f"sent {self.bytes_sent}, taken in {self.bytes_taken}", flush=True)
    shutdown(self)

RayExecutor.shutdown = end
sweep = make_sweep(methods=("heir",), trials=int(sys.argv[1]), reports=1).model_dump(mode="json")
budgets = [{"flash": flash} for flash in (60_000, 50_000, 40_000, 30_000)]
sweep |= {"budgets": {"list": budgets}, "lineage": {"enabled": True}}
options = replace(OPTIONS, executor="ray", workers=None, address=sys.argv[2])
print(run("sqlite:///s.db", SweepConfig.model_validate(sweep), options, watcher=Looking()))
"""


def memory(trials: int, folder: Path, figure: Path | None) -> None:
    """The driver's resident memory over a sweep of short trials on a Ray head."""
    from servers import ray_head

    points = []
    os.environ["PYTHONPATH"] = f"{HOUSE}:{HOUSE / 'tests' / 'orchestrator' / 'fakes'}"
    with ray_head(cpus=2) as address:
        words = [sys.executable, "-c", MEMORY, str(trials), address]
        driver = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=folder)
        assert driver.stdout is not None
        for line in driver.stdout:
            if line.startswith("memory"):
                points.append((int(line.split()[1]), int(line.split()[2]) / 2**20))
                if points[-1][0] % 500 == 0:
                    print(*points[-1], flush=True)
            else:
                print(line, end="", flush=True)
    half = [size for done, size in points if done >= trials / 2]
    print(f"from trial {trials // 2}: {min(half):.1f} to {max(half):.1f} MB")
    if figure is not None:
        draw(points, figure)


def draw(points: list[tuple[int, float]], path: Path) -> None:
    """Memory against trials done."""
    from reports.figures.style import Style, encode, new_figure, styled

    with styled(Style.PAPER):
        drawn = new_figure(5.0, 2.6)
        axes = drawn.add_subplot()
        axes.plot(*zip(*points, strict=True))
        axes.set_ylim(0, None)
        axes.set_xlabel("trials done")
        axes.set_ylabel("driver's memory, MB")
        path.write_bytes(encode(drawn, ("svg",))["svg"])


def results(store: Store) -> list[tuple[Any, ...]]:
    """What must not depend on where and how often trials ran."""
    trials = store.trials(store.study())
    return [(trial.number, trial.spec.hash(), trial.result and trial.result.accuracy) for trial in trials]


def main() -> None:
    """Run one of the four."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("throughput", "faults", "head", "memory"))
    parser.add_argument("--trials", type=int)
    parser.add_argument("--faults", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--figure", type=Path)
    chosen = parser.parse_args()
    if chosen.what == "memory":
        with tempfile.TemporaryDirectory() as folder:
            memory(chosen.trials or 5000, Path(folder), chosen.figure)
        return
    reason = reason_against()
    if reason is not None:
        sys.exit(f"no hosts here: {reason}")
    with tempfile.TemporaryDirectory() as folder:
        if chosen.what == "throughput":
            throughput(chosen.trials or 36, Path(folder))
        elif chosen.what == "head":
            killed_head(chosen.trials or 40, Path(folder))
        else:
            faults(chosen.trials or 100, chosen.faults, chosen.seed, Path(folder))


if __name__ == "__main__":
    main()
