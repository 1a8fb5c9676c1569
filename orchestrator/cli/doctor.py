"""Functional checks of a machine: imports, arithmetic, interpreter, tools, data sets."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

from mcu.errors import InputError
from mcu.firmware.toolchain import ARCHITECTURES, Architecture, toolchain
from orchestrator.provenance import machine, usable_cpus


@dataclass(frozen=True)
class Finding:
    """One check: whether it passed, and what was found or what to do."""

    what: str
    works: bool
    detail: str

    def as_row(self) -> dict[str, object]:
        """The finding as a row of a table."""
        return {"what": self.what, "works": self.works, "detail": self.detail}


def check_machine() -> list[Finding]:
    """Run all checks; none of them changes anything."""
    checks: tuple[tuple[str, Callable[[], str]], ...] = (
        ("machine", _machine),
        ("torch", _torch),
        ("bfloat16", _bfloat16),
        ("gpu", _gpu),
        ("optuna", lambda: version("optuna")),
        ("ray", _ray),
        ("tflite-micro", _tflm),
        *((f"firmware tools, {item.name}", partial(firmware_tools, item)) for item in ARCHITECTURES),
        ("board", _pyserial),
        ("disk", _disk),
        ("mnist-5k", lambda: _task("mnist-5k")),
        ("fashion-mnist", lambda: _task("fashion-mnist")),
    )
    return [_try(what, check) for what, check in checks]


def _try(what: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(what, True, check())
    except Exception as error:
        lines = str(error).splitlines()
        return Finding(what, False, lines[0] if lines else type(error).__name__)


def _machine() -> str:
    facts = machine()
    memory = facts["memory"]
    size = f", {memory / 2**30:.0f} GiB" if isinstance(memory, int) else ""
    return f"{facts['system']} {facts['architecture']}, {usable_cpus()} cores{size}"


def _torch() -> str:
    import torch

    product = torch.ones(8, 8) @ torch.ones(8, 8)
    if float(product.sum()) != 512.0:
        raise InputError("a matrix product is wrong")
    return f"{torch.__version__}, {torch.get_num_threads()} threads"


def _bfloat16() -> str:
    import torch

    product = torch.ones(8, 8, dtype=torch.bfloat16) @ torch.ones(8, 8, dtype=torch.bfloat16)
    if float(product.float().sum()) != 512.0:
        raise InputError("a bfloat16 product is wrong")
    return "computes (may be emulated on this processor)"


def _gpu() -> str:
    import torch

    if not torch.cuda.is_available():
        raise InputError("torch sees none; trials train on the CPU")
    return torch.cuda.get_device_name(0)


def _ray() -> str:
    import orchestrator.executors.ray  # noqa: F401  (sets what keeps Ray off the network, then imports it)

    return version("ray")


def _tflm() -> str:
    from tflite_micro import runtime  # noqa: F401

    return version("tflite-micro")


def firmware_tools(architecture: Architecture) -> str:
    """Compiler and emulator of an architecture; InputError with one line that says what to install."""
    tools = toolchain(architecture)
    return f"{tools.compiler()}, {tools.emulator()}"


def _pyserial() -> str:
    from mcu.board.port import import_pyserial

    return f"pyserial {import_pyserial().__version__}, for measure --port"


def _disk() -> str:
    free = shutil.disk_usage(Path.cwd()).free
    if free < 2**30:
        raise InputError(f"only {free / 2**20:.0f} MiB free in the current folder")
    return f"{free / 2**30:.1f} GiB free in the current folder"


def _task(name: str) -> str:
    from search_spaces.choices import TaskChoice
    from search_spaces.tasks import load_task

    task = load_task(TaskChoice(name=name))
    return f"{len(task.x_train):,} training samples of {'x'.join(map(str, task.input_shape))}"
