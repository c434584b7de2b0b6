"""Every method on the same ground truth, beside chance and beside random search of equal cost."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.resources import files
from typing import Any

import pandas as pd

from ldarts_book import studies
from ldarts_lib.tables.tables import Table, open_table

CHANCE = {"random cells": (1, "01234"), "random cells of convolutions": (1, "23")}
"""Cells that nobody searched for: how many are drawn with each seed, and from which digits."""


def recorded_costs() -> pd.DataFrame:
    """What a search of each method costs, in seconds and trainings of a cell; of none, if not measured."""
    path = files("ldarts_data") / "recorded" / "costs" / "costs.csv"
    if path.is_file():
        return pd.read_csv(str(path), index_col="variant")
    return pd.DataFrame(columns=["seconds", "packed", "training", "ratio"], dtype=float)


def searches_per_hour(costs: pd.DataFrame) -> pd.DataFrame:
    """Searches of each method in an hour of one thread, ``alone`` and ``in packs`` of ten."""
    return 3600 / costs[["seconds", "packed"]].set_axis(["alone", "in packs"], axis="columns")


def ends(*names: str) -> pd.DataFrame:
    """How the recorded searches of some studies ended; none of a study that is not run here."""
    rows = [studies.outcomes(studies.judged(name)) for name in names if studies.is_recorded(name)]
    known = pd.concat(rows) if rows else pd.DataFrame()
    needed = ("variant", "seed", "epoch", "setting", "accuracy", "train_loss")
    return known.reindex(columns=[*known, *(column for column in needed if column not in known)])


def pooled() -> pd.DataFrame:
    """DARTS and Λ-DARTS as preset, over all seeds on which nothing was chosen."""
    known = ends("demonstration", "robustness", "lengths", "remedies")
    preset = known["setting"].isna() | (known["setting"] == "baseline")
    fresh = known["variant"].isin(studies.SHOWN) & ~known["seed"].isin(studies.CHOOSING)
    both = known[preset & fresh].drop(columns="setting")
    return studies.report(both[both.groupby("seed")["variant"].transform("nunique") == 2])


def rules() -> list[float]:
    """What each rule that stops a search of DARTS gains over its end, in the mean of the record."""
    found = studies.with_stopping(studies.judged("stopping"))
    accuracy = found.pivot(index="seed", columns="variant", values="accuracy")
    return [(accuracy[f"DARTS, {rule}"] - accuracy["DARTS"]).mean() for rule in studies.STOPPING]


def results(costs: pd.Series) -> pd.DataFrame:
    """How searches end, by variant and seed, with their ``cost`` in trainings of a random cell, and chance.

    Methods have the strength that was chosen. Beside them stand the rules that stop DARTS early, the cells of
    :data:`CHANCE`, and for each cost ``random search, N cells``, N being the cost to the nearest (``rival``).
    """
    benchmark = open_table("digits-201")
    plan, stopping = studies.planned(studies.STUDIES["remedies"]), studies.is_recorded("stopping")
    found = ends("remedies", "perturbation").drop(columns="setting")
    found = found[found["variant"].isin([*plan.variants, "DARTS-PT"])]
    stopped = [studies.with_stopping(studies.judged("stopping"))] if stopping else []
    found = pd.concat([found, *stopped]).drop_duplicates(["variant", "seed"], ignore_index=True)
    found = found.assign(cost=float("nan"), rival=None)
    chance, rules = dict(CHANCE), {f"DARTS, {rule}": "DARTS" for rule in studies.STOPPING}
    whole = studies.FAMILY_OF | rules
    for name, rows in found.groupby("variant"):
        if (base := whole.get(name, name)) in costs:
            cost = costs[base]
            if name in rules:  # that read whole searches
                cost *= (rows["epoch"].mean() + 1) / (found.loc[found["variant"] == base, "epoch"].max() + 1)
            rival = f"random search, {max(round(cost), 1)} cells"
            found.loc[rows.index, ["cost", "rival"]] = cost, rival
            chance[rival] = max(round(cost), 1), "01234"
    cells = [_best(benchmark, name, seed, *how) for name, how in chance.items() for seed in plan.seeds]
    judged = studies.LOOKED_UP.judge(pd.DataFrame(cells))
    regret = judged["regret"] + judged["accuracy"] - judged["worth"]
    return pd.concat([found, judged.assign(accuracy=judged["worth"], regret=regret)]).infer_objects()


def _best(benchmark: Table, variant: str, seed: int, count: int, digits: str) -> dict[str, Any]:
    """The best of some drawn cells, chosen by one training; the others say what it is worth."""
    trainings = benchmark.frame.filter(like="accuracy_")
    chooses, cells = trainings.columns[seed % trainings.shape[1]], studies.drawn_cells(seed, count, digits)
    best = max(cells, key=lambda ops: trainings.at[benchmark.key(ops), chooses])
    worth = trainings.drop(columns=chooses).loc[benchmark.key(best)].mean()
    return {"variant": variant, "seed": seed, "cost": count, "ops": best, "worth": worth}


def compare(found: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The report on :func:`results`, and every method against DARTS and against random search of its cost.

    ``p_holm`` of the second is adjusted for the number of all tests. Compared are the seeds of DARTS.
    """
    known = found["variant"].unique()
    baseline = "DARTS" if "DARTS" in known else next(iter(CHANCE))
    found = found[found["seed"].isin(found.loc[found["variant"] == baseline, "seed"])]
    rivals = found.dropna(subset="rival").drop_duplicates("variant").set_index("variant")["rival"]
    pairs = [(name, baseline) for name in known if name not in {baseline, *CHANCE, *rivals}]
    tests = studies.contrasts(found, [*pairs, *rivals.items()]) if len(rivals) or pairs else pd.DataFrame()
    means = found.groupby("variant")[["train_loss", "cost"]].mean()
    return studies.report(found, baseline).join(means), tests


def undominated(report: pd.DataFrame) -> list[str]:
    """Of the rows with a cost those that are better than all cheaper ones, from the cheapest on."""
    by_cost = report.dropna(subset="cost").sort_values(["cost", "mean"], ascending=[True, False])
    return list(by_cost.index[by_cost["mean"] > by_cost["mean"].cummax().shift(fill_value=0)])


def findings(report: pd.DataFrame, tests: pd.DataFrame) -> tuple[str, str]:
    """What the figure of the means and that of the costs show, in sentences that the numbers decide."""
    methods = report.dropna(subset="train_loss")
    if methods.empty:
        return ("No search of this table is recorded: not run here.",) * 2
    best = methods.loc[name := methods["mean"].idxmax()]
    # A rank test may call two methods different of which the one is better more often, and the other by more.
    beside_zero = tests["gain_low"] * tests["gain_high"] > 0
    sure = tests[(tests["p_holm"] < 0.05) & beside_zero].reset_index()

    def listed(names: Iterable[str]) -> str:
        return "; ".join(names) or "none"

    def better(sign: int, of_darts: bool) -> str:
        return listed(sure[(sign * sure["gain"] > 0) & ((sure["against"] == "DARTS") == of_darts)]["variant"])

    safe, priced = listed(methods.index[methods["collapsed"] == 0]), methods["cost"].notna().sum()
    if not priced:  # then no rival was tested either
        rivals = of_costs = "No cost is measured yet, nor random search of equal cost: not run here."
    else:
        rivals = f"Better than random search of equal cost: {better(1, False)}; worse: {better(-1, False)}."
        of_costs = (
            f"Of {priced} rows with a measured cost none is both cheaper and better than one of these: "
            f"{listed(undominated(methods))}."
        )
    return (
        f"{name} has the highest mean, {best['mean']:.3f} ({best['low']:.3f} to {best['high']:.3f}). After "
        "Holm's correction for all tests, and with an interval beside zero, "
        f"better than DARTS: {better(1, True)}; worse: {better(-1, True)}. "
        f"{rivals} Never collapsed: {safe}.",
        of_costs,
    )
