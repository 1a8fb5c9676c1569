"""``study``: whole studies: list, export to a file, import, merge databases, back up, upgrade, delete, prune."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mcu.errors import InputError
from orchestrator.cli.options import STORAGE, FormatName, Storage, StudyNames, Trust

if TYPE_CHECKING:
    from orchestrator.studies.merge import Merged

app = typer.Typer(
    help="Whole studies: list, export, import, merge, back up, upgrade, delete, prune.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Named = Annotated[str, typer.Argument(metavar="NAME", help="A study.", show_default=False)]
BackupFile = Annotated[Path, typer.Argument(metavar="FILE", help="File to write.", show_default=False)]
ZipFile = Annotated[Path, typer.Argument(metavar="FILE.zip", help="An exported study.", show_default=False)]
Other = Annotated[str, typer.Argument(metavar="OTHER", help="Database file or URL to import from.", show_default=False)]
NewFile = Annotated[
    Path | None, typer.Option("--output", metavar="FILE.zip", help="File to write; NAME.zip by default.")
]
NewName = Annotated[str | None, typer.Option("--name", metavar="NAME", help="Name of the imported study.")]
Yes = Annotated[bool, typer.Option("--yes", help="Execute; without it, only show what would be done.")]
Details = Annotated[bool, typer.Option("--details", help="Also trajectories and reports of dominated trials.")]
Models = Annotated[bool, typer.Option("--models", help="Also files of dominated trials.")]


@app.command("list")
def list_command(format_name: FormatName = "table", storage: Storage = STORAGE) -> None:
    """The studies of a database and how far each is."""
    from orchestrator.queries.query import list_studies
    from orchestrator.storage.store import Store
    from orchestrator.tables import find_format, write_rows

    listed = list_studies(Store(storage))
    write_rows(listed.columns, listed.rows, find_format(format_name), nothing="no study yet")


@app.command("export")
def export_command(name: Named, output: NewFile = None, storage: Storage = STORAGE) -> None:
    """Write a study with its trials and files into one zip file; prints its path."""
    from orchestrator.storage.store import Store
    from orchestrator.studies.bundle import bundle_of, write_zip

    store = Store(storage)
    bundle = bundle_of(store, store.study(name))
    path = output or Path(f"{''.join(c if c.isalnum() or c in '-_.' else '-' for c in name)}.zip")
    for missing in write_zip(bundle, path):
        print(f"left out: {missing} is missing or damaged", file=sys.stderr)
    print(path)


@app.command("import")
def import_command(file: ZipFile, name: NewName = None, trust: Trust = False, storage: Storage = STORAGE) -> None:
    """Bring an exported study into a database, as a new study."""
    from orchestrator.storage.store import Store
    from orchestrator.studies.bundle_file import read_zip
    from orchestrator.studies.merge import bring_in

    bundle = read_zip(file)
    store = Store(storage, writing=True)
    try:
        _tell(bring_in(store, bundle, name, new=True, trusted=trust))
    finally:
        store.close()


@app.command("merge")
def merge_command(other: Other, study: StudyNames = None, trust: Trust = False, storage: Storage = STORAGE) -> None:
    """Bring the studies of another database into this one; equal trials are not doubled."""
    from orchestrator.cli.asking import study_names
    from orchestrator.storage.store import Store
    from orchestrator.studies.bundle import bundle_of
    from orchestrator.studies.merge import bring_in

    theirs = Store(other if "://" in other else f"sqlite:///{other}")
    names = [name for name in study_names(theirs, study) if name != "*"]
    chosen = [theirs.study(name) for name in names] or theirs.studies()
    store = Store(storage, writing=True)
    try:
        if store.url == theirs.url:
            raise InputError(f"{other}: is the same database as --storage")
        for found in chosen:
            _tell(bring_in(store, bundle_of(theirs, found), trusted=trust))
    finally:
        store.close()


def _tell(merged: Merged) -> None:
    parts = [f"{merged.added} added", f"{merged.known} known already"]
    parts += [f"{merged.filled} that were planned here filled in"] if merged.filled else []
    parts += [f"{merged.unfinished} unfinished left out"] if merged.unfinished else []
    print(f"study {merged.study}: {', '.join(parts)}")
    for path in merged.missing:
        print(f"missing or damaged: {path}", file=sys.stderr)


@app.command("delete")
def delete_command(name: Named, yes: Yes = False, storage: Storage = STORAGE) -> None:
    """Take a study and its trials out of a database; `study prune` then removes its files."""
    from orchestrator.storage.store import Store
    from orchestrator.studies.merge import delete_study

    found = Store(storage).study(name)
    if not yes:
        counts = sum(Store(storage).state_counts(found).values())
        print(f"would delete study {found.name} with {counts} trials; give --yes to do it")
        return
    store = Store(storage, writing=True)
    try:
        print(f"deleted study {found.name} with {delete_study(store, found)} trials")
    finally:
        store.close()


@app.command("backup")
def backup_command(file: BackupFile, storage: Storage = STORAGE) -> None:
    """Copy a database to a new file, also while a sweep runs; models stay where they are."""
    from sqlite3 import Error

    from orchestrator.storage.artifacts import artifacts_of
    from orchestrator.storage.connection import database_file, database_label
    from orchestrator.storage.sqlite import backup_sqlite
    from orchestrator.storage.store import Store

    store = Store(storage)
    source = database_file(store.url)
    if source is None:
        raise InputError(f"{database_label(store.url)}: a server's database is copied by its own `pg_dump`")
    if file.exists():
        raise InputError(f"{file}: exists already; give another name")
    try:
        backup_sqlite(source, file)
    except (OSError, Error) as error:
        raise InputError(f"{file}: cannot be written: {getattr(error, 'strerror', None) or error}") from None
    files = artifacts_of(store)
    print(
        f"the models stay in {files.elsewhere or (files.remote.url if files.remote else files.folder)}", file=sys.stderr
    )
    print(file)


@app.command("upgrade")
def upgrade_command(storage: Storage = STORAGE) -> None:
    """Bring the tables of a database to the layout of this version; older versions refuse it then."""
    from orchestrator.storage.connection import database_label
    from orchestrator.storage.store import Store

    Store(storage)  # refuses a missing database before one is made
    store = Store(storage, writing=True, upgrading=True)
    print(store.upgraded or f"{database_label(store.url)} is up to date")
    store.close()


@app.command("prune")
def prune_command(
    details: Details = False, models: Models = False, yes: Yes = False, storage: Storage = STORAGE
) -> None:
    """Remove files that no trial refers to; with more options, what only dominated trials keep."""
    from mcu.units import format_bytes
    from orchestrator.storage.store import Store
    from orchestrator.studies.prune import find_waste, prune

    Store(storage)  # refuses a missing database before one is made
    store = Store(storage, writing=True)
    try:
        waste = find_waste(store, details=details, models=models)
        parts = [f"{len(waste.files)} stray files"]
        parts += [f"{len(waste.models)} files of dominated trials"] if models else []
        parts += [f"{len(waste.remote)} files in the object store"] if waste.remote else []
        parts += [f"trajectories and reports of {len(waste.details)} dominated trials"] if details else []
        what = f"{', '.join(parts)} ({format_bytes(waste.bytes)} of files)"
        if not yes:
            for path in (*waste.files, *waste.models, *waste.remote):
                print(path)
            print(f"would remove {what}; give --yes to do it")
            return
        prune(store, waste)
        print(f"removed {what}")
    finally:
        store.close()
