"""Processor time of ``mcusweep check``, by what takes it, beside that of ``torch.export`` alone.

Run: OMP_NUM_THREADS=1 PYTHONPATH=. python benchmarks/mcu/check_time.py [network] [CxHxW]

Prints the imports once, then the least of five runs of each part, as seconds and as a part of ``torch.export``'s: the
ratio holds on a loaded machine, too.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

REPEATS = 5
LIMIT = 1.0
"""Seconds that the proof of MobileNetV2 may take."""


def seconds(run: Callable[[], Any]) -> float:
    """The least processor time of several runs."""
    found = []
    for _ in range(REPEATS):
        started = time.process_time()
        run()
        found.append(time.process_time() - started)
    return min(found)


def imported(statement: str) -> float:
    """Processor time of a process that runs one statement."""
    code = f"{statement}; import time; print(time.process_time())"
    return float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)


def main() -> None:
    import torch

    from mcu.tracing.capture import capture, evaluating
    from mcu.tracing.proof import prove
    from mcu.tracing.rebuild import rebuilt
    from mcu.tracing.trace import lowered, trace
    from orchestrator.cli.checking import shape_of
    from pruning.training.rehearsal import rehearse
    from search_spaces.choices import NetworkChoice
    from search_spaces.networks import build_network

    name, text = (*sys.argv[1:], *("mobilenet-v2", "3x64x64")[len(sys.argv) - 1 :])
    shape = shape_of(text)
    module = build_network(NetworkChoice(name=name), shape, 10, seed=0)
    x = torch.zeros(3, *shape)
    traced, captured = trace(module, shape), capture(module, shape)

    def export() -> None:
        with evaluating(module):
            torch.export.export(module, (x,), strict=False)

    alone = seconds(export)
    parts = {
        "torch.export alone": alone,
        "capture": seconds(lambda: capture(module, shape)),
        "canonical network and operators": seconds(lambda: lowered(rebuilt(captured)[0], shape)),
        "proof": seconds(lambda: prove(captured, shape, lambda network: lowered(network, shape))),
        "all of tracing": seconds(lambda: trace(module, shape)),
        "rehearsal at several widths": seconds(lambda: rehearse(traced, shape)),
    }
    ours = imported("import orchestrator.cli.checking, pruning.training.rehearsal")
    print(f"import torch {imported('import torch'):.2f} s, and all that check imports {ours:.2f} s")
    for part, taken in parts.items():
        print(f"{part}: {taken:.2f} s, {taken / alone:.2f} of torch.export")
    proven = parts["all of tracing"] - parts["capture"]
    print(f"{name}: traced and proven beyond the capture in {proven:.2f} s; limit {LIMIT:.1f} s")


if __name__ == "__main__":
    main()
