"""The order of execution that needs the least memory.

Operators of a branching network may run in any topological order, and the order decides which tensors are alive at the
same time. The least peak over all orders is found exactly by a bottleneck shortest path over the sets of operators
already executed (the dynamic programme of Liberis & Lane, "Neural networks on microcontrollers: saving memory at
inference via operator reordering", 2019); where there are too many sets, beam search is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mcu.graph.graph import Graph

MOST_SETS = 20_000
"""Sets of executed operators up to which the search is exact."""

BEAM = 200
"""Sets kept per step beyond that."""


def schedule(graph: Graph) -> Graph:
    """The same network in the order with the least peak of live bytes; unchanged if that is no less."""
    order = least_memory_order(graph)
    if peak_bytes(graph, order) >= peak_bytes(graph, range(len(graph.ops))):
        return graph
    return replace(graph, ops=tuple(graph.ops[index] for index in order))


def peak_bytes(graph: Graph, order: Sequence[int]) -> int:
    """Most bytes of activations alive at any step of an order."""
    needs = _Needs(graph)
    done, peak = 0, 0
    for index in order:
        peak = max(peak, needs.bytes_during(done, index))
        done |= 1 << index
    return peak


def least_memory_order(graph: Graph) -> list[int]:
    """Indices of the operators in an order whose peak is least (exact up to ``MOST_SETS`` sets, else a beam)."""
    needs = _Needs(graph)
    # executed set -> (peak so far, order): sets of one size at a time, so each is final when it is extended
    level: dict[int, tuple[int, tuple[int, ...]]] = {0: (0, ())}
    seen, limit = 1, None
    for _ in graph.ops:
        following: dict[int, tuple[int, tuple[int, ...]]] = {}
        for done, (peak, order) in level.items():
            for index in needs.ready(done):
                after = done | 1 << index
                candidate = (max(peak, needs.bytes_during(done, index)), (*order, index))
                if after not in following or candidate < following[after]:
                    following[after] = candidate
        seen += len(following)
        limit = BEAM if seen > MOST_SETS else None
        kept = sorted(following.items(), key=lambda item: item[1])[:limit] if limit else following.items()
        level = dict(kept)
    return list(min(level.values())[1])


class _Needs:
    """Who writes and reads each tensor, as bit sets over the operators."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.readers = [0] * len(graph.tensors)
        self.writer = [-1] * len(graph.tensors)
        for index, op in enumerate(graph.ops):
            self.writer[op.output] = index
            for tensor in op.inputs:
                self.readers[tensor] |= 1 << index
        self.before = [
            sum(1 << self.writer[tensor] for tensor in set(op.inputs) if self.writer[tensor] >= 0) for op in graph.ops
        ]

    def ready(self, done: int) -> list[int]:
        """Operators not yet executed whose inputs are there."""
        return [index for index, before in enumerate(self.before) if not done >> index & 1 and before & done == before]

    def bytes_during(self, done: int, index: int) -> int:
        """Bytes alive while an operator runs: its output, and whatever is written and still to be read."""
        total = self.graph.tensors[self.graph.ops[index].output].elements
        for number, tensor in enumerate(self.graph.tensors):
            writer = self.writer[number]
            written = writer < 0 or done >> writer & 1
            wanted = self.readers[number] & ~done or number == self.graph.output
            if written and wanted:
                total += tensor.elements
        return total
