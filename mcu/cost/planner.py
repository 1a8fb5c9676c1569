"""Our own arena planner: a better placement order than TFLM's greedy one leaves fewer gaps.

Placing buffers with fixed lifetimes into one arena is dynamic storage allocation, NP-hard in general (Garey &
Johnson, SR2). TFLM places the largest first and, on residual networks of uneven widths, ends up to half above
the bytes that are ever alive at once. Here first fit is tried in several orders and the best order is improved by
moving the buffers on top of the arena forward; networks of the sizes that fit microcontrollers mostly end at
the lower bound. The plan travels in the file as ``OfflineMemoryAllocation`` metadata, which TFLM obeys.
"""

from __future__ import annotations

from collections.abc import Sequence

from mcu.cost.arena import Buffer, Plan, greedy_plan, peak_live, place

IMPROVEMENTS = 24
"""Moves tried after the fixed orders."""


def best_plan(buffers: Sequence[Buffer]) -> Plan:
    """The smallest plan found; never larger than TFLM's own."""
    best, bound = greedy_plan(buffers), peak_live(buffers)
    if best.total == bound:
        return best
    everything = range(len(buffers))
    orders = [
        sorted(everything, key=lambda i: (-buffers[i][0] * (1 + buffers[i][2] - buffers[i][1]), i)),
        sorted(everything, key=lambda i: (buffers[i][1] - buffers[i][2], -buffers[i][0], i)),
        sorted(everything, key=lambda i: (-buffers[i][0], i)),
        sorted(everything, key=lambda i: (buffers[i][1], -buffers[i][2], i)),
        sorted(everything, key=lambda i: (-buffers[i][2], buffers[i][1], i)),
        _around_peak(buffers),
    ]
    plans = []
    for order in orders:
        plans.append(place(buffers, order))
        best = min(best, plans[-1], key=_total)
        if best.total == bound:
            return best
    for order, plan in zip(orders, plans, strict=True):
        best = min(best, _improved(buffers, order, plan, bound), key=_total)
        if best.total == bound:
            return best
    return best


def _total(plan: Plan) -> int:
    return plan.total


def _around_peak(buffers: Sequence[Buffer]) -> list[int]:
    """The buffers alive at the fullest step first, then outward in time."""
    steps = sorted({first for _, first, _ in buffers})
    fullest = max(steps, key=lambda step: sum(size for size, first, last in buffers if first <= step <= last))

    def distance(index: int) -> int:
        _, first, last = buffers[index]
        return max(first - fullest, fullest - last, 0)

    return sorted(range(len(buffers)), key=lambda i: (distance(i), buffers[i][1] - buffers[i][2], -buffers[i][0], i))


def _improved(buffers: Sequence[Buffer], order: list[int], plan: Plan, bound: int) -> Plan:
    """First fit again and again, each time placing a buffer that touches the top of the arena earlier."""
    order, best = list(order), plan
    for _ in range(IMPROVEMENTS):
        if best.total == bound:
            break
        top = next(i for i in order if plan.offsets[i] + buffers[i][0] == plan.total)
        position = order.index(top)
        if position == 0:
            break
        order.insert(position // 2, order.pop(position))
        plan = place(buffers, order)
        best = min(best, plan, key=_total)
    return best
