"""Whether two models can be told apart by the validation samples that both were judged on. Light: no pandas."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from mcu.errors import InputError

LEVEL = 0.05
"""Two models are told apart when an exact McNemar test finds their difference less likely than this."""

LOOKED_AT = 200
"""Models that are held against the highest, at most."""

Place = TypeVar("Place")


@dataclass(frozen=True)
class Validation:
    """How a model answered the validation samples.

    Attributes:
        right: whether each was right, bool ``(samples,)``.
        samples: digest of their labels; only models judged on the same samples are compared.
    """

    right: np.ndarray
    samples: str

    @classmethod
    def of(cls, labels: np.ndarray, answers: np.ndarray) -> Validation:
        """From class numbers ``(samples,)``."""
        digest = hashlib.sha256(np.ascontiguousarray(labels, np.int64).tobytes())
        return cls(labels == answers, digest.hexdigest()[:16])

    def encode(self) -> bytes:
        """As JSON, the answers a bit each."""
        packed = base64.b64encode(np.packbits(self.right).tobytes()).decode()
        return json.dumps({"count": len(self.right), "right": packed, "samples": self.samples}, sort_keys=True).encode()

    @classmethod
    def decode(cls, data: bytes) -> Validation:
        """From ``encode``.

        Raises:
            InputError: if the text is none of those.
        """
        try:
            found = json.loads(data)
            packed, count = base64.b64decode(found["right"], validate=True), int(found["count"])
            if len(packed) != -(-count // 8) or not count or not isinstance(found["samples"], str):
                raise ValueError
            return cls(np.unpackbits(np.frombuffer(packed, np.uint8), count=count).astype(bool), found["samples"])
        except (ValueError, KeyError, TypeError, RecursionError):
            raise InputError("answers to the validation samples: not as they were written") from None


@dataclass(frozen=True)
class Choice:
    """Which of several models to take, the highest validation accuracy being the first of them.

    Attributes:
        chosen: its place among them.
        as_good: places of those that cannot be told apart from the first, which is among them; empty where nothing is
            known of the samples.
        samples: how many validation samples say so.
    """

    chosen: int = 0
    as_good: tuple[int, ...] = ()
    samples: int = 0


def size(flash: float, sram: float, macs: float) -> float:
    """One number for how small a model is: the product, in which a tenth less of any resource counts the same."""
    return flash * sram * macs


def choose(
    order: Sequence[Place], validation: Callable[[Place], Validation | None], size: Callable[[Place], float]
) -> Choice:
    """The smallest model whose accuracy is within one standard error of the highest's.

    This is the one-standard-error rule (Breiman et al., "Classification and Regression Trees", 1984) with the standard
    error of the paired difference: the root of how many samples one of two models alone gets right.

    Args:
        order: models by validation accuracy, highest first; of equal ones the smaller first.
        validation: how each answered, where that is known.
        size: of each.
    """
    first = validation(order[0]) if order else None
    if first is None:
        return Choice()
    as_good, near = [0], [0]
    wrong = int((~first.right).sum())
    for place in range(1, min(len(order), LOOKED_AT)):
        other = validation(order[place])
        if other is None or other.samples != first.samples:
            continue
        behind = int(first.right.sum()) - int(other.right.sum())
        if behind > 3 * math.sqrt(2 * wrong + behind) + 3:  # no samples could make these equal, nor any after them
            break
        if not told_apart(first, other):
            as_good.append(place)
        if behind <= math.sqrt(sum(alone(first, other))):
            near.append(place)
    chosen = min(near, key=lambda place: (size(order[place]), place))
    return Choice(chosen, tuple(as_good), len(first.right))


def told_apart(first: Validation, second: Validation) -> bool:
    """Whether they differ more than chance lets them, or answered different samples."""
    return first.samples != second.samples or chance(first, second) < LEVEL


def alone(first: Validation, second: Validation) -> tuple[int, int]:
    """How many samples only the first gets right, and only the second."""
    return int((first.right & ~second.right).sum()), int((second.right & ~first.right).sum())


def chance(first: Validation, second: Validation) -> float:
    """Probability of a difference like theirs, or more, if both were as good: the exact McNemar test, two-sided."""
    one, other = alone(first, second)
    count = one + other
    return min(1.0, 2 * sum(math.comb(count, k) for k in range(min(one, other) + 1)) / 2**count)
