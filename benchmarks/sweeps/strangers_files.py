"""Damaged and hostile files through the commands that take strangers' files: no traceback, no crash, no stray file.

    python benchmarks/sweeps/strangers_files.py [--models 10000] [--bundles 2000] [--databases 2000] [--log FILE.jsonl]
    python benchmarks/sweeps/strangers_files.py --page FILE.md [--log FILE.jsonl]

Each file is made from a good one by a seed, and goes through the commands in a folder of its own: models through
``measure``, exported studies through ``study import``, databases through ``query``, ``show`` and ``report``. The log
has a line for each seed; what it holds is not run again. A worker process that dies is an outcome, too. Figures of a
report are built for every seed, and drawn for one in five: drawing takes five times as long as all the rest.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
BATCH = 100
DRAWN = 5
"""The figures of one report in so many are drawn."""
WANTED = {"models": 10_000, "bundles": 2000, "databases": 2000}
TAKEN, REFUSED = "taken", "refused in one line"
WRONG = ("traceback", "crash", "many lines", "other status", "stray file")
TABLES = ("studies", "trials", "trajectories", "attempts", "rungs", "meta")
VALUES: tuple[Any, ...] = (
    None, "", "x", "[]", "{}", "null", "[1]", '{"a":[{}]}', "NaN", "[" * 3000, "\x00", "\x1b[31m", "=1+1", "<b>&",
    "../../x", -1, 0, 1, 2**31, 2**63 - 1, -(2**63), 0.5, 1e308, float("inf"), b"\xff\xfe", "9" * 400, "2026-13-99",
)  # fmt: skip


def flipped(data: bytes, chance: random.Random) -> bytes:
    """Some bytes changed, cut off, doubled or filled."""
    found = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        at = chance.randrange(len(found) or 1)
        kind = chance.randrange(6)
        if kind == 0:
            found[at : at + 1] = bytes([chance.randrange(256)])
        elif kind == 1:
            found[at : at + 4] = chance.choice((0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)).to_bytes(4, "little")
        elif kind == 2:
            found[at : at + 1] = bytes([found[at] ^ 1 << chance.randrange(8)] if found else b"")
        elif kind == 3 and chance.random() < 0.2:
            del found[at:]
        elif kind == 4:
            found[at:at] = found[at : at + chance.randrange(64)]
        else:
            found[at : at + 8] = bytes(8)
    return bytes(found)


def json_changed(value: Any, chance: random.Random) -> Any:
    """A JSON value with one place in it changed."""
    if isinstance(value, dict) and value and chance.random() < 0.9:
        key = chance.choice(sorted(value))
        if chance.random() < 0.1:
            return {name: entry for name, entry in value.items() if name != key}
        return value | {key: json_changed(value[key], chance)}
    if isinstance(value, list) and value and chance.random() < 0.9:
        at = chance.randrange(len(value))
        return [*value[:at], json_changed(value[at], chance), *value[at + 1 :]]
    if isinstance(value, str) and value[:1] in "[{" and chance.random() < 0.8:
        with contextlib.suppress(ValueError, RecursionError):
            return json.dumps(json_changed(json.loads(value), chance))
    return chance.choice([other for other in VALUES if not isinstance(other, bytes)])


def originals(folder: Path) -> None:
    """Make the good files: two models, and a small study with the one as its trials' model."""
    sys.path[:0] = [str(HERE.parents[2]), str(HERE.parents[2] / "tests" / "orchestrator" / "fakes")]
    from fake_sweep import make_sweep, run

    from mcusweep import Budget, measure  # noqa: F401  (that the package is whole)
    from orchestrator.storage.store import Store
    from orchestrator.studies.bundle import bundle_of, write_zip
    from search_spaces.sweep import SweepConfig

    sweep = make_sweep(methods=("heir", "fake"), trials=2).model_dump(mode="json")
    sweep |= {"budgets": {"list": [{"flash": 60_000}, {"flash": 30_000}]}, "lineage": {"enabled": True}}
    run(f"sqlite:///{folder}/study.db", SweepConfig.model_validate(sweep))
    store = Store(f"sqlite:///{folder}/study.db", writing=True)
    write_zip(bundle_of(store, store.study()), folder / "study.zip")
    store.close()
    sys.path.insert(0, str(HERE.parents[2] / "tests" / "mcu"))
    from conftest import make_foreign_model, make_model

    from mcu.tflite.writer import write_tflite

    for seed in range(8):
        make = (make_model, make_foreign_model)[seed % 2]
        (folder / f"model{seed}.tflite").write_bytes(write_tflite(make(seed)))


def model(good: Path, place: Path, chance: random.Random) -> list[list[str]]:
    """A damaged model, and what is asked of it."""
    data = (good / f"model{chance.randrange(8)}.tflite").read_bytes()
    (place / "m.tflite").write_bytes(flipped(data, chance))
    return [["measure", "m.tflite"]]


def bundle(good: Path, place: Path, chance: random.Random) -> list[list[str]]:
    """A damaged or rewritten exported study, and what is asked of it."""
    target = place / "s.zip"
    if chance.random() < 0.3:
        target.write_bytes(flipped((good / "study.zip").read_bytes(), chance))
        return [["study", "import", "s.zip"]]
    with zipfile.ZipFile(good / "study.zip") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    if chance.random() < 0.3:
        parts["study.json"] = json.dumps(json_changed(json.loads(parts["study.json"]), chance)).encode()
    elif chance.random() < 0.8:
        lines = parts["trials.jsonl"].splitlines()
        at = chance.randrange(len(lines))
        lines[at] = json.dumps(json_changed(json.loads(lines[at]), chance)).encode()
        parts["trials.jsonl"] = b"\n".join(lines) + b"\n"
    else:
        name = chance.choice(sorted(parts))
        parts[name] = flipped(parts[name], chance)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return [["study", "import", "s.zip"], ["query"], ["report", "--output", "page"]]


def database(good: Path, place: Path, chance: random.Random) -> list[list[str]]:
    """A database with some cells changed, or damaged bytes, and what is asked of it."""
    target = place / "mcusweep.db"
    shutil.copyfile(good / "study.db", target)
    if chance.random() < 0.15:
        target.write_bytes(flipped(target.read_bytes(), chance))
    else:
        with contextlib.closing(sqlite3.connect(target)) as connection, connection:
            for _ in range(chance.choice((1, 1, 2, 3))):
                table = f"mcusweep_{chance.choice(TABLES)}"
                columns = [row[1] for row in connection.execute(f"pragma table_info({table})")]
                column = chance.choice(columns)
                rows = [row[0] for row in connection.execute(f"select rowid from {table}")]
                old = connection.execute(
                    f"select {column} from {table} where rowid = ?", (row := chance.choice(rows),)
                ).fetchone()[0]
                new = chance.choice(VALUES)
                if isinstance(old, str) and old[:1] in ("[", "{") and chance.random() < 0.7:
                    with contextlib.suppress(ValueError, RecursionError):
                        new = json.dumps(json_changed(json.loads(old), chance))
                with contextlib.suppress(sqlite3.IntegrityError):
                    connection.execute(f"update {table} set {column} = ? where rowid = ?", (new, row))
    number = str(chance.randrange(5))
    return [["query"], ["query", "--studies"], ["show", number], ["best"], ["status"], ["report", "--output", "page"]]


KINDS: dict[str, Callable[[Path, Path, random.Random], list[list[str]]]] = {
    "models": model,
    "bundles": bundle,
    "databases": database,
}
ALLOWED = ("m.tflite", "s.zip", "mcusweep.db", "mcusweep-artifacts", "page")


def one(kind: str, good: Path, seed: int) -> dict[str, Any]:
    """What came of one seed: the worst of its commands."""
    from orchestrator.cli import main as cli

    with tempfile.TemporaryDirectory() as outer:
        place = Path(outer) / "inner"
        place.mkdir()
        os.chdir(place)
        outcomes: list[tuple[str, str]] = []
        for words in KINDS[kind](good, place, random.Random(f"{kind} {seed}")):
            said = io.StringIO()
            try:
                with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
                    status = cli.run(words)
            except BaseException:
                outcomes.append(("traceback", " ".join(words) + "\n" + traceback.format_exc()[-1500:]))
                continue
            lines = said.getvalue().splitlines()
            if status == 0:
                outcomes.append((TAKEN, ""))
            elif status != 2 and not (status == 1 and words[0] == "status"):
                outcomes.append(("other status", f"{words}: {status}: {said.getvalue()[:300]}"))
            else:
                outcomes.append((REFUSED if len(lines) == 1 else "many lines", said.getvalue()[:300]))
        stray = [path.name for path in Path(outer).iterdir() if path.name != "inner"]
        stray += [path.name for path in place.iterdir() if not path.name.startswith(ALLOWED)]
        os.chdir("/")
        outcomes += [("stray file", name) for name in stray]
    worst = min(outcomes, key=lambda found: (*WRONG, REFUSED, TAKEN).index(found[0]))
    return {"kind": kind, "seed": seed, "outcome": worst[0], "said": worst[1]}


def work(kind: str, good: Path, seeds: list[int]) -> None:
    """Print what comes of some seeds, one line each."""
    sys.path.insert(0, str(HERE.parents[2]))
    from orchestrator.cli import main as cli
    from reports.study_page import gallery

    cli.command_group = functools.cache(cli.command_group)
    draw, out = gallery.encode, os.fdopen(os.dup(1), "w")
    for seed in seeds:
        vars(gallery)["encode"] = draw if seed % DRAWN == 0 else _not_drawn
        print(json.dumps(one(kind, good, seed)), file=out, flush=True)


def _not_drawn(figure: Any, kinds: Sequence[str]) -> dict[str, bytes]:
    """In place of ``encode``: files without content."""
    return dict.fromkeys(kinds, b"<svg/>")


def outcomes_of(kind: str, good: Path, seeds: list[int]) -> Iterator[dict[str, Any]]:
    """Run seeds in worker processes; the seed at which one dies is a crash."""
    while seeds:
        command = [sys.executable, str(HERE), "--work", kind, str(good), ",".join(map(str, seeds))]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as worker:
            assert worker.stdout is not None
            assert worker.stderr is not None
            for line in worker.stdout:
                yield json.loads(line)
                seeds = seeds[1:]
            said = worker.stderr.read()[-1500:]
        if seeds:
            yield {"kind": kind, "seed": seeds[0], "outcome": "crash", "said": f"status {worker.returncode}: {said}"}
            seeds = seeds[1:]


def page(log: Path) -> str:
    """The page: how many of each kind, and what came of them."""
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    lines = [
        "# Strangers' files",
        "",
        "Good files are damaged by a seed (bytes flipped, cut and doubled; cells and JSON values replaced) and go",
        "through the commands that take files of others. Wanted: taken, or refused in one line with status 2; no",
        "traceback, no process that dies, no file outside the folder. Figures of a report are built for every seed and",
        f"drawn for one in {DRAWN}.",
        "",
        "    python benchmarks/sweeps/strangers_files.py",
        "",
        "| files | commands | wanted | tried | taken | refused in one line | wrong |",
        "|---|---|---|---|---|---|---|",
    ]
    commands = {
        "models": "`measure`",
        "bundles": "`study import`, `query`, `report`",
        "databases": "`query`, `show`, `best`, `status`, `report`",
    }
    for kind, words in commands.items():
        count = Counter(row["outcome"] for row in rows if row["kind"] == kind)
        wrong = sum(count[name] for name in WRONG)
        shown = f"**{wrong}**" if wrong else "0"
        total = f"{count.total():,}" if count.total() >= WANTED[kind] else f"**{count.total():,}**"
        lines.append(
            f"| {kind} | {words} | {WANTED[kind]:,} | {total} | {count[TAKEN]:,} | {count[REFUSED]:,} | {shown} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run what the log lacks, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for kind, count in WANTED.items():
        parser.add_argument(f"--{kind}", type=int, default=count)
    parser.add_argument("--log", type=Path, default=Path("strangers_files.jsonl"))
    parser.add_argument("--page", type=Path)
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.work:
        kind, good, seeds = chosen.work
        work(kind, Path(good), [int(seed) for seed in seeds.split(",")])
        return
    if chosen.page:
        chosen.page.write_text(page(chosen.log))
        return
    lines = chosen.log.read_text().splitlines() if chosen.log.exists() else []
    there = {(row["kind"], row["seed"]) for row in map(json.loads, lines)}
    with tempfile.TemporaryDirectory() as folder, chosen.log.open("a") as log:
        originals(Path(folder))
        for start in range(0, max(chosen.models, chosen.bundles, chosen.databases), BATCH):
            for kind in reversed(KINDS):
                last = min(start + BATCH, getattr(chosen, kind))
                seeds = [seed for seed in range(start, last) if (kind, seed) not in there]
                for outcome in outcomes_of(kind, Path(folder), seeds):
                    print(json.dumps(outcome), file=log, flush=True)
                    if outcome["outcome"] in WRONG:
                        print(outcome["kind"], outcome["seed"], outcome["outcome"], outcome["said"][-300:])


if __name__ == "__main__":
    main()
