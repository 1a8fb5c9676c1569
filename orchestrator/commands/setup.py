"""``init`` and ``doctor``: starting out, and finding out what works on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mcu.errors import InputError
from orchestrator.commands.options import FormatName

InitTask = Annotated[str, typer.Option("--task", metavar="NAME", help="Task of the sweep.")]
InitDevice = Annotated[str, typer.Option("--device", metavar="NAME", help="Microcontroller to aim at.")]
InitFile = Annotated[Path, typer.Option("--output", metavar="FILE", help="File to write.")]

SWEEP = """\
# A sweep: `mcusweep launch {file}`. Commented keys show their defaults.

[sweep]
name = "{name}"
# seed = 0
trials = 12                      # for each method

[task]
name = "{task}"                  # mcusweep tasks; or "arrays" with path = "x.npz"; or "module:factory"
{task_hint}
[network]
name = "{network}"               # mcusweep networks; or names = [...]; or "module:factory" beside this file
# width = 1.0

[budgets]
devices = ["{device}"]           # mcusweep devices
# list = [{{flash = "64KB", sram = "16KB", macs = "4M"}}]      # instead: explicit bounds
# flash = ["16KB", "256KB"]                                  # instead: ranges, sampled
# sram = ["8KB", "64KB"]

[methods]
names = ["differentiable", "uniform", "l1"]   # mcusweep methods

[training]
epochs = 20
# batch_size = 128
# device = "auto"

[hyperparameters]                # a value fixes one; {{low, high, log}} or {{choices}} searches it
learning_rate = {{low = 0.02, high = 0.3, log = true}}

# [sampler]
# name = "tpe"                   # tpe, nsga2, nsga3, qmc, random, grid

# [stopping]
# enabled = true

# [workers]
# executor = "ray"               # ray, local, simulated
# cpus_per_trial = 1
# count = "auto"
# max_attempts = 3
"""
_NETWORKS = {"sound": "ds-cnn", "motion": "tiny-cnn1d", "any": "plain-cnn"}


def init(
    task: InitTask = "mnist-5k", device: InitDevice = "stm32f446re", output: InitFile = Path("sweep.toml")
) -> None:
    """Write a commented sweep file to start from."""
    from mcu.devices import find_device
    from orchestrator.row_formats import write_atomic
    from search_spaces.tasks import describe_task

    about = describe_task(task)
    part = find_device(device).name
    if output.exists():
        raise InputError(f"--output {output}: is there already; give another name")
    hint = "" if task == "mnist-5k" else '# data = "FOLDER"\n'
    if task == "arrays":
        hint = 'path = "arrays.npz"               # x, y or x_train, y_train, ...\n'
    network = _NETWORKS.get(str(about.get("modality", "")), "resnet8")
    values = {"file": output.name, "name": f"{task}-{part}", "task": task, "task_hint": hint}
    write_atomic(output, SWEEP.format(**values, network=network, device=part).encode())
    print(output)


def doctor(format_name: FormatName = "table") -> None:
    """What works on this machine: Python packages, Ray, TFLM, the Arm compiler, QEMU, data."""
    from orchestrator.doctor import check_machine
    from orchestrator.row_formats import find_format, write_rows

    rows = [finding.as_row() for finding in check_machine()]
    write_rows(("what", "works", "detail"), rows, find_format(format_name))


COMMANDS = (init, doctor)
