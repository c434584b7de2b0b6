"""Studies are made, recorded and read: ``ldarts study`` writes records, the chapters read them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd

from ldarts_book.studies.design import Study, StudyError, folder
from ldarts_book.studies.judges import Found
from ldarts_book.studies.statistics import last, outcomes, readable, report
from ldarts_book.studies.study import (
    CHOOSING,
    FAMILIES,
    FAMILY_OF,
    IN_PARTS,
    SHOWN,
    STUDIES,
    VARIANTS,
    variants_of,
)
from ldarts_book.studies.writing import DIGITS, add, named_by, require_whole_record, write_provenance
from ldarts_lib.bilevel.trajectory import Trajectory
from ldarts_lib.files import locked, make_folder
from ldarts_lib.runs.directory import Run

# Searching loads torch, which no reader of a record needs: those imports stand in the functions.

TOGETHER = 10
"""Seeds of one variant that are searched as one packed supernet; studies have whole tens of them, so that a
search has the same neighbours, and with them the same roundings, whichever studies are made."""


class NotRecorded(StudyError):
    """A study or a search that is not among the recorded ones; the message says how to make it."""


def run(studies: Sequence[Study], out: str | Path, *, size: str = "demo", **where: Any) -> dict[str, Any]:
    """Makes studies side by side, or continues them; the rows of each, as its judge records them.

    Args:
        studies: whose searches of one name are the same.
        where: ``workers`` (processes at a time; by default one per core) and ``device``.
    """
    every = zip(studies, _search(studies, out, size, **where), strict=True)
    return {study.name: study.judge.rows(found, **where) for study, found in every}


def _search(studies: Sequence[Study], out: str | Path, size: str, **where: Any) -> list[list[Found]]:
    """The searches of each study, by setting, variant and seed; those that several share are made once."""
    from ldarts_lib.bilevel.protocols import protocol
    from ldarts_lib.bilevel.search import search_all

    for study in studies:  # those whose clip factors others take
        if of := {other for name, other in study.clipped_like.items() if name in study.variants}:
            _search([replace(study, variants={name: VARIANTS[name] for name in of})], out, size, **where)

    def clipped(study: Study, keys: Mapping[str, Any]) -> dict[str, Any]:
        other = study.clipped_like.get(keys["variant"])
        return {"clip_factors": Path(out) / folder({**keys, "variant": other})} if other else {}

    plans = [
        [(keys, protocol(size=size, **own, **clipped(study, keys))) for keys, own in study.searches()]
        for study in studies
    ]
    protocols: dict[str, Any] = {}
    for keys, one in (named for plan in plans for named in plan):
        if protocols.setdefault(name := folder(keys, one.space), one) != one:
            raise StudyError(f"two studies have different searches of the name {name}")
    ascending = dict(sorted(protocols.items(), key=lambda item: item[1].seed))  # and so are packs
    results = search_all(ascending, out, together=TOGETHER, **where)

    def found(keys: Mapping[str, Any], one: Any) -> Found:
        result = results[folder(keys, one.space)]
        return Found(keys, result.path, result.history, result.trajectory, one)

    return [[found(*named) for named in plan] for plan in plans]


def judged(name: str, size: str = "smoke", out: str | Path = "", device: Any = "cpu") -> pd.DataFrame:
    """The rows of a study and what they are worth: recorded ones, or with ``full`` searched.

    Of most studies the last epochs are recorded.
    """
    if size != "full" and not is_recorded(name):
        raise NotRecorded(f"there is no {_folder(name)}; `ldarts study {name}` makes such a file")
    study = STUDIES[name]
    made = run([study], out, device=device)[name] if size == "full" else _recorded(name)
    return study.judge.judge(made)


def is_recorded(name: str) -> bool:
    """Whether a study has a record, whole or in part."""
    return (_folder(name) / STUDIES[name].judge.file).is_file()


def missing(name: str) -> pd.DataFrame:
    """The searches of a study that its record lacks: a row per variant and run of seeds, none if it is whole.

    Columns: ``variant``, ``seeds``, ``command`` (that makes them and adds them to the record) and ``hours``
    of one core, from the recorded searches of this variant, or as the study expects them.
    """
    study, rows = planned(STUDIES[name]), _recorded(name)
    known = set(rows[named_by(rows)].itertuples(index=False, name=None))
    lacks = [keys for keys, _ in study.searches() if tuple(keys.values()) not in known]
    left = pd.DataFrame(lacks, columns=["variant", "seed"]).value_counts(sort=False).reset_index()
    runs = (left["seed"] - left.groupby("variant").cumcount()).rename("run")  # of neighbours it is the same
    found, seconds = [], _seconds(rows).groupby("variant").mean()
    for (variant, _), some in left.groupby(["variant", runs], sort=False):
        first, last = some["seed"].min(), some["seed"].max()
        part = f"--variants {shlex.quote(variant)} --first-seed {first} --seeds {len(some)}"
        command = f"ldarts study {name} {part} --record data/recorded"
        hours = some["count"].sum() * seconds.get(variant, study.cost) / 3600
        found.append((variant, f"{first} to {last}", command, hours))
    return pd.DataFrame(found, columns=["variant", "seeds", "command", "hours"])


def not_run(*names: str) -> str:
    """In one sentence what the records of these studies lack, the cost and the command; nothing if whole."""
    lacks = pd.concat(map(missing, names))
    methods = "; ".join(dict.fromkeys(FAMILY_OF.get(name, name) for name in lacks["variant"]))
    cost, command = lacks["hours"].sum(), f"ldarts study {' '.join(names)} --record data/recorded"
    return (
        f"Not run here, in whole or in part: {methods}. `{command}`: {cost:.1f} core hours." if cost else ""
    )


def chosen(name: str) -> dict[str, str]:
    """Of each method the strength with the highest mean in this record; the default while one is missing."""
    lacks, rows, judge = {*missing(name)["variant"]}, _recorded(name), STUDIES[name].judge
    worth = outcomes(judge.judge(rows)).groupby("variant")["accuracy"].mean() if len(rows) else {}
    return {
        family: next(iter(variants)) if lacks & {*variants} else max(variants, key=worth.get)
        for family, variants in FAMILIES.items()
    }


def planned(study: Study) -> Study:
    """The study without the strengths that another one did not choose."""
    best = chosen(study.chosen_by) if study.chosen_by else {}
    others = {name for family, one in best.items() for name in FAMILIES[family] if name != one}
    return study.part([name for name in study.variants if name not in others])


def _recorded(name: str) -> pd.DataFrame:
    """The rows of a record; none if there is no such file."""
    if is_recorded(name):
        return pd.read_csv(_folder(name) / STUDIES[name].judge.file, dtype={"ops": str})
    return pd.DataFrame(columns=[*next(STUDIES[name].searches())[0], "seconds"])


def _seconds(rows: pd.DataFrame) -> pd.Series:
    searches = rows.groupby(named_by(rows))  # of most searches the last epochs are recorded
    return searches["seconds"].mean() * (searches["epoch"].max() + 1 if "epoch" in rows else 1)


def watched(size: str, seed: int, out: str | Path, device: Any = "cpu") -> dict[str, Found]:
    """A search of DARTS and one of Λ-DARTS: recorded ones at ``smoke``, or searched now (or continued)."""
    study = STUDIES["demonstration"]
    if size != "smoke":
        (found,) = _search([study.part(SHOWN, seed, 1)], out, "demo", device=device)
        return {one.keys["variant"]: one for one in found}
    if seed not in (known := recorded_seeds()):
        raise NotRecorded(f"seed = {seed}: recorded are the seeds {known}; size 'demo' searches with any")
    every = [{"variant": name, "seed": seed} for name in SHOWN]
    paths = [_folder(study.name) / folder(keys) for keys in every]
    return {
        keys["variant"]: Found(keys, path, Run(path).read_history(), Trajectory.load(path))
        for keys, path in zip(every, paths, strict=True)
    }


def recorded_seeds() -> list[int]:
    """The seeds whose searches are recorded epoch by epoch."""
    folders = _folder("demonstration").glob("*-seed*")
    return sorted({int(path.name.rpartition("seed")[2]) for path in folders})


def overview() -> list[tuple[str, str, str, str]]:
    """Of each study the name, what it asks, how many searches, and the core hours that these took us."""
    found = []
    for study in STUDIES.values():
        took, lacks = _seconds(_recorded(study.name)).sum() / 3600, missing(study.name)["hours"].sum()
        hours = f"{took:.1f}" + (f", {lacks:.1f} more not run here" if lacks else "")
        found.append((study.name, study.asks, str(len(list(planned(study).searches()))), hours))
    found.append(("secants", "is the finite difference the exact gradient and noise, in the mean?", "", "5"))
    found.append(("predictions", "what do the cells want of each edge, and does the theory hold?", "", "4"))
    found.append(("costs", "what does a search of each method cost, in trainings of a cell?", "", "1"))
    return [*found, ("digits201", "how good is every cell? The table Digits-201", "0", "6, trainings")]


def make_records(
    names: Sequence[str],
    out: str | Path = "runs/study",
    *,
    variants: Sequence[str] = (),
    first_seed: int | None = None,
    seeds: int | None = None,
    record: str | Path | None = None,
    size: str = "demo",
    workers: int | None = None,
    device: Any = "cpu",
) -> None:
    """What ``ldarts study`` does: make (parts of) studies, add them to records, print how variants compare.

    Args:
        names: of studies; ``all`` are those of the table :data:`~ldarts_book.studies.study.STUDIES`.
        record: parent of the records, RECORD/NAME, by default ``out``.
    """
    from ldarts_book.studies import digits201, predictions, secants
    from ldarts_lib.datasets import downloads
    from ldarts_lib.runs.environment import device_report, resolve_device

    where = resolve_device(device)
    print(device_report(where))
    if unknown := sorted({*names} - {*STUDIES, *IN_PARTS, "all"}):
        known = ", ".join((*STUDIES, *IN_PARTS))
        raise StudyError(f"unknown study {unknown[0]!r}; choose from {known}, all")
    own = [name for name in IN_PARTS if name in names]
    for name in own:
        if unknown := sorted({*variants} - {*variants_of(name)}):
            known = "; ".join(variants_of(name)) or "none"
            raise StudyError(f"{name}: unknown variant {unknown[0]!r}; choose from {known}")
    several = STUDIES if "all" in names else [name for name in names if name in STUDIES]
    plans = [STUDIES[name] if variants else planned(STUDIES[name]) for name in several]
    parts = [plan.part(variants, first_seed, seeds) for plan in plans]
    every = {own.get("dataset") for study in parts for _, own in study.searches()}
    for dataset in every & {*downloads.DOWNLOADED}:  # before anything is searched
        downloads.download_of(dataset).verify(downloads.data_root())
    for name in (*several, *own):
        require_whole_record(Path(record or out) / name, name)
    for name in own:
        place = Path(record or out) / name
        if name == "digits201":
            digits201.make(Path(out) / name, seeds=seeds or 3, workers=workers, device=where)
        elif name == "costs":
            make_folder(Path(out) / name)
            with locked(Path(out) / name):  # two at once would slow each other, and lose rows
                print(digits201.measure_costs(place, variants, size).to_string(index=False))
        else:
            make = secants.make_secants if name == "secants" else predictions.make_predictions
            make(place, variants, where)
    made = run(parts, out, size=size, workers=workers, device=where) if parts else {}
    options = {
        "size": size,
        "first-seed": first_seed,
        "seeds": seeds,
        "variants": shlex.join(variants) or None,
    }
    given = "".join(f" --{name} {value}" for name, value in options.items() if value is not None)
    for study in parts:
        rows, place = made[study.name], Path(record or out) / study.name
        rows = last(rows, study.kept) if study.kept else rows
        short = rows.select_dtypes("float").map(lambda value: float(f"{value:.{DIGITS - 1}e}"))
        facts = {
            "variants": sorted(rows["variant"].unique()),
            "seeds": sorted({keys["seed"] for keys, _ in study.searches()}),
            "settings": list(filter(None, study.settings)),
            "kept_epochs": study.kept,
            **asdict(study.judge),
            **study.pictures(Path(out)),
        }
        with locked(Path(out), wait=True):  # parts may be made side by side
            add(rows.assign(**short), study.name, place / study.judge.file)
            write_provenance(place, f"ldarts study {study.name}{given}", where, **facts)
        found = study.judge.judge(made[study.name])
        for choosing, part in found.groupby(found["seed"].isin(CHOOSING)):
            print(f"\n{study.name}, {'seeds for choosing' if choosing else 'fresh seeds'}")
            print(readable(report(outcomes(part), first := next(iter(study.variants))), first).to_string())


def _folder(name: str) -> Path:
    return Path(str(files("ldarts_data"))) / "recorded" / name
