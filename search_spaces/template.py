"""A commented sweep file to start from."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from mcu.devices import Device, find_device
from mcu.errors import InputError
from search_spaces.tasks.registry import describe_task


@dataclass(frozen=True)
class Start:
    """Default settings for a task.

    Attributes:
        network, width: network and width for these epochs, batch size and trials.
        small: whether the network can be pruned to 4 KB of SRAM on this task.
        metric: on validation data, if not accuracy.
        least_sram: bytes of the smallest built-in network on this task, if a device may have less.
    """

    network: str
    width: float
    epochs: int
    trials: int
    batch_size: int = 128
    small: bool = False
    metric: str | None = None
    least_sram: int | None = None


STARTS = {
    "mnist-5k": Start("resnet8", 0.5, 20, 24, 64),
    "fashion-mnist": Start("resnet8", 1.0, 20, 24),
    "digits": Start("plain-cnn", 0.5, 30, 24, 64, small=True),
    "cifar10": Start("resnet8", 1.0, 40, 24, least_sram=5_200),
    "image-folder": Start("resnet8", 1.0, 30, 24, 64),
    "audio-folder": Start("ds-cnn", 0.5, 30, 24, 64),
    "table": Start("tiny-cnn1d", 1.0, 30, 24, 64, small=True),
    "watch": Start("tiny-cnn1d", 1.0, 30, 24, 64, small=True),
    "machine-sound": Start("dense-autoencoder", 1.0, 40, 24, 64, metric="auc", least_sram=9_248),
    "anomaly-folder": Start("dense-autoencoder", 1.0, 40, 24, 64, metric="auc", least_sram=9_248),
    "spoken-digits": Start("ds-cnn", 0.5, 15, 24),
    "keywords": Start("ds-cnn", 1.0, 20, 24),
    "keywords-synthetic": Start("ds-cnn", 0.5, 16, 24),
}
BY_MODALITY = {"sound": Start("ds-cnn", 0.5, 20, 24), "motion": Start("tiny-cnn1d", 1.0, 30, 24, 64, small=True)}
ANY_TASK = Start("plain-cnn", 0.5, 20, 24)
DATA = {
    "arrays": 'path = "data.npz"                    # x and y, or x_train, y_train, x_test, y_test',
    "fashion-mnist": '# data = "folder"                    # where its four idx files are, if not in a usual place',
    "cifar10": 'data = "data"                        # the folder with cifar-10-batches-py, -bin or their archive',
    "image-folder": 'data = "images"                      # the folder with a folder for each class',
    "audio-folder": 'data = "recordings"                  # the folder with a folder for each class',
    "table": 'path = "sensor.csv"                  # or .parquet, or data = "folder" of one file a recording\n'
    'options = {window = 50}              # rows of a sample; label = "column", group = "column", columns = "ax, ay"',
    "anomaly-folder": 'data = "recordings"                  # the folder with the folders normal and abnormal',
    "keywords": 'data = "speech_commands"             # Google Speech Commands, unpacked',
    "spoken-digits": 'data = "fsdd"                        # the recordings of the Free Spoken Digit Dataset',
}
TIGHT = 8 * 1024
"""Bytes of SRAM below which a network must have few layers, as each costs the interpreter memory of its own."""
LARGER = ("cifar10", "image-folder", "machine-sound", "anomaly-folder")
NO_DATA = '# data = "folder"                    # for tasks that lie on disk'
SMALL_BUDGETS = """list = [                   # bounds on the model; flash, sram and macs may each be left out
    {flash = "16KB", sram = "8KB"},
    {flash = "24KB", sram = "12KB"},
    {flash = "32KB", sram = "16KB"},
    {flash = "64KB", sram = "24KB", macs = "2M"},
]"""

LARGER_BUDGETS = """list = [                   # bounds on the model; flash, sram and macs may each be left out
    {flash = "24KB", sram = "16KB"},
    {flash = "48KB", sram = "24KB"},
    {flash = "64KB", sram = "32KB"},
    {flash = "128KB", sram = "48KB", macs = "10M"},
]"""


def start_of(task: str, sram: int | None) -> Start:
    """Default settings for a task on a device with this many bytes of SRAM for the model.

    Raises:
        InputError: for an unknown task, or when no built-in network is that small.
    """
    start = STARTS.get(task) or BY_MODALITY.get(describe_task(task)["modality"], ANY_TASK)
    if sram is None or start.small:
        return start
    if start.least_sram is not None and sram < start.least_sram:
        raise InputError(
            f"task {task!r}: no network fits {sram:,} bytes of SRAM with its inputs, the smallest takes "
            f"{start.least_sram:,}: choose a device that leaves more, see `mcusweep devices`"
        )
    return start if sram >= TIGHT or start.metric else replace(start, network="tiny-cnn", width=1.0)


def template(task: str = "mnist-5k", device: str | None = None) -> str:
    """A sweep file for ``task`` on ``device`` (without one: for a few small budgets), ready to launch.

    Raises:
        InputError: for an unknown task or device, or a device too small for any network on the task.
    """
    found = None if device is None else find_device(device)
    part = None if found is None else found.name
    room = None if found is None else found.budget().sram
    start = start_of(task, room)
    data = DATA.get(task, NO_DATA)
    if task == "image-folder" and room is not None and room < TIGHT:
        data += '\noptions = {size = 16, colour = "grey"}   # 3 x 32 x 32 take more memory than this device leaves'
    name = task.replace(":", "-").replace(".", "-")
    return TEMPLATE.format(
        study=_text(name if part is None else f"{name}-{part}"),
        task=_text(task),
        data=data,
        network=_text(start.network),
        width=start.width,
        budgets=(LARGER_BUDGETS if task in LARGER else SMALL_BUDGETS) if part is None else f"devices = [{_text(part)}]",
        **_runtime(found),
        epochs=start.epochs,
        batch_size=start.batch_size,
        metric="" if start.metric is None else f"metric = {_text(start.metric)}\n",
        trials=start.trials,
    )


def _runtime(device: Device | None) -> dict[str, str]:
    """What bounds apply to: the only runtime there is for a device, else the interpreter."""
    if device is not None and device.firmware_only:
        return {"runtime": '"firmware"', "pad": " " * 17, "bounded": "flash and RAM of the C program"}
    return {"runtime": '"tflm"', "pad": " " * 21, "bounded": "the .tflite file and the TFLM arena"}


def _text(value: str) -> str:
    """A TOML string; JSON's escapes are a part of TOML's."""
    return json.dumps(value)


TEMPLATE = """\
# A sweep: which network, on which task, for which microcontrollers. Only [sweep] name, [task] name, [network] name and
# one form of [budgets] are needed. `mcusweep launch THIS_FILE` runs it; `--set training.epochs=4` changes a key once.

[sweep]
name = {study}
seed = 0
trials = {trials}                          # of each method

[task]                               # `mcusweep tasks` lists them
name = {task}
{data}

[network]                            # `mcusweep networks` lists them
name = {network}                   # or names = ["resnet8", "ds-cnn"], or "my_module:my_factory" beside this file
width = {width}                          # multiplies every layer's channels

[budgets]                            # one of: devices, list, or ranges; `mcusweep devices` lists devices
{budgets}
# flash = ["16KB", "256KB"]          # ranges instead, sampled evenly in the logarithm: 64KB = 65536, 64kB = 64000
# sram = ["8KB", "64KB"]
# count = 8                          # how many budgets are sampled; plan = "sobol", "grid" or "adaptive"
runtime = {runtime}{pad}# bounds apply to {bounded}

[methods]                            # `mcusweep methods` lists them
names = ["differentiable", "uniform", "l1"]

[lineage]                            # jobs begin with trained networks of larger budgets and learn from the dense one
enabled = true                       # false: every job begins with random weights

[training]
epochs = {epochs}
batch_size = {batch_size}
device = "auto"                      # "cpu", "cuda", or whichever there is
{metric}
[hyperparameters]                    # a value fixes it; {{low, high, log or step}} or {{choices}} search it
learning_rate = {{low = 0.02, high = 0.3, log = true}}

[sampler]
name = "tpe"                         # tpe learns across budgets; optuna-tpe, nsga2, nsga3, qmc, random, grid

[stopping]
enabled = true                       # stop trials early that cannot become the best

[workers]
executor = "ray"                     # or "local"
cpus_per_trial = 1
count = "auto"                       # as many as fit on this machine
max_attempts = 3
"""
