"""Files of trials: their folder, its owner, their integrity, and the object store behind it.

A database stores its identity and the absolute path of its folder; a marker in the folder names every database that has
used it. So the files of a database are found from any working folder, and a folder shared by two databases is never
cleaned up. With an object store the files of finished trials lie there, too; what is missing here is read there if the
user names it, because a database may come from a stranger.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import sqlite3
from collections.abc import Iterable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select, update

from mcu.errors import InputError
from mcu.files import write_atomic
from orchestrator.object_store import ObjectStore
from orchestrator.spec import FILES, Artifact, canonical_json
from orchestrator.storage.connection import artifact_root, database_file, database_label, take_turns, transaction
from orchestrator.storage.records import notes_in
from orchestrator.storage.schema import STUDIES, TRIALS
from orchestrator.storage.sqlite import open_sqlite
from orchestrator.storage.store import Store
from orchestrator.storage.trust import TRIAL, foreign

MARKER = ".mcusweep-databases.json"
"""Marker file in an artifact folder: for each database identity the paths of its databases (several after a copy)."""

STORE_VARIABLE = "MCUSWEEP_ARTIFACTS"
"""Environment variable: the URL of an object store that may be read, and get the user's credentials."""

_IDENTITY, _PLACE, _REMOTE = "identity", "artifacts", "object_store"
Owners = dict[str, list[str]]


@dataclass(frozen=True)
class Artifacts:
    """The files of a database's trials.

    Attributes:
        folder: where this machine has them.
        remote: the object store that has those of finished trials, if any; the folder is then a cache.
        elsewhere: URL of an object store that the user has not named.
    """

    folder: Path
    remote: ObjectStore | None = None
    elsewhere: str | None = None

    def read(self, path: str, sha256: str, label: str) -> bytes:
        """A file, checked against its hash; see `read_artifact`.

        Raises:
            InputError: it lies outside the folder, or is missing or damaged.
            ObjectStoreError: the object store does not answer.
        """
        _inside(self.folder, path, label)
        try:
            return read_artifact(self.folder, path, sha256, label)
        except InputError as error:
            data = self.remote.read(path) if self.remote is not None else None
            if self.elsewhere is not None:
                raise InputError(f"{error}; to read it in {self.elsewhere} set {STORE_VARIABLE} to that") from None
            if self.remote is None or data is None:
                raise
        if hashlib.sha256(data).hexdigest() != sha256:
            raise InputError(
                f"{label}: {path} in {self.remote.url} is damaged: its SHA-256 is not the one in the database"
            )
        if self.folder.is_dir():
            with suppress(OSError):  # the next reader then asks the store again
                write_atomic(self.folder / path, data)
        return data

    def send(self, paths: Iterable[str]) -> None:
        """Copy files of the folder into the object store, if there is one.

        Raises:
            ObjectStoreError: the object store does not answer.
        """
        if self.remote is not None:
            self.remote.write({path: self.folder / path for path in paths})


def artifacts_of(store: Store) -> Artifacts:
    """The files of a database's trials."""
    folder, url = artifact_folder(store), store.note(_REMOTE)
    if url is None or os.environ.get(STORE_VARIABLE, "").rstrip("/") != url:
        return Artifacts(folder, None, url)
    return Artifacts(folder, ObjectStore(url))


def claim_artifacts(store: Store, url: str | None = None, *, tries: int = 2) -> Artifacts:
    """The files of a database opened for writing: `claim_folder`, and an object store marked as its own.

    Args:
        url: of a folder in an object store, as a user has named it; None for that of the database, if it has one.
        tries: see `ObjectStore`.

    Raises:
        InputError: the database has another object store, or the object store belongs to another database.
        ObjectStoreError: it does not answer.
    """
    folder = claim_folder(store)
    noted, named = store.note(_REMOTE), url or os.environ.get(STORE_VARIABLE, "").rstrip("/")
    if url is None and noted is None:
        return Artifacts(folder)
    if noted not in (named, None):
        lie = f"the files of {database_label(store.url)} lie in {noted}"
        raise InputError(f"[workers] artifacts = {url!r}: {lie}" if url else f"{lie}; set {STORE_VARIABLE} to that")
    remote = ObjectStore(named, tries)
    identity = str(store.note(_IDENTITY))
    owner = remote.read(MARKER)
    if owner is None:
        remote.write({MARKER: identity.encode()})
    elif owner != identity.encode():
        raise InputError(f"{remote.url} holds the files of another database; give each a folder of its own")
    store.add_note(_REMOTE, remote.url)
    return Artifacts(folder, remote)


@dataclass(frozen=True)
class TrialFiles:
    """The files of a trial by name; ``trial`` is its row id, ``label`` names it in messages."""

    trial: int
    label: str
    device: str | None
    notes: dict[str, Artifact]


def trials_with(store: Store, text: str, *, trusted: bool = False) -> list[TrialFiles]:
    """The trials in whose notes of files a text occurs, oldest first.

    Args:
        text: letters, digits and quotes.
        trusted: leave out those that came from elsewhere.
    """
    columns = (TRIALS.c.id, STUDIES.c.name, TRIALS.c.number, TRIALS.c.device, TRIALS.c.artifacts_json)
    query = select(*columns).join(STUDIES, STUDIES.c.id == TRIALS.c.study_id)
    query = query.where(TRIALS.c.artifacts_json.contains(text, autoescape=True)).order_by(TRIALS.c.id)
    with transaction(store.engine, store.url) as connection:
        rows = connection.execute(query).all()
        if rows and trusted:  # databases of layout 1, which have no such files, have no table of imported rows
            elsewhere = set(connection.scalars(foreign(TRIAL)))
            rows = [row for row in rows if row.id not in elsewhere]
    return [TrialFiles(row.id, f"{row.name}#{row.number}", row.device, notes_in(row.artifacts_json)) for row in rows]


def add_file(store: Store, trial: int, name: str, data: bytes) -> None:
    """Give a finished trial a file more, or another one in place of its own, under the hash of its content.

    Raises:
        InputError: the file cannot be written.
        ObjectStoreError: the object store does not answer.
    """
    files, digest = claim_artifacts(store), hashlib.sha256(data).hexdigest()
    note = Artifact(path=f"{digest[:16]}/{FILES[name]}", sha256=digest, bytes=len(data))
    try:
        write_atomic(files.folder / note.path, data)
    except OSError as error:
        raise InputError(f"{files.folder / note.path}: cannot be written: {error.strerror}") from None
    files.send([note.path])
    with transaction(store.engine, store.url) as connection:
        take_turns(connection)
        notes = notes_in(connection.scalar(select(TRIALS.c.artifacts_json).where(TRIALS.c.id == trial))) | {name: note}
        text = canonical_json({key: value.model_dump() for key, value in notes.items()})
        connection.execute(update(TRIALS).where(TRIALS.c.id == trial).values(artifacts_json=text))


def artifact_folder(store: Store) -> Path:
    """The absolute folder of the trials' files of a database.

    For an SQLite file the folder next to it, if it belongs to this database, so that both can be moved or copied
    together; else the folder recorded at the first write to the database.
    """
    beside, noted, identity = artifact_root(store.url), store.note(_PLACE), store.note(_IDENTITY)
    if noted is None or (database_file(store.url) is not None and identity in _owners(beside)):
        return beside
    return Path(noted)


def claim_folder(store: Store) -> Path:
    """The folder of the trials' files of a database opened for writing, created and marked as its own.

    A new database whose default folder belongs to another database gets a folder with a unique name.

    Raises:
        InputError: the folder cannot be written.
    """
    identity = store.note(_IDENTITY) or store.add_note(_IDENTITY, secrets.token_hex(16))
    folder, file = artifact_folder(store), database_file(store.url)
    fresh = store.note(_PLACE) is None and not store.has_trials()
    if fresh and _others(store, folder):
        folder = folder.with_name(f"{file.name if file else identity}-artifacts")
    if store.note(_PLACE) is None:
        store.add_note(_PLACE, str(folder))
    owners = _owners(folder)
    here = _place(store)
    if here not in owners.get(identity, []):
        owners[identity] = [*owners.get(identity, []), here]
        try:
            write_atomic(folder / MARKER, json.dumps(owners, indent=1).encode())
        except OSError as error:
            raise InputError(f"cannot write into {folder}, where the trials' files go: {error.strerror}") from None
    return folder


def require_sole_owner(store: Store) -> None:
    """Refuse to clean up a folder that may contain files of another database.

    Raises:
        InputError: naming the other databases.
    """
    folder = artifact_folder(store)
    others = _others(store, folder)
    if others:
        raise InputError(
            f"{folder} also holds the files of {', '.join(others)}; nothing is removed: give each database a folder of "
            "its own with `mcusweep study export` and `import`, or delete what is not needed any more"
        )


def _others(store: Store, folder: Path) -> list[str]:
    """Other databases that may have files in a folder and, as far as known, still exist."""
    server, mine, here = database_file(store.url) is None, store.note(_IDENTITY), _place(store)
    found = [
        place
        for identity, places in _owners(folder).items()
        for place in places
        if place != here and not (server and identity == mine) and not _gone(place)
    ]
    if not server and folder == artifact_root(store.url):
        found += [place for place in _unmarked(Path(here), folder) if place not in found]
    return sorted(found)


def _unmarked(file: Path, folder: Path) -> list[str]:
    """Databases next to an SQLite file that share its folder, created by an older version without markers.

    The file itself and the files that belong to it are not opened: closing them would drop this process's locks.
    """
    found = []
    for other in sorted(file.parent.glob(f"{_escaped(file.stem)}.*")):
        companion = other.name.endswith(("-wal", "-shm", "-journal"))
        if companion or other.stem != file.stem or not other.is_file() or other.samefile(file):
            continue
        try:
            with closing(open_sqlite(other, writing=False)) as connection:
                row = connection.execute("select value from mcusweep_meta where key = ?", (_PLACE,)).fetchone()
        except sqlite3.Error:
            continue  # no trial database
        if row is None or Path(str(row[0])) == folder:
            found.append(str(other))
    return found


def _escaped(text: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in text)


def _place(store: Store) -> str:
    file = database_file(store.url)
    return database_label(store.url) if file is None else str(file.resolve())


def _gone(place: str) -> bool:
    return Path(place).is_absolute() and not Path(place).exists()


def _owners(folder: Path) -> Owners:
    """Content of a folder's marker; empty if it cannot be read."""
    try:
        found = json.loads((folder / MARKER).read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def read_artifact(root: Path, path: str, sha256: str, label: str) -> bytes:
    """A file of a trial, checked against the hash in the database.

    Args:
        root: folder of the files that belong to the database.
        path: of the file, relative to it.
        sha256: hexadecimal digest of its content.
        label: name of the trial in messages.

    Raises:
        InputError: if the file lies outside the folder, or is missing or damaged.
    """
    file = _inside(root, path, label)
    if not file.is_file():
        raise InputError(f"{label}: {file} cannot be read: {'it is no file' if file.exists() else 'no such file'}")
    try:
        data = file.read_bytes()
    except OSError as error:
        raise InputError(f"{label}: {file} cannot be read: {error.strerror}") from None
    if hashlib.sha256(data).hexdigest() != sha256:
        raise InputError(f"{label}: {file} is damaged: its SHA-256 is not the one in the database")
    return data


def _inside(root: Path, path: str, label: str) -> Path:
    """The absolute path of a file in a folder.

    Raises:
        InputError: it lies outside.
    """
    try:
        file = (root / path).resolve()
    except (OSError, ValueError, RuntimeError):  # a NUL, or links in a circle
        raise InputError(f"{label}: {path!r} is no path of a file") from None
    if not file.is_relative_to(root.resolve()):
        raise InputError(f"{label}: {path!r} lies outside {root}")
    return file
