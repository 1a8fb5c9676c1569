"""The wheel in an environment that has nothing else: built, installed, a sweep run, reported and exported.

    python benchmarks/sweeps/wheel.py WORK_FOLDER [--output docs/results/sweeps/wheel.md]

The checkout is used to build the wheel and for the pins in constraints.txt; whatever runs afterwards runs in a folder
of its own, without it. Takes minutes and some gigabytes, mostly torch.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

HOUSE = Path(__file__).resolve().parents[2]
SWEEP = ("--set", "sweep.trials=1", "--set", "training.epochs=2", "--set", "stopping.enabled=false")
BOARD = ("--device", "stm32f446re")  # the one that `init` aims at
LOOK = "import mcusweep; print(mcusweep.__file__, mcusweep.__version__)"


@dataclass(frozen=True)
class Step:
    """What was run, how long it took, the last line that it printed."""

    command: str
    seconds: float
    said: str


def run(command: list[str], folder: Path, shown: str) -> Step:
    """Run a command away from the checkout; a failing one ends this script with what it said."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    begin = time.monotonic()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{shown}: exit status {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    said = [*done.stderr.strip().splitlines(), *done.stdout.strip().splitlines()]
    lines = [line for line in said if not line.startswith("WARNING: ")]  # pip's, about places it looked at
    step = Step(shown, time.monotonic() - begin, lines[-1].strip() if lines else "")
    print(f"{step.seconds:7.1f} s  {step.command}  {step.said}", flush=True)
    return step


def check(work: Path) -> tuple[list[Step], str]:
    """Every step, and the size and number of files of the wheel."""
    work.mkdir(parents=True, exist_ok=True)
    for name in ("dist", "fresh", "elsewhere"):
        shutil.rmtree(work / name, ignore_errors=True)
    python, program = str(work / "fresh/bin/python"), str(work / "fresh/bin/mcusweep")
    build = [sys.executable, "-m", "build", "--wheel", "--outdir", str(work / "dist"), str(HOUSE)]
    steps = [run(build, work, "python -m build --wheel")]
    (wheel,) = (work / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        size = f"`{wheel.name}`: {len(packed.namelist())} files, {wheel.stat().st_size / 1024:.0f} KB"
    torch = next(line for line in (HOUSE / "constraints.txt").read_text().splitlines() if line.startswith("torch=="))
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    pinned = [*install, "--constraint", str(HOUSE / "constraints.txt"), str(wheel)]
    elsewhere = work / "elsewhere"
    elsewhere.mkdir()
    steps += [
        run([sys.executable, "-m", "venv", str(work / "fresh")], work, "python -m venv fresh"),
        run([*install, torch], work, f"pip install {torch}"),
        run(pinned, work, f"pip install --constraint constraints.txt {wheel.name}"),
        run([python, "-c", LOOK], elsewhere, "import mcusweep"),
        run([program, "init"], elsewhere, "mcusweep init"),
        run([program, "launch", "sweep.toml", *SWEEP], elsewhere, f"mcusweep launch sweep.toml {' '.join(SWEEP)}"),
        run([program, "best", *BOARD], elsewhere, f"mcusweep best {' '.join(BOARD)}"),
        run([program, "report"], elsewhere, "mcusweep report"),
        run(
            [program, "export", "best", *BOARD, "--output", "out"],
            elsewhere,
            f"mcusweep export best {' '.join(BOARD)} --output out",
        ),
    ]
    if shutil.which("cc") and shutil.which("make"):
        test = ["make", "-s", "-C", "out/firmware", "selftest"]
        steps.append(run(test, elsewhere, " ".join(test)))
    return steps, size


def page(steps: list[Step], size: str) -> str:
    """The table as a page."""
    rows = "".join(f"| `{step.command}` | {step.seconds:,.1f} | {step.said.replace('|', ' ')} |\n" for step in steps)
    return (
        "# The wheel in an empty environment\n\n"
        "    python benchmarks/sweeps/wheel.py WORK_FOLDER --output docs/results/sweeps/wheel.md\n\n"
        f"{size}. Python {sys.version.split()[0]}; every command after the installation runs in an empty folder,\n"
        "without the checkout. Seconds are of a busy machine.\n\n"
        f"| command | seconds | its last line |\n|---|---|---|\n{rows}"
    )


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    steps, size = check(given.work.resolve())
    said = page(steps, size).replace(str(given.work.resolve()), "WORK_FOLDER")
    if given.output:
        given.output.write_text(said, encoding="utf-8")


if __name__ == "__main__":
    main()
