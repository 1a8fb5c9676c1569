"""Clean-up of a trial database: unreferenced files, and details of dominated trials."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mcu.devices import same_program
from mcu.errors import InputError
from mcu.terms import FINAL_STATES, RuntimeName
from orchestrator.queries.study_budgets import runtime_of
from orchestrator.samplers.observation import OBJECTIVES
from orchestrator.spec import NETWORK
from orchestrator.storage.artifacts import MARKER, artifacts_of, require_sole_owner
from orchestrator.storage.conditions import FINISHED
from orchestrator.storage.search import trial_search
from orchestrator.storage.store import Store, Study
from orchestrator.storage.transfer import delete_details, noted_files
from reports.columns import HIGH_IS_GOOD, used_columns


@dataclass(frozen=True)
class Waste:
    """Data that can be removed.

    Attributes:
        files: in the artifact folder that no trial refers to, except in folders of unfinished trials.
        details: ids of finished dominated trials whose trajectory and reports can be removed.
        models: files of those trials.
        remote: paths of the same files, and of others that no trial refers to, in an object store that the user named.
    """

    files: list[Path] = field(default_factory=list)
    details: list[int] = field(default_factory=list)
    models: list[Path] = field(default_factory=list)
    remote: list[str] = field(default_factory=list)

    @property
    def bytes(self) -> int:
        """Size of the files."""
        return sum(path.stat().st_size for path in (*self.files, *self.models) if path.exists())


def find_waste(store: Store, *, details: bool, models: bool) -> Waste:
    """Data that can be removed from a database and its artifact folder.

    Trials on the front of validation accuracy, flash, SRAM and MACs of their study (of C programs, of those of a core)
    are kept completely, which includes the winner of every budget. The trained networks of a study with trials to run
    are kept, because those may start from them.
    """
    there_too = artifacts_of(store)
    root = there_too.folder.resolve()
    off_front = _off_front(store) if details or models else []
    rows = noted_files(store)
    unfinished = {row.spec_hash for row in rows if row.state not in FINAL_STATES}
    dropped, running = set(off_front) if models else set(), _unfinished(store)
    needed: set[Path] = set()
    loose: set[Path] = set()
    for row in rows:
        for name, path in row.paths.items():
            stays = row.trial not in dropped or (name == NETWORK and row.study in running)
            (needed if stays else loose).update(_inside([path], root))
    loose -= needed
    marker = root / MARKER
    there = sorted(path for path in root.rglob("*") if path.is_file() and path != marker) if root.is_dir() else []
    unknown = [
        path for path in there if path not in needed | loose and path.relative_to(root).parts[0] not in unfinished
    ]
    remote = [
        name
        for name in (there_too.remote.names() if there_too.remote is not None else ())
        if name != MARKER and root / name not in needed and name.split("/")[0] not in unfinished
    ]
    return Waste(unknown, off_front if details else [], sorted(path for path in loose if path.exists()), remote)


def _unfinished(store: Store) -> set[int]:
    """Row ids of the studies that have trials to run."""
    return {
        study.id
        for study in store.studies()
        if sum(store.state_counts(study).get(state, 0) for state in FINAL_STATES) < study.planned_trials
    }


def _inside(paths: Sequence[str], root: Path) -> list[Path]:
    return [full for path in paths if (full := (root / path).resolve()).is_relative_to(root)]


def _off_front(store: Store) -> list[int]:
    from reports.fronts import nondominated

    off: list[int] = []
    for study in store.studies():
        for rows in _comparable(store, study):
            points = [[float("nan") if value is None else float(value) for value in row[1:]] for row in rows]
            kept = nondominated(points, maximise=[name in HIGH_IS_GOOD for name in OBJECTIVES])
            off += [row[0] for row, keep in zip(rows, kept, strict=True) if not keep]
    return off


def _comparable(store: Store, study: Study) -> Iterator[list[tuple[Any, ...]]]:
    """Rows of (id, objectives) of the finished trials whose bytes can be compared: of C programs, those of a core."""
    runtime = runtime_of(study)
    columns = [used_columns(runtime).get(name, name) for name in OBJECTIVES]
    with trial_search(store, FINISHED, [study.id], parameters=False) as search:
        rows = search.narrow(("device", *columns))
    groups: dict[str, list[tuple[Any, ...]]] = {}
    for key, device, *values in rows:
        of_program = same_program(device)[0] if runtime is RuntimeName.FIRMWARE and device else ""
        groups.setdefault(of_program, []).append((key, *values))
    yield from groups.values()


def prune(store: Store, waste: Waste) -> None:
    """Remove the data, and shrink the database file.

    Raises:
        InputError: a study is being run; another database may have files in the folder.
    """
    require_sole_owner(store)
    for study in store.studies():
        holder = store.holder(study.name)
        if holder is not None:
            raise InputError(f"study {study.name!r} is being run by process {holder.pid} on {holder.host}; wait for it")
    delete_details(store, waste.details)
    for path in (*waste.files, *waste.models):
        path.unlink(missing_ok=True)
    files = artifacts_of(store)
    if files.remote is not None:
        files.remote.remove(waste.remote)
    for folder in sorted((path for path in files.folder.rglob("*") if path.is_dir()), reverse=True):
        if not any(folder.iterdir()):
            folder.rmdir()
