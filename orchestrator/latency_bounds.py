"""``budgets.latency`` as multiply-accumulates, by the best figures there are when a study begins."""

from __future__ import annotations

from mcu.devices import find_device
from mcu.errors import InputError
from mcu.front_end import FrontEnd
from mcu.terms import RuntimeName
from orchestrator.queries.latency import measured_cycles
from orchestrator.storage.store import Store
from search_spaces.sweep import SweepConfig
from search_spaces.tasks.registry import may_have_front_end


def with_latency(sweep: SweepConfig, storage: str) -> SweepConfig:
    """The sweep with its bound on latency as multiply-accumulates of each device, which its study keeps.

    Cycles per instruction are those of models measured on a device in the database, else those of its core. Where the
    budget bounds the C program, the instructions of the front end of sound (of the most expensive one, if several are
    searched) come out of the same time.

    Raises:
        InputError: the time is too short, or the tools that count a front end's instructions are missing
            (``ToolsMissing``).
    """
    latency, devices = sweep.budgets.latency, sweep.budgets.devices
    if latency is None or devices is None:
        return sweep
    from mcu.firmware import core_of, macs_within
    from mcu.firmware.front_end_run import measure_front_end

    store, front_ends = _there(storage), _front_ends(sweep)
    macs = {}
    for name in devices:
        device = find_device(name)
        core = core_of(device)
        before = max((measure_front_end(each, core).instructions for each in front_ends), default=0)
        macs[name] = macs_within(device, latency, None if store is None else measured_cycles(store, device), before)
    return sweep.model_copy(update={"latency_macs": macs})


def _there(storage: str) -> Store | None:
    """The database, if there is one yet; what is wrong with it is said when it is opened for writing."""
    try:
        return Store(storage)
    except InputError:
        return None


def _front_ends(sweep: SweepConfig) -> set[FrontEnd]:
    if sweep.budgets.runtime is not RuntimeName.FIRMWARE or not may_have_front_end(sweep.task.name):
        return set()
    from orchestrator.planning.preflight import input_tasks

    return {task.front_end for task in input_tasks(sweep).values() if task.front_end is not None}
