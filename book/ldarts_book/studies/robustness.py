"""How robust is the story: the demonstration again, with one setting changed at a time.

Every cell is judged by Digits-201, whose networks have one cell per stage and learn from noisy-digits. For
another depth or other images the accuracy is therefore what the cell is worth *in the table*, and says how
well the search chose; it is no accuracy of a network of that depth or on those images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch
from scipy import stats

from ldarts_book.studies import study, verdict
from ldarts_book.studies.demonstration import NotRecorded
from ldarts_lib.bilevel.protocols import protocol
from ldarts_lib.errors import ProtocolError

BASELINE = "baseline"
CHANGES: tuple[tuple[str, Any], ...] = (
    ("alpha_lr", 3e-3),
    ("alpha_lr", 3e-2),
    ("epochs", 40),
    ("epochs", 160),
    ("depth", 2),
    ("dataset", "clean-digits"),
    ("dataset", "noisier-digits"),
)
"""Fields of the demonstration's protocol, and their other values."""
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    BASELINE: {},
    **{f"{field}={value}": {field: value} for field, value in CHANGES},
}
METHODS: Mapping[str, str] = {"DARTS": "darts", "Λ-DARTS": "lambda"}
SEEDS = range(30, 40)
"""No setting was chosen on these seeds."""
DEMO_SETTINGS = (BASELINE, "alpha_lr=0.003")
DEMO_SEEDS = 2


def run(
    settings: Sequence[str],
    seeds: Sequence[int],
    out: str | Path,
    *,
    size: str = "demo",
    workers: int | None = None,
    device: torch.device | str = "cpu",
) -> pd.DataFrame:
    """Search with every setting, method and seed, side by side; interrupted grids continue.

    Args:
        settings: keys of :data:`SETTINGS`.
        seeds: of the searches; the same for every setting and method.
        out: parent of the run directories.
        size: the preset that the settings change.
        workers, device: as for :func:`~ldarts_lib.bilevel.search.search_all`.

    Returns:
        One row for each of the :data:`~ldarts_book.studies.study.LAST` epochs of a search: ``setting``, and
        the
        columns of :func:`ldarts_book.studies.study.run`, where ``variant`` is a key of :data:`METHODS`.

    Raises:
        ProtocolError: an unknown setting, or no setting or no seed.
    """
    if not settings or not seeds:
        raise ProtocolError(f"give at least one setting and one seed, got {list(settings)} and {list(seeds)}")
    unknown = [setting for setting in settings if setting not in SETTINGS]
    if unknown:
        raise ProtocolError(f"unknown setting {unknown[0]!r}; choose from {', '.join(SETTINGS)}")
    pairs = {f"{setting} {method}": (setting, method) for setting in settings for method in METHODS}
    protocols = {
        name: protocol(size=size, method=METHODS[method], **SETTINGS[setting])
        for name, (setting, method) in pairs.items()
    }
    epochs = study.run(protocols, seeds, out, workers=workers, device=device)
    late = study.last(epochs)
    setting, method = zip(*(pairs[name] for name in late["variant"]), strict=True)
    late["variant"] = method
    late.insert(0, "setting", setting)
    return late


def epochs(
    size: Literal["smoke", "demo", "full"],
    out: str | Path,
    *,
    seeds: int | None = None,
    device: torch.device | str = "cpu",
) -> pd.DataFrame:
    """The rows that the chapter shows, as :func:`run` returns them.

    Args:
        size: ``smoke`` reads the recorded grid; ``demo`` searches with :data:`DEMO_SETTINGS`, ``full`` with
            all settings (or goes on).
        out: parent of the run directories.
        seeds: how many of a new grid; by default :data:`DEMO_SEEDS`, and all :data:`SEEDS` at ``full``.
        device: where to search.

    Raises:
        NotRecorded: ``smoke``, and the grid was not recorded.
    """
    if size == "smoke":
        return recorded()
    settings, count = (tuple(SETTINGS), len(SEEDS)) if size == "full" else (DEMO_SETTINGS, DEMO_SEEDS)
    chosen = range(SEEDS.start, SEEDS.start + (count if seeds is None else seeds))
    return run(settings, chosen, out, device=device)


def recorded() -> pd.DataFrame:
    """The recorded grid, as :func:`run` returned it.

    Raises:
        NotRecorded: its file is missing; the message says how to make it.
    """
    path = Path(str(files("ldarts_data"))) / "recorded" / "robustness" / "epochs.csv.gz"
    if not path.is_file():
        raise NotRecorded(
            f"the grid is not recorded: there is no {path}; `ldarts robustness` makes it "
            "(runs/robustness/epochs.csv.gz), size 'demo' searches with a part of it"
        )
    return pd.read_csv(path, dtype={"ops": str})


def summarize(judged: pd.DataFrame) -> pd.DataFrame:
    """One row per setting and method, with 95 % intervals.

    Columns: those of :func:`ldarts_book.studies.verdict.report`, each setting compared with its own DARTS on
    the same
    seeds; ``convolutions`` (mean over the searches, of the last cell), ``alignment`` (mean Λ of the rows,
    on the batches of α) and ``p_holm`` (``p`` adjusted for the number of settings; NaN for DARTS).

    Args:
        judged: rows of :func:`run` that :func:`ldarts_book.studies.study.judge` has judged.
    """
    reports = {}
    for setting, searches in judged.groupby("setting", sort=False):
        last = verdict.outcomes(searches)
        reports[setting] = verdict.report(last).assign(
            convolutions=last.groupby("variant")["convolutions"].mean(),
            alignment=searches.groupby("variant")["valid_alignment"].mean(),
        )
    summary = pd.concat(reports, names=["setting"])
    compared = summary.index.get_level_values("variant") != "DARTS"
    summary.loc[compared, "p_holm"] = verdict.holm(summary.loc[compared, "p"])
    return summary


def gains(judged: pd.DataFrame) -> pd.DataFrame:
    """What Λ-DARTS has more than DARTS, [settings, seeds], in the unit of the accuracy."""
    last = pd.concat(
        verdict.outcomes(searches).assign(setting=setting)
        for setting, searches in judged.groupby("setting", sort=False)
    )
    accuracy = last.set_index(["setting", "seed", "variant"])["accuracy"].unstack("variant")
    table = (accuracy["Λ-DARTS"] - accuracy["DARTS"]).unstack("seed")
    return table.loc[judged["setting"].unique()]


def overall(gained: pd.DataFrame) -> pd.Series:
    """The gain of a seed, averaged over the settings: one comparison instead of one per setting.

    Searches of one seed have much in common in all settings, such as the order of the images, so the
    interval (bootstrap, BCa) and ``p`` (Wilcoxon's signed-rank test, two-sided) are over the seeds alone.

    Args:
        gained: the table of :func:`gains`.

    Returns:
        ``settings``, ``positive`` (settings with a mean gain above zero), ``seeds``, ``gain``, ``gain_low``,
        ``gain_high``, ``p``, and ``smallest_p``, the least that so many seeds can give.
    """
    by_seed = gained.mean(axis=0)
    low, high = verdict.mean_interval(by_seed)
    return pd.Series(
        {
            "settings": len(gained),
            "positive": int((gained.mean(axis=1) > 0).sum()),
            "seeds": len(by_seed),
            "gain": by_seed.mean(),
            "gain_low": low,
            "gain_high": high,
            "p": stats.wilcoxon(by_seed).pvalue if by_seed.any() else 1.0,
            "smallest_p": smallest_p(len(by_seed)),
        },
        dtype=object,
    )


def describe(together: pd.Series) -> str:
    """What :func:`overall` found, in two sentences."""
    return (
        f"Over {together['settings']} settings and {together['seeds']} seeds, Λ-DARTS gains "
        f"{together['gain']:+.3f} over DARTS ({together['gain_low']:+.3f} to {together['gain_high']:+.3f}), "
        f"p = {together['p']:.3f}; the least that so many seeds can give is {together['smallest_p']:.3f}. "
        f"The mean gain is above zero in {together['positive']} of the {together['settings']} settings."
    )


def smallest_p(seeds: int) -> float:
    """The least two-sided p-value of the signed-rank test: all differences have one sign."""
    return min(1.0, 2 / 2**seeds)


def readable(summary: pd.DataFrame) -> pd.DataFrame:
    """The summary in words, as :func:`ldarts_book.studies.verdict.readable` writes them."""
    words = verdict.readable(summary)
    compared = words["p"] != ""
    adjusted = summary["p_holm"].map("{:.3f}".format).where(compared, "")
    return words[["collapsed", "accuracy", "gain", "p"]].assign(
        **{
            "p (Holm)": adjusted,
            "convolutions": summary["convolutions"].map("{:.1f}".format),
            "Λ": summary["alignment"].map("{:+.2f}".format),
        }
    )
