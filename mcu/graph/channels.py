"""Channel groups: which channels must be kept or removed together.

Every channel written by a convolution-like operator is an atom. Element-wise addition and depthwise convolution tie
atoms one to one, concatenation lays them side by side. Channels tied to a network input or a logit, or written by a
frozen layer, are fixed. Atoms that are written by the same set of operators and gathered by the same ones form one
group, whose width is one number (dependency groups as in Fang et al., "DepGraph", CVPR 2023). In every tensor the
channels of a group stand in the order of their members, one run or several, so that widths alone say what a tensor
looks like; those that a network mixes with others otherwise are fixed.
"""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np

from mcu.graph.graph import FIXED, Group, Op, Tensor
from mcu.graph.kinds import Kind


class Atoms:
    """Union-find over channels."""

    def __init__(self) -> None:
        self._parent: list[int] = []
        self._fixed: set[int] = set()

    def new(self, count: int, *, fixed: bool = False) -> np.ndarray:
        """Make ``count`` atoms; int64 ``(count,)``."""
        first = len(self._parent)
        self._parent.extend(range(first, first + count))
        atoms = np.arange(first, first + count)
        if fixed:
            self.fix(atoms)
        return atoms

    def fix(self, atoms: np.ndarray) -> None:
        """Declare that these channels can never be removed."""
        self._fixed.update(int(atom) for atom in atoms)

    def root(self, atom: int) -> int:
        """Representative of the atom's class."""
        while self._parent[atom] != atom:
            self._parent[atom] = self._parent[self._parent[atom]]
            atom = self._parent[atom]
        return atom

    def tie(self, left: np.ndarray, right: np.ndarray) -> None:
        """Join two equally long rows of channels one to one."""
        for a, b in zip(left, right, strict=True):
            self._parent[self.root(int(a))] = self.root(int(b))

    def roots(self) -> np.ndarray:
        """Representative of every atom's class."""
        found = np.array(self._parent, dtype=np.int64)
        while not np.array_equal(found, found[found]):
            found = found[found]
        return found

    def fixed_roots(self) -> set[int]:
        """Representatives of the classes with at least one fixed member."""
        return {self.root(atom) for atom in self._fixed}


def assign_groups(
    ops: list[Op],
    tensor_atoms: list[np.ndarray],
    shapes: list[tuple[str, int, int]],
    atoms: Atoms,
    writers: set[int],
) -> tuple[tuple[Tensor, ...], tuple[Group, ...]]:
    """Turn tied atoms into groups.

    Args:
        ops: operators in execution order.
        tensor_atoms: per tensor, the atom of each channel.
        shapes: per tensor, (name, height, width).
        atoms: the union-find.
        writers: indices into ``ops`` of the convolution-like operators.

    Returns:
        The tensors with their groups filled in, and the groups in order of first appearance.
    """
    while True:
        tensors, groups = _grouped(ops, tensor_atoms, shapes, atoms, writers)
        mixed = [_mixed(tensor, groups) for tensor in tensors]
        if not any(map(len, mixed)):
            return tensors, groups
        for row, positions in zip(tensor_atoms, mixed, strict=True):
            atoms.fix(row[positions])


def _mixed(tensor: Tensor, groups: tuple[Group, ...]) -> np.ndarray:
    """Positions of channels whose groups do not stand in a tensor as whole runs of members, each once or repeated."""
    bad: set[int] = set()
    order = np.flatnonzero((np.diff(tensor.groups) != 0) | (np.diff(tensor.members) < 0)) + 1
    for run in np.split(np.arange(tensor.channels), order):
        index, members = int(tensor.groups[run[0]]), tensor.members[run]
        if index != FIXED:
            size = groups[index].size
            if len(members) % size or (members != np.repeat(np.arange(size), len(members) // size)).any():
                bad.add(index)
    return np.flatnonzero(np.isin(tensor.groups, list(bad)))


def _grouped(
    ops: list[Op],
    tensor_atoms: list[np.ndarray],
    shapes: list[tuple[str, int, int]],
    atoms: Atoms,
    writers: set[int],
) -> tuple[tuple[Tensor, ...], tuple[Group, ...]]:
    resolved = atoms.roots()
    roots = [resolved[row] for row in tensor_atoms]
    written_by: dict[int, list[int]] = defaultdict(list)
    for index in sorted(writers):
        for root in dict.fromkeys(roots[ops[index].output].tolist()):
            written_by[root].append(index)
    gathered_by: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for index, op in enumerate(ops):
        if op.kind is Kind.GATHER:
            for root, count in Counter(roots[op.output].tolist()).items():
                gathered_by[root].append((index, count))
    fixed = atoms.fixed_roots()
    keys: dict[tuple[tuple[int, ...], tuple[tuple[int, int], ...]], int] = {}
    group_of: dict[int, int] = {}
    member_of: dict[int, int] = {}
    sizes: list[int] = []
    for root, signature in written_by.items():
        if root in fixed:
            continue
        group = keys.setdefault((tuple(signature), tuple(gathered_by[root])), len(keys))
        if group == len(sizes):
            sizes.append(0)
        group_of[root], member_of[root] = group, sizes[group]
        sizes[group] += 1
    tensors = tuple(
        Tensor(
            name,
            height,
            width,
            np.array([group_of.get(root, FIXED) for root in row], dtype=np.int64),
            np.array([member_of.get(root, 0) for root in row], dtype=np.int64),
        )
        for (name, height, width), row in zip(shapes, (r.tolist() for r in roots), strict=True)
    )
    groups = []
    parts: Counter[tuple[int, ...]] = Counter()
    named: Counter[str] = Counter()
    for index, ((writers_of_group, _), size) in enumerate(zip(keys, sizes, strict=True)):
        first, part = ops[writers_of_group[0]], parts[writers_of_group]
        parts[writers_of_group] += 1
        written = np.count_nonzero(tensors[first.output].groups == index)
        name = f"{first.name}[{named[first.name]}]" if named[first.name] else first.name
        named[first.name] += 1
        groups.append(Group(name, size, tuple(ops[i].name for i in writers_of_group), int(written) // size, part))
    return tensors, tuple(groups)
