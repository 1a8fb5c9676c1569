"""Trusting a study that came from elsewhere: its sweep's functions may run, its networks be begun with."""

from __future__ import annotations

import sqlalchemy as sa

from mcu.errors import InputError
from mcu.files import write_atomic
from orchestrator.running.run import stored_sweep
from orchestrator.spec import FILES, IMPORTED, canonical_json
from orchestrator.storage.artifacts import claim_folder, read_artifact
from orchestrator.storage.connection import transaction
from orchestrator.storage.records import notes_in
from orchestrator.storage.schema import IMPORTED as IMPORTED_ROWS
from orchestrator.storage.schema import TRIALS
from orchestrator.storage.store import Store, Study
from orchestrator.storage.trust import STUDY, trust_study
from search_spaces.factories import is_reference, require_beside
from search_spaces.sweep import SweepConfig

References = tuple[tuple[str, str | None], ...]


def functions_of(sweep: SweepConfig) -> References:
    """The functions of users that a sweep runs, each with the folder in which it is looked up."""
    training = sweep.training
    named = [(sweep.task.name, sweep.task.base)]
    named += [(choice.name, choice.base) for choice in sweep.network.choices()]
    named += [(name, training.base) for name in (training.loop, training.loss, training.score) if name]
    return tuple(dict.fromkeys((name, base) for name, base in named if is_reference(name)))


def require_trust(store: Store, study: Study) -> None:
    """Refuse to run functions that a study from elsewhere names.

    Raises:
        InputError: naming them.
    """
    mine = (IMPORTED_ROWS.c.kind == STUDY) & (IMPORTED_ROWS.c.row_id == study.id)
    with transaction(store.engine, store.url) as connection:
        foreign = connection.execute(sa.select(IMPORTED_ROWS).where(mine)).first() is not None
    functions = functions_of(stored_sweep(study)) if foreign else ()
    if functions:
        shown = ", ".join(f"{name} of {base or 'an installed package'}" for name, base in functions)
        raise InputError(
            f"study {study.name!r} was imported, and its sweep runs functions of its own: {shown}; read them, and if "
            "you trust them give --trust"
        )


def trust(store: Store, study: Study) -> None:
    """Trust a study, its functions and its networks, which are put where trials look for them.

    Raises:
        InputError: a function does not lie beside the sweep; another driver runs the study.
    """
    for name, base in functions_of(stored_sweep(study)):
        require_beside(name, base)
    folder = claim_folder(store)
    with store.lock(study.name), transaction(store.engine, store.url) as connection:
        query = sa.select(TRIALS.c.id, TRIALS.c.spec_hash, TRIALS.c.artifacts_json)
        for row in connection.execute(query.where(TRIALS.c.study_id == study.id)).all():
            notes = notes_in(row.artifacts_json)
            for name, note in notes.items():
                path = f"{row.spec_hash}/{FILES.get(name)}"
                if note.path.startswith(f"{IMPORTED}/") and not (folder / path).exists():
                    write_atomic(folder / path, read_artifact(folder, note.path, note.sha256, study.name))
                    notes[name] = note.model_copy(update={"path": path})
            text = canonical_json({name: note.model_dump() for name, note in notes.items()})
            connection.execute(sa.update(TRIALS).where(TRIALS.c.id == row.id).values(artifacts_json=text))
        trust_study(connection, study.id)
