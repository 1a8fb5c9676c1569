"""Trust in an imported study: its sweep's functions may run, and trials may start from its networks."""

from __future__ import annotations

from mcu.errors import InputError
from mcu.files import write_atomic
from orchestrator.running.run import stored_sweep
from orchestrator.spec import FILES, IMPORTED, Artifact
from orchestrator.storage.artifacts import claim_artifacts
from orchestrator.storage.connection import transaction
from orchestrator.storage.store import Store, Study
from orchestrator.storage.trust import is_foreign, trust_study
from search_spaces.factories import is_reference, require_beside
from search_spaces.sweep import SweepConfig

References = tuple[tuple[str, str | None], ...]


def functions_of(sweep: SweepConfig) -> References:
    """The user functions that a sweep runs, each with its lookup folder."""
    training = sweep.training
    named = [(sweep.task.name, sweep.task.base)]
    named += [(choice.name, choice.base) for choice in sweep.network.choices()]
    named += [(name, training.base) for name in (training.loop, training.loss, training.score) if name]
    return tuple(dict.fromkeys((name, base) for name, base in named if is_reference(name)))


def require_trust(store: Store, study: Study) -> None:
    """Refuse to run functions named by an untrusted study.

    Raises:
        InputError: naming them.
    """
    with transaction(store.engine, store.url) as connection:
        foreign = is_foreign(connection, study.id)
    sweep = stored_sweep(study)
    functions = functions_of(sweep) if foreign else ()
    if foreign and sweep.workers.artifacts is not None:
        raise InputError(
            f"study {study.name!r} was imported, and its trials' files would go to {sweep.workers.artifacts}; give "
            "--trust if that is yours"
        )
    if functions:
        shown = ", ".join(f"{name} of {base or 'an installed package'}" for name, base in functions)
        raise InputError(
            f"study {study.name!r} was imported, and its sweep runs functions of its own: {shown}; read them, and if "
            "you trust them give --trust"
        )


def trust(store: Store, study: Study, *, take_over: bool = False) -> None:
    """Trust a study, its functions and its networks, which are moved to the folder where trials look for them.

    Raises:
        InputError: a function is not next to the sweep file; another driver runs the study.
    """
    for name, base in functions_of(stored_sweep(study)):
        require_beside(name, base)
    files = claim_artifacts(store)

    def move(spec_hash: str, notes: dict[str, Artifact]) -> dict[str, Artifact]:
        moved = dict(notes)
        for name, note in notes.items():
            path = f"{spec_hash}/{FILES.get(name)}"
            if note.path.startswith(f"{IMPORTED}/") and not (files.folder / path).exists():
                write_atomic(files.folder / path, files.read(note.path, note.sha256, study.name))
                files.send([path])
                moved[name] = note.model_copy(update={"path": path})
        return moved

    with store.lock(study.name, take_over=take_over), transaction(store.engine, store.url) as connection:
        trust_study(connection, study.id, move)
