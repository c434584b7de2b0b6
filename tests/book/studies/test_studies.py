"""Studies as values, and their records: what they change, who judges them, what is written and read again."""

import gzip
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import ldarts_data
import numpy as np
import pandas as pd
import pytest
import torch

from ldarts_book import studies
from ldarts_book.studies import records
from ldarts_book.studies.design import StudyError, folder
from ldarts_book.studies.judges import Found, draw
from ldarts_lib.bilevel.protocols import protocol
from ldarts_lib.bilevel.remedies.table import REMEDIES
from ldarts_lib.runs.directory import Run
from ldarts_lib.spaces.notations import parse
from ldarts_lib.spaces.space import SPACES
from ldarts_lib.tables.computation import encode
from ldarts_lib.tables.tables import Table, open_table

STUDIES = studies.STUDIES
GROUPS = [name for name, study in STUDIES.items() if study.judge == studies.LOOKED_UP]


def protocols(name):
    """The protocols of a study under the names of its searches, seed 0."""
    chosen = replace(STUDIES[name], seeds=[0]).searches()
    return {folder(keys, own.get("space", "nasbench201")): protocol(**own) for keys, own in chosen}


def differing(one, other):
    one, other = one.model_dump(), other.model_dump()
    return {field for field in one if one[field] != other[field]}


def test_searches_of_one_name_are_the_same_in_all_studies():
    every = {}
    for name in STUDIES:
        for title, one in protocols(name).items():
            assert every.setdefault(title, one) == one
    variants = {keys["variant"] for name in STUDIES for keys, _ in STUDIES[name].searches()}
    assert set(studies.VARIANTS) < variants
    named = {title: p for title, p in every.items() if "=" not in title}
    chosen = [protocol(**own).model_dump_json() for own in studies.VARIANTS.values()]
    assert len(set(chosen)) == len(chosen) and len(named) == len(every)
    assert {p.size for p in every.values()} == {"demo"}
    assert {next(iter(study.variants)) for study in STUDIES.values()} == {"DARTS", "DARTS-PT"}


def test_an_ablation_changes_one_setting_of_its_baseline():
    assert all(
        differing(p, protocol()) <= {"method", "estimator", "epsilon"}
        for p in protocols("demonstration").values()
    )
    for name in ("ablations", "strengths", "lengths"):
        chosen = protocols(name)
        for title, changed in chosen.items():
            base = chosen["darts-seed0" if title.startswith("darts") else "lambda-darts-seed0"]
            found = differing(changed, base)
            assert found <= {"method", "lambda_max"} or len(found) <= 1, (name, found)


def test_every_setting_of_the_grid_changes_one_field():
    settings = STUDIES["robustness"].settings
    assert len(settings) == 8 and len(protocols("robustness")) == 16
    for name, change in settings.items():
        changed = protocol(**change)
        assert {f"{f}={getattr(changed, f)}" for f in differing(changed, protocol())} == {name} - {"baseline"}


def test_studies_are_listed_with_what_they_vary(ldarts):
    rows = studies.listing(["kinds", "robustness"])
    assert rows[:2] == [
        ("kinds", "10 from 10", "DARTS", "space=s2, method=darts"),
        ("kinds", "10 from 10", "normal cells", "space=s2, method=lambda"),
    ]
    settings = dict(row[2:] for row in rows if row[0] == "robustness")
    assert list(settings) == [*studies.SHOWN, *STUDIES["robustness"].settings]
    assert settings["Λ-DARTS"] == "method=lambda" and settings["epochs=40"] == "epochs=40"
    assert {row[0] for row in studies.listing()} == {*STUDIES, *studies.IN_PARTS} - {"digits201"}
    code, text, _ = ldarts("study", "robustness", "--variants")
    assert code == 0 and all(name in text for name in settings)
    assert "unknown study 'kind'; choose from demonstration" in ldarts("study", "kind", "--variants")[2]
    predicted = studies.listing(["predictions"])
    assert predicted[0] == ("predictions", "10 from 200", "darts-seed200", "method=darts")
    assert [row[2] for row in studies.listing(["costs"])][:2] == ["DARTS", "DARTS, 10 epochs"]
    for name in studies.IN_PARTS:
        assert ldarts("study", name, "--variants")[0] == 0
        code, _, err = ldarts("study", name, "demonstration", "--variants", "none")
        assert code == 2 and f"{name}: unknown variant 'none'; choose from " in err


def test_each_method_of_the_table_is_tried_around_its_published_strength():
    by_edge = studies.FAMILIES["Λ-DARTS, by edge"]
    assert [protocol(**own).lambda_max for own in by_edge.values()] == [1.0, 0.1, 0.3]
    for name, family in {n: f for n, f in studies.FAMILIES.items() if f != by_edge}.items():
        usual, weak, strong = (protocol(**own) for own in family.values())
        (field,) = {*next(reversed(family.values()))} - {*family[name]}
        values = [getattr(p, field, None) or (p.remedy or {}).get(field) for p in (weak, usual, strong)]
        assert values == pytest.approx([values[1] / 4, values[1], 4 * values[1]])
        assert usual.method in studies.METHODS and field == getattr(
            REMEDIES.get(usual.method), "strength", "lambda_max"
        )
    assert {own["method"] for family in studies.FAMILIES.values() for own in family.values()} >= {*REMEDIES}


def test_the_difference_by_edge_has_the_strength_that_the_record_chose():
    chosen = protocol(**studies.VARIANTS[f"Λ-DARTS, by edge, ε0 = 0.0001, λ = {studies.EDGE_CHOSEN:g}"])
    assert (chosen.form, chosen.estimator, chosen.lambda_max) == ("edge", "central", studies.EDGE_CHOSEN)
    if not {*studies.FAMILIES["Λ-DARTS, by edge"]} & {*studies.missing("remedy-strengths")["variant"]}:
        exact = studies.VARIANTS[studies.chosen("remedy-strengths")["Λ-DARTS, by edge"]]
        assert protocol(**exact).lambda_max == chosen.lambda_max


def test_kinds_differ_in_what_they_align():
    darts, normal, every = (protocol(**own) for own in STUDIES["kinds"].variants.values())
    assert normal.regularizer.aligned(SPACES["s2"].cells) == ["normal"]
    assert every.regularizer.aligned(SPACES["s2"].cells) == ["normal", "reduce"]
    assert normal.model_copy(update={"regularized_cells": "all"}) == every
    assert differing(darts, normal) == {"method"}


def test_settings_are_chosen_on_other_seeds_than_reported():
    chosen, reported, confirming = map(set, (studies.CHOOSING, studies.REPORTED, studies.CONFIRMING))
    assert set(STUDIES["strengths"].seeds) == chosen and set(STUDIES["chosen"].seeds) == reported
    assert not chosen & (reported | confirming) and not confirming & reported
    assert not set(STUDIES["robustness"].seeds) & (chosen | reported | confirming)
    assert all(len(study.seeds) % 10 == 0 for study in STUDIES.values())  # packs are of ten


def test_nothing_to_compare_is_refused():
    for nothing in ({"variants": {}}, {"seeds": []}, {"settings": {}}):
        with pytest.raises(StudyError, match="kinds: give at least one variant, one setting and one seed"):
            replace(STUDIES["kinds"], **nothing)


def test_cells_are_judged_by_the_table():
    worth = {"111111": 0.4, "444444": 0.25, "333333": 0.8, "300001": 0.1, "000303": 0.5}
    toy = Table("toy", {"ops": [*worth], "accuracy": [*worth.values()]}, "ops", "accuracy", lambda ops: ops)
    judged = studies.LOOKED_UP.judge(pd.DataFrame({"ops": list(worth)}), toy)
    assert judged["accuracy"].tolist() == list(worth.values())
    np.testing.assert_allclose(judged["regret"], [0.4, 0.55, 0, 0.7, 0.3])
    assert judged["skips"].tolist() == [6, 0, 0, 1, 0]
    assert judged["convolutions"].tolist() == [0, 0, 6, 0, 1]  # nothing reaches node 2 of the last
    assert judged["collapsed"].tolist() == [True, True, False, True, False]


def test_random_architectures_are_of_the_space_and_of_their_seed():
    drawn = [draw(SPACES["s2"], seed) for seed in range(20)]
    for genotype in drawn:
        SPACES["s2"].validate(genotype)
    assert len(set(map(str, drawn))) == 20 and draw(SPACES["s2"], 3) == drawn[3]
    share = sum(genotype.count("skip_connect") for genotype in drawn) / (16 * 20)
    assert 0.35 < share < 0.65


def recorded_folder(name):
    return Path(ldarts_data.__file__).parent / "recorded" / name


@pytest.mark.parametrize("name", STUDIES)
def test_a_recorded_study_is_whole_but_for_what_is_named(name):
    study, lacks = STUDIES[name], studies.missing(name)
    if not (recorded_folder(name) / study.judge.file).exists():
        assert not lacks.empty
        return
    rows, keys = studies.judged(name), pd.DataFrame([keys for keys, _ in study.searches()])
    known = rows[~rows["variant"].isin(["random cells", "random search"])][list(keys)]
    made = known.drop_duplicates(ignore_index=True)
    assert keys.merge(made).astype(object).equals(made.astype(object))  # in the order of the study
    assert len([*studies.planned(study).searches()]) == len(made) or not lacks.empty
    assert known.value_counts().groupby(list(set(keys) - {"seed"})).nunique().eq(1).all()
    provenance = json.loads((recorded_folder(name) / "provenance.json").read_text())
    assert sum(path.stat().st_size for path in recorded_folder(name).rglob("*")) < 1e6
    parts = [provenance, *provenance.get("earlier", [])]
    assert {seed for part in parts for seed in part.get("seeds", [])} >= set(made["seed"])
    assert provenance["command"].startswith("ldarts ")
    if name != "robustness":
        assert "command" not in provenance["environment"]  # the paths of a machine


RECORDED = [
    name
    for name in GROUPS
    if name != "robustness" and (recorded_folder(name) / STUDIES[name].judge.file).exists()
]


def test_studies_share_their_recorded_searches():
    """A search that two studies compare was made once: the same rows, digit by digit."""
    order = ["variant", "seed", "epoch"]
    whole, *others = (
        pd.read_csv(recorded_folder(name) / "epochs.csv.gz", dtype=str).sort_values(order, ignore_index=True)
        for name in RECORDED
    )
    for name, rows in zip(RECORDED[1:], others, strict=True):
        shared, same = rows.merge(whole[order]), whole.merge(rows[order])
        assert len(shared) >= 20 or not set(STUDIES[name].seeds) & set(studies.REPORTED)
        pd.testing.assert_frame_equal(shared[list(same)], same)


def test_a_record_is_written_as_it_was(tmp_path, monkeypatch, ldarts):
    """Rows that were read are written again, letter by letter."""
    files = {name: Path(name) / study.judge.file for name, study in STUDIES.items()}
    made = ("kinds", "robustness", "lengths")
    rows = {name: pd.read_csv(recorded_folder(files[name]), dtype={"ops": str}) for name in made}
    monkeypatch.setattr(records, "run", lambda chosen, *_, **__: {one.name: rows[one.name] for one in chosen})
    monkeypatch.setattr(records, "report", lambda results, _: results)  # computed in the tests of statistics
    monkeypatch.setattr(records, "readable", lambda results, _: results.head(1))
    code, printed, error = ldarts("study", "kinds", "robustness", "lengths", "--out", tmp_path)
    assert code == 0, error
    for title in ("kinds, fresh seeds", "lengths, seeds for choosing", "lengths, fresh seeds"):
        assert title in printed
    for name in made:
        old, new = (path / files[name] for path in (recorded_folder(""), tmp_path))
        unpack = gzip.decompress if name != "kinds" else bytes
        assert unpack(old.read_bytes()) == unpack(new.read_bytes())
        provenance = json.loads((tmp_path / name / "provenance.json").read_text())
        assert provenance["command"] == f"ldarts study {name} --size demo"
    assert provenance["seeds"] == sorted(STUDIES["lengths"].seeds)


def test_a_record_made_in_parts_is_the_record_made_at_once(tmp_path, monkeypatch, ldarts):
    whole = pd.read_csv(recorded_folder("robustness") / "epochs.csv.gz", dtype={"ops": str})

    def searched(chosen, *_, **__):
        keys = pd.DataFrame([keys for keys, _ in chosen[0].searches()])
        return {chosen[0].name: keys.merge(whole)}

    monkeypatch.setattr(records, "run", searched)
    monkeypatch.setattr(records, "files", lambda _: tmp_path)
    path = tmp_path / "recorded" / "robustness" / "epochs.csv.gz"

    def make(*part):
        where = "--out", tmp_path / "runs", "--record", tmp_path / "recorded"
        code, printed, error = ldarts("study", "robustness", *where, *part)
        assert code == 0, error
        assert "robustness, fresh seeds" in printed
        return gzip.decompress(path.read_bytes()).decode().split()

    assert studies.missing("robustness")["seeds"].tolist() == ["30 to 39", "30 to 39"]
    first = make("--variants", "Λ-DARTS", "--first-seed", 33, "--seeds", 2)
    lacks = studies.missing("robustness").set_index(["variant", "seeds"])
    assert list(lacks.index) == [("DARTS", "30 to 39"), ("Λ-DARTS", "30 to 32"), ("Λ-DARTS", "35 to 39")]
    asked = "--variants 'Λ-DARTS' --first-seed 30 --seeds 3 --record data/recorded"
    assert lacks["command"].iloc[1] == f"ldarts study robustness {asked}"
    first_hours, *others = lacks["hours"]  # as expected, and as recorded
    assert first_hours == 80 * STUDIES["robustness"].cost / 3600 and all(
        0.1 < hours < 0.3 for hours in others
    )
    told = studies.not_run("precision", "robustness")  # the first is absent here
    assert "in part: DARTS; Λ-DARTS; " in told and "study precision robustness --record" in told
    rest = make("--variants", "Λ-DARTS", "--first-seed", 35), make("--variants", "Λ-DARTS", "--seeds", 3)
    assert set(first) < set(rest[1])
    made = make("--variants", "DARTS")
    assert made == gzip.decompress((recorded_folder("robustness") / path.name).read_bytes()).decode().split()
    assert studies.missing("robustness").empty and studies.not_run("robustness") == ""
    whole.loc[whole["seed"] == 31, "entropy"] = 9
    again = make("--variants", "DARTS", "--first-seed", 31, "--seeds", 1)
    changed = [new.split(",")[1:3] for old, new in zip(made, again, strict=True) if old != new]
    assert changed == [["DARTS", "31"]] * 80
    provenance = json.loads(path.with_name("provenance.json").read_text())
    assert provenance["seeds"] == [31] and provenance["variants"] == ["DARTS"]
    earlier = provenance["earlier"]
    assert [part.get("seeds", [])[:1] for part in earlier] == [[33], [35], [30], [30]]
    assert "environment" not in earlier[0] and earlier[0]["variants"] == ["Λ-DARTS"]
    code, _, error = ldarts("study", "robustness", "--variants", "GDAS")
    assert code == 2 and "robustness: unknown variant 'GDAS'; choose from DARTS, Λ-DARTS" in error


def test_reading_a_record_loads_no_torch():
    code = "import sys; from ldarts_book import studies; studies.summary, studies.judged('precision')"
    subprocess.run([sys.executable, "-c", f"{code}; assert 'torch' not in sys.modules"], check=True)


def test_the_record_of_kinds_counts_its_cells():
    found = studies.judged("kinds")
    for row in found.itertuples():
        genotype = parse(row.genotype)
        SPACES["s2"].validate(genotype)
        assert (row.skips, row.convolutions) == tuple(map(genotype.count, ("skip_connect", "sep_conv_3x3")))
    drawn = found[found["variant"] == "random cells"].set_index("seed")["genotype"]
    assert drawn.to_dict() == {seed: str(draw(SPACES["s2"], seed)) for seed in range(10, 20)}


def test_watched_searches_are_rows_of_the_study():
    whole = studies.judged("demonstration")
    (seed, *_) = studies.recorded_seeds()
    watched = studies.watched("smoke", seed, "unused")
    assert tuple(watched) == studies.SHOWN
    for name, one in watched.items():
        rows = whole[(whole["variant"] == name) & (whole["seed"] == seed)]
        assert rows["ops"].tolist() == [encode(parse(row["genotype"])) for row in one.history]
        assert len(one.trajectory) == len(one.history)
        np.testing.assert_allclose(rows["valid_loss"], [r["valid_loss"] for r in one.history], rtol=1e-3)


def test_what_is_not_recorded_says_how_to_make_it(tmp_path, monkeypatch):
    with pytest.raises(studies.NotRecorded, match="seed = 4: recorded are the seeds"):
        studies.watched("smoke", 4, "unused")
    monkeypatch.setattr(records, "files", lambda _: tmp_path)
    with pytest.raises(studies.NotRecorded, match=r"no .*/chosen; `ldarts study chosen`"):
        studies.judged("chosen")


@pytest.fixture
def short(monkeypatch):
    """Some studies, cut down to few searches of one epoch."""
    quick = {"epochs": 1, "batch_size": 256}
    variants = {name: studies.VARIANTS[name] | quick for name in ("DARTS", "DARTS, α first")}
    one, depth = {"DARTS": variants["DARTS"]}, {"depth=2": {"depth": 2}}
    found = {
        "demonstration": replace(STUDIES["demonstration"], variants=one, seeds=[3]),
        "ablations": replace(STUDIES["ablations"], variants=variants, seeds=[3, 4]),
        "robustness": replace(STUDIES["robustness"], variants=one, settings=depth, seeds=[3]),
    }
    monkeypatch.setattr(records, "STUDIES", found)
    return found


@pytest.mark.slow
def test_studies_are_made_once_recorded_and_read(short, tmp_path, monkeypatch, ldarts):
    out = tmp_path / "recorded"
    code, printed, error = ldarts("study", *short, "--out", out, "--size", "smoke", "--workers", 1)
    assert code == 0, error
    assert "ablations, seeds for choosing" in printed and "DARTS, α first" in printed
    runs = sorted(path.name for path in out.glob("*-seed*"))
    names = ("darts-alpha-first-seed3", "darts-alpha-first-seed4", "darts-seed3", "darts-seed4")
    assert runs == [*names, "depth-2-darts-seed3"]
    config = json.loads((out / runs[-1] / "config.json").read_text())
    assert (config["depth"], config["method"], config["seed"]) == (2, "darts", 3)
    provenance = json.loads((out / "robustness" / "provenance.json").read_text())
    assert provenance["command"] == "ldarts study robustness --size smoke"
    assert provenance["settings"] == ["depth=2"] and provenance["seeds"] == [3]
    searched = (out / runs[0] / "history.csv").stat().st_mtime_ns
    found = studies.run(list(short.values()), out, size="smoke", workers=1)
    assert (out / runs[0] / "history.csv").stat().st_mtime_ns == searched  # nothing is searched again
    monkeypatch.setattr(records, "files", lambda _: tmp_path)
    for name, study in short.items():
        keys = [tuple(keys.values()) for keys, _ in study.searches()]
        assert list(map(tuple, found[name].iloc[:, : len(keys[0])].to_numpy())) == keys
        assert found[name]["ops"].str.fullmatch("[0-4]{6}").all()
        worth = studies.LOOKED_UP.judge(found[name])
        pd.testing.assert_frame_equal(studies.judged(name), worth, rtol=1e-3, check_dtype=False)
    pd.testing.assert_frame_equal(found["demonstration"], found["ablations"].head(1))


def test_names_that_nobody_knows_or_two_mean_are_refused(tmp_path, ldarts):
    code, _, error = ldarts("study", "robustnes")
    assert code == 2 and "unknown study 'robustnes'; choose from demonstration" in error
    other = replace(STUDIES["demonstration"], variants={"DARTS": {"method": "lambda"}})
    with pytest.raises(StudyError, match="two studies have different searches of the name darts-seed10"):
        studies.run([other, STUDIES["ablations"]], tmp_path)


@pytest.mark.slow
def test_what_is_found_is_trained_and_kept(tmp_path):
    kinds = replace(STUDIES["kinds"], seeds=[3])
    found = studies.run([kinds], tmp_path, size="smoke", workers=2)["kinds"]
    assert found["variant"].tolist() == [*kinds.variants, "random cells"]
    assert found["accuracy"].between(0.3, 1).all()
    trained = json.loads((tmp_path / "s2-darts-seed3" / "standalone.json").read_text())["accuracies"]
    assert len(trained) == 2
    assert studies.run([kinds], tmp_path, size="smoke", workers=1)["kinds"].equals(found)


@pytest.mark.slow
def test_two_searches_are_made_anew(tmp_path):
    found = studies.watched("demo", 3, tmp_path)
    assert tuple(found) == studies.SHOWN
    assert all(len(one.history) == 80 for one in found.values())


def test_a_search_is_clipped_like_that_of_another_variant_with_its_seed(tmp_path, monkeypatch):
    made = {}

    def search_all(protocols, out, **_):
        made.update(protocols)
        for seed, name in enumerate(protocols, start=1):
            (out / name).mkdir(exist_ok=True)
            rows = [{"epoch": epoch, "clip_factor": 1 / seed} for epoch in range(2)]
            Run(out / name).write_history(rows)
        return {name: SimpleNamespace(path=name, history=[], trajectory=None) for name in protocols}

    monkeypatch.setattr("ldarts_lib.bilevel.search.search_all", search_all)
    name = "DARTS, clipped like Λ-DARTS"
    records._search([STUDIES["clipping"].part([name], 1, 2)], tmp_path, "smoke")
    assert [made[folder({"variant": name, "seed": seed})].clip_factors for seed in (1, 2)] == [
        (1, 1),
        (0.5, 0.5),
    ]
    assert {p.method for title, p in made.items() if title.startswith("lambda-darts-seed")} == {"lambda"}


def test_cells_and_those_of_random_search_are_trained_with_every_recipe(monkeypatch):
    def trained(cells, settings, images, recipe, *, seeds):
        return torch.full((len(cells), len(seeds)), recipe.learning_rate * recipe.epochs)

    monkeypatch.setattr("ldarts_lib.evaluation.standalone.standalone_accuracies", trained)
    judge = STUDIES["recipes"].judge
    assert len(judge.rates) * len(judge.epochs) == 9
    few = replace(judge, rates=(0.5,), epochs=(1, 2))
    history = [{"genotype": str(parse("111111")), "seconds": 2.0}]
    found = Found({"variant": "DARTS", "seed": 3}, Path(), history, None, protocol(channels=2))
    rows = few.rows([found])
    assert rows["recipe"].tolist() == ["0.5, 1 epochs"] * 2 + ["0.5, 2 epochs"] * 2
    assert rows["variant"].tolist() == ["DARTS", "random search"] * 2 and (rows["seconds"] > 0).all()
    assert rows["accuracy"].tolist() == [0.5, 0.5, 1, 1]
    drawn = rows["ops"][1]
    table = open_table("digits-201")
    assert table.query(parse(drawn))["accuracy"] > table.frame["accuracy"].median()
    judged = few.judge(rows)
    assert judged["collapsed"].tolist() == [True, False] * 2 and judged["setting"].equals(rows["recipe"])
