"""Stand-ins for the real worker: what a trial does is written in its hyperparameters. No torch."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from pathlib import Path

from mcu.errors import InputError
from orchestrator.executors.attempt import ReportEpoch
from orchestrator.spec import FILES, NETWORK, Artifact, EpochReport, TrialResult, TrialSpec


def run_trial(spec: TrialSpec, artifacts: Path, report: ReportEpoch) -> TrialResult:
    """Report ``reports`` epochs of ``sleep`` seconds each; misbehave as told."""
    wish = spec.hyperparameters
    if "tickets" in wish:
        take_ticket(Path(str(wish["tickets"])))
    marks = artifacts / "marks"
    marks.mkdir(parents=True, exist_ok=True)
    runs = len(list(marks.glob(f"{spec.seed}-*")))
    (marks / f"{spec.seed}-{runs}-{os.getpid()}").touch()
    for step in range(int(wish.get("reports", 2))):
        time.sleep(float(wish.get("sleep", 0.0)))
        accuracy = min(1.0, 0.2 * (step + 1))
        going_on = report(
            EpochReport(step=step, epochs_done=step + 1.0, val_accuracy=accuracy, flash=60_000, sram=30_000)
        )
        if not going_on:
            return TrialResult(state="stopped", reason="stopped early", val_accuracy=accuracy, violation=0.0)
        if runs < int(wish.get("deaths", 0)):
            os.kill(os.getpid(), signal.SIGKILL)
    if wish.get("wrong"):
        raise InputError("budget flash = 1: smaller than anything\nsecond line")
    if wish.get("hungry"):
        raise MemoryError if wish["hungry"] == 1 else RuntimeError("DefaultCPUAllocator: can't allocate memory: 1 byte")
    if wish.get("ill"):
        raise OSError(28, "No space left on device") if wish["ill"] == 1 else ImportError("cannot import name 'x'")
    if wish.get("error"):
        raise ZeroDivisionError("something broke")
    quality, files = float(wish.get("quality", 0.5)), {}
    if spec.leaves_network:
        quality, files = inherit(spec, artifacts)
    flash = int(wish.get("flash", 60_000))
    bound = spec.budget.flash or flash
    over = max(0.0, flash / bound - 1)
    return TrialResult(
        state="complete",
        accuracy=quality,
        val_accuracy=float("nan") if wish.get("nan") else quality,
        flash=flash,
        sram=30_000,
        macs=1_000_000,
        violation=over,
        feasible=over == 0,
        measured=True,
        duration_s=0.01,
        artifacts=files,
        trajectory=[{"step": 0, "pid": os.getpid(), "threads": os.environ.get("OMP_NUM_THREADS")}],
    )


def take_ticket(folder: Path) -> None:
    """Wait for a file in a folder of this host, and remove it; where there is no such folder, nobody waits."""
    while folder.is_dir():
        for ticket in folder.iterdir():
            return ticket.unlink()
        time.sleep(0.05)
    return None


def inherit(spec: TrialSpec, artifacts: Path) -> tuple[float, dict[str, Artifact]]:
    """An accuracy that depends on everything the trial inherits, and the file it leaves to its heirs."""
    before = [(artifacts / name / FILES[NETWORK]).read_bytes() for name in (spec.ancestor, spec.parent) if name]
    data = hashlib.sha256(b"".join([spec.canonical().encode(), *before])).digest()
    file = artifacts / spec.hash() / FILES[NETWORK]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    note = Artifact(path=f"{spec.hash()}/{FILES[NETWORK]}", sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))
    return int.from_bytes(data[:4], "big") / 2**32, {NETWORK: note}
