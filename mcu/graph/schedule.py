"""The order of execution that needs the least memory.

Operators of a branching network may run in any topological order, and the order decides which tensors are alive
together. The least peak over all orders is found by a bottleneck shortest path over the sets of operators already
executed (the dynamic programme of Liberis & Lane, "Neural networks on microcontrollers: saving memory at inference via
operator reordering", 2019), best set first, from a lower bound of every order. Where that meets too many sets, a beam
of the best ones is kept, which may miss the least. Either way the order that is chosen is the one that is exported,
and the memory that is predicted is that order's.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count

from mcu.graph.graph import Graph

MOST_SETS = 10_000
"""Sets of executed operators up to which the search is exact."""

BEAM = 100
"""Sets kept per step beyond that."""

HEURISTIC = (
    "the order of its operators was found by a heuristic, as it has too many branches to try all: its memory is "
    "predicted and measured in that order, and another might need less"
)


def schedule(graph: Graph, note: Callable[[str], None] | None = None) -> Graph:
    """The same network in the order with the least peak of live bytes; unchanged if that is not below the present.

    Args:
        graph: in any order that can be executed.
        note: is told ``HEURISTIC`` where the least peak is not known.
    """
    needs = _Needs(graph)
    order, exact = _below(needs, peak_bytes(graph, range(len(graph.ops))))
    if note and not exact:
        note(HEURISTIC)
    return replace(graph, ops=tuple(graph.ops[index] for index in order)) if order else graph


def peak_bytes(graph: Graph, order: Sequence[int]) -> int:
    """Most bytes of activations alive at any step of an order."""
    needs = _Needs(graph)
    state = needs.start()
    for index in order:
        state = needs.after(state, index)
    return state.peak


@dataclass(frozen=True)
class _Executed:
    """What is known when some operators have been executed, in whatever order; sets are bits by operator.

    Attributes:
        peak: most bytes alive at any step so far.
        alive: bytes alive now.
        ready: operators whose inputs are there.
        last, before: the operator executed last, and what was executed before it.
    """

    peak: int
    done: int
    alive: int
    ready: int
    last: int = -1
    before: _Executed | None = None

    def order(self) -> list[int]:
        """Operators in execution order."""
        found, state = [], self
        while state.before is not None:
            found.append(state.last)
            state = state.before
        return found[::-1]


def _below(needs: _Needs, bound: int) -> tuple[list[int], bool]:
    """An order whose peak is below ``bound`` and the least; empty where there is none. And whether that is certain."""
    least = needs.least()
    if bound <= least:
        return [], True
    numbers = count()
    waiting = [(least, 0, next(numbers), replace(needs.start(), peak=least))]
    settled: set[int] = set()
    while waiting:
        _, executed, _, state = heapq.heappop(waiting)
        if executed == -len(needs.outputs):
            return state.order(), True
        if state.done in settled:
            continue
        settled.add(state.done)
        if len(settled) > MOST_SETS:
            return _beam(needs, bound), False
        for following in _choices(needs, state):
            if following.peak < bound and following.done not in settled:
                heapq.heappush(waiting, (following.peak, executed - 1, next(numbers), following))
    return [], True


def _choices(needs: _Needs, state: _Executed) -> Iterator[_Executed]:
    """What may be executed next: everything, or one operator alone that costs nothing.

    An operator that raises neither the peak nor what is alive behind it can run at once: put to the front of any order
    that goes on from here, it raises none of its steps.
    """
    found = [needs.after(state, index) for index in _bits(state.ready)]
    free = next((one for one in found if one.peak == state.peak and one.alive <= state.alive), None)
    yield from [free] if free else found


def _beam(needs: _Needs, bound: int) -> list[int]:
    """An order found by keeping the ``BEAM`` best sets of each size; empty where none is below ``bound``."""
    level = {0: needs.start()}
    for _ in needs.outputs:
        following: dict[int, _Executed] = {}
        for state in level.values():
            for one in _choices(needs, state):
                known = following.get(one.done)
                if one.peak < bound and (known is None or one.peak < known.peak):
                    following[one.done] = one
        best = heapq.nsmallest(BEAM, following.values(), key=lambda state: (state.peak, state.alive, state.done))
        level = {state.done: state for state in best}
    return next(iter(level.values())).order() if level else []


def _bits(number: int) -> Iterator[int]:
    while number:
        lowest = number & -number
        yield lowest.bit_length() - 1
        number ^= lowest


class _Needs:
    """Who writes and reads each tensor, as bit sets over the operators.

    Attributes:
        outputs: bytes of every operator's output.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._outputs = {port.tensor for port in graph.outputs}
        self._sizes = [tensor.elements for tensor in graph.tensors]
        self.outputs = [self._sizes[op.output] for op in graph.ops]
        self._inputs = [tuple(dict.fromkeys(op.inputs)) for op in graph.ops]
        self._readers = [0] * len(graph.tensors)
        self._writer = [-1] * len(graph.tensors)
        for index, op in enumerate(graph.ops):
            self._writer[op.output] = index
            for tensor in op.inputs:
                self._readers[tensor] |= 1 << index
        self._before = [
            sum(1 << self._writer[tensor] for tensor in inputs if self._writer[tensor] >= 0) for inputs in self._inputs
        ]

    def start(self) -> _Executed:
        """State before the first operator."""
        ready = sum(1 << index for index, before in enumerate(self._before) if not before)
        alive = sum(
            size for tensor, size in enumerate(self._sizes) if self._writer[tensor] < 0 and self._is_wanted(tensor, 0)
        )
        return _Executed(0, 0, alive, ready)

    def _is_wanted(self, tensor: int, done: int) -> bool:
        return bool(self._readers[tensor] & ~done) or tensor in self._outputs

    def after(self, state: _Executed, index: int) -> _Executed:
        """State after one more operator; while it runs, its output and all tensors still to be read are alive."""
        done = state.done | 1 << index
        during = state.alive + self.outputs[index]
        alive = during - sum(self._sizes[tensor] for tensor in self._inputs[index] if not self._is_wanted(tensor, done))
        output = self._graph.ops[index].output
        if not self._is_wanted(output, done):
            alive -= self._sizes[output]
        ready = state.ready & ~(1 << index)
        for reader in _bits(self._readers[output]):
            if self._before[reader] & done == self._before[reader]:
                ready |= 1 << reader
        return _Executed(max(state.peak, during), done, alive, ready, index, state)

    def least(self) -> int:
        """A lower bound on the peak of every order: for each operator, the bytes alive with it in all orders."""
        earlier = [0] * len(self.outputs)
        for index in range(len(self.outputs)):
            for before in _bits(self._before[index]):
                earlier[index] |= earlier[before] | 1 << before
        later = [0] * len(self.outputs)
        for index in reversed(range(len(self.outputs))):
            for before in _bits(self._before[index]):
                later[before] |= later[index] | 1 << index
        return max((self._alive_beside(k, earlier[k], later[k]) for k in range(len(self.outputs))), default=0)

    def _alive_beside(self, index: int, earlier: int, later: int) -> int:
        from_here, bytes_alive = later | 1 << index, self.outputs[index]
        for tensor, size in enumerate(self._sizes):
            writer = self._writer[tensor]
            written = writer < 0 or earlier >> writer & 1
            if written and (self._readers[tensor] & from_here or tensor in self._outputs):
                bytes_alive += size
        return bytes_alive
