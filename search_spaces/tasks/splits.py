"""Splits that depend on the samples alone: ordered by content hash, stratified, equal samples kept together."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np

from mcu.errors import InputError
from search_spaces.tasks.labels import check_spelling
from search_spaces.tasks.rows import Rows, chunks

HASH_BYTES = 16


def sample_hashes(x: np.ndarray | Rows) -> np.ndarray:
    """BLAKE2b of each sample's bytes, as ``(n,)`` of 16-byte strings (``S``-free void type, comparable)."""
    digests = b"".join(
        blake2b(np.ascontiguousarray(sample).tobytes(), digest_size=HASH_BYTES).digest()
        for chunk in chunks(x)
        for sample in chunk
    )
    return np.frombuffer(digests, dtype=np.dtype([("high", ">u8"), ("low", ">u8")]))


def without_leaks(hashes: Sequence[np.ndarray]) -> list[np.ndarray]:
    """For each split, the indices of samples that do not occur in a later split."""
    kept: list[np.ndarray] = []
    later: set[bytes] = set()
    for of_split in reversed(hashes):
        names = [value.tobytes() for value in of_split]
        kept.append(np.array([index for index, name in enumerate(names) if name not in later], dtype=np.int64))
        later.update(names)
    return kept[::-1]


def stratified_split(y: np.ndarray, hashes: np.ndarray, sizes: Sequence[int]) -> list[np.ndarray]:
    """Sorted indices of parts of about ``sizes`` samples and of the rest, each with the classes in proportion.

    The order within a class is that of the hashes, so the split does not depend on the order in the file. Equal samples
    stay together, so a part may be off by their number.

    Args:
        y: labels ``(n,)``.
        hashes: of the samples, see :func:`sample_hashes`.
        sizes: of all parts but the last.

    Raises:
        InputError: when a class has too few distinct samples to be in every part.
    """
    parts: list[list[np.ndarray]] = [[] for _ in range(len(sizes) + 1)]
    labels, counts = np.unique(y, return_counts=True)
    quotas = [_shares(counts, size) for size in sizes]
    _, first, unit_of = np.unique(hashes, return_index=True, return_inverse=True)
    class_of_unit = y[first]
    members = np.argsort(unit_of, kind="stable")
    starts = np.searchsorted(unit_of[members], np.arange(len(first) + 1))
    for position, label in enumerate(labels):
        units = np.flatnonzero(class_of_unit == label)
        if len(units) < len(parts):
            raise InputError(
                f"label {label} has {len(units)} different samples: needs at least {len(parts)}, one for each split"
            )
        chosen = _deal(units, np.diff(starts)[units], [int(quota[position]) for quota in quotas])
        for part, of_part in zip(parts, chosen, strict=True):
            part.extend(members[starts[unit] : starts[unit + 1]] for unit in of_part)
    return [np.sort(np.concatenate(part)) for part in parts]


def grouped_split(y: np.ndarray, groups: np.ndarray, sizes: Sequence[int]) -> list[np.ndarray]:
    """Sorted indices of parts of about ``sizes`` samples and of the rest, no group in two parts.

    Greedy: each part in turn takes the group that brings its class counts nearest to its share of every class, until no
    group improves them; ties are broken by the groups' hashes.

    Args:
        y: labels ``(n,)``.
        groups: source of each sample, such as a person ``(n,)``, texts or integers.
        sizes: of all parts but the last.

    Raises:
        InputError: when there are fewer groups than parts, or a part would lack a class.
    """
    labels, label_of = np.unique(y, return_inverse=True)
    names, group_of = np.unique(groups.astype(str), return_inverse=True)
    check_spelling(names.tolist(), "groups", "names")
    if len(names) <= len(sizes):
        raise InputError(f"{len(names)} groups cannot make {len(sizes) + 1} splits: needs one group for each at least")
    counts = np.zeros((len(names), len(labels)), np.int64)
    np.add.at(counts, (group_of, label_of), 1)
    left = sorted(range(len(names)), key=lambda group: blake2b(str(names[group]).encode()).digest())
    chosen: list[list[int]] = []
    for place, size in enumerate(sizes):
        wanted = counts.sum(0) * (size / len(y))
        spare = len(left) - (len(sizes) - place)
        chosen.append(_nearest_groups(counts, wanted, left, spare))
        left = [group for group in left if group not in chosen[-1]]
    chosen.append(left)
    parts = [np.flatnonzero(np.isin(group_of, part)) for part in chosen]
    for part in parts:
        lacking = np.setdiff1d(labels, y[part])
        if len(lacking):
            raise InputError(f"groups cannot be split so that every split has label {lacking[0]}: it is in too few")
    return parts


def _nearest_groups(counts: np.ndarray, wanted: np.ndarray, left: Sequence[int], most: int) -> list[int]:
    """Groups, at least one and at most ``most``, whose class counts add up to about ``wanted``."""
    part: list[int] = []
    chosen: set[int] = set()
    missing = wanted.astype(np.float64)
    while len(part) < most:
        rest = [group for group in left if group not in chosen]
        distances = np.abs(missing - counts[rest]).sum(1)
        best = int(distances.argmin())
        if part and distances[best] >= np.abs(missing).sum():
            break
        chosen.add(rest[best])
        part.append(rest[best])
        missing = missing - counts[rest[best]]
    return part


def stratified_subset(y: np.ndarray, hashes: np.ndarray, size: int) -> np.ndarray:
    """Sorted indices of ``size`` samples with the classes in proportion, at least one of each."""
    labels, counts = np.unique(y, return_counts=True)
    shares = np.maximum(_shares(counts, size), 1)
    while shares.sum() > size:
        shares[np.argmax(shares)] -= 1
    order = np.argsort(hashes, kind="stable")
    chosen = [order[y[order] == label][:share] for label, share in zip(labels, shares, strict=True)]
    return np.sort(np.concatenate(chosen))


def _deal(units: np.ndarray, weights: np.ndarray, quotas: Sequence[int]) -> list[np.ndarray]:
    """Deal units in order: to each part at least one until its quota is full, the rest to the last part."""
    parts, start = [], 0
    for index, quota in enumerate(quotas):
        last = len(units) - (len(quotas) - index)
        stop, filled = start + 1, int(weights[start])
        while stop < last and filled < quota:
            filled += int(weights[stop])
            stop += 1
        parts.append(units[start:stop])
        start = stop
    return [*parts, units[start:]]


def _shares(counts: np.ndarray, size: int) -> np.ndarray:
    """Whole shares of ``size`` in proportion to ``counts`` (largest remainders)."""
    exact = counts * (size / counts.sum())
    shares = np.floor(exact).astype(np.int64)
    for index in np.argsort(-(exact - shares), kind="stable")[: size - int(shares.sum())]:
        shares[index] += 1
    return shares
