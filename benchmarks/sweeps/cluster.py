"""A sweep on hosts that share nothing but a wire: how busy its workers are, and what random faults of nodes change.

    python benchmarks/sweeps/cluster.py throughput [--trials 36]
    python benchmarks/sweeps/cluster.py faults [--trials 100] [--faults 20] [--seed 0]

Three hosts on one kernel (namespaces; root only), a worker on each. Trials sleep instead of training, so what is
measured is the orchestration; each begins with the network of another one, which has to travel. Faults are kills of a
node, which then joins anew, and cables that are pulled for 10 s; the head is spared. Every trial must have one result,
equal to that of the same sweep on one machine without faults.
"""

from __future__ import annotations

import argparse
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


def results(store: Store) -> list[tuple[Any, ...]]:
    """What must not depend on where and how often trials ran."""
    trials = store.trials(store.study())
    return [(trial.number, trial.spec.hash(), trial.result and trial.result.accuracy) for trial in trials]


def main() -> None:
    """Run one of the two."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("throughput", "faults"))
    parser.add_argument("--trials", type=int)
    parser.add_argument("--faults", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    reason = reason_against()
    if reason is not None:
        sys.exit(f"no hosts here: {reason}")
    with tempfile.TemporaryDirectory() as folder:
        if chosen.what == "throughput":
            throughput(chosen.trials or 36, Path(folder))
        else:
            faults(chosen.trials or 100, chosen.faults, chosen.seed, Path(folder))


if __name__ == "__main__":
    main()
