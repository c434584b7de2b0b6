"""What a study is: variants that are searched with some seeds, and a judge."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ldarts_book.studies.judges import LOOKED_UP, Judge
from ldarts_lib.errors import LdartsError
from ldarts_lib.files import read_json

Settings = Mapping[str, Any]


class StudyError(LdartsError, ValueError):
    """A study that is unknown or not recorded, or that has nothing to compare."""


@dataclass(frozen=True)
class Study:
    """Searches that are compared seed by seed.

    Attributes:
        name: of the study, and of the folder of its record.
        variants: what each changes of the preset; the others are compared with the first.
        seeds: of the searches.
        judge: says what a search is worth, and whether it has collapsed.
        settings: changes of all variants, one after the other; variants are compared within each.
            What a variant changes of its own stands.
        kept: how many of the last epochs are recorded; None for all.
        asks: what it is made to find out.
        own_seeds: of variants that have not the common ones.
        clipped_like: of variants those whose clip factors they take, seed by seed.
        chosen_by: the study whose record chooses one strength of each of :data:`FAMILIES`.
        cost: core seconds of a search, of which none is recorded yet.
    """

    name: str
    variants: Mapping[str, Settings]
    seeds: Sequence[int]
    judge: Judge = LOOKED_UP
    settings: Mapping[str, Settings] = field(default_factory=lambda: {"": {}})
    kept: int | None = 10
    asks: str = ""
    own_seeds: Mapping[str, Sequence[int]] = field(default_factory=dict)
    clipped_like: Mapping[str, str] = field(default_factory=dict)
    chosen_by: str = ""
    cost: float = 20.0

    def __post_init__(self) -> None:
        if not (self.variants and self.seeds and self.settings):
            raise StudyError(f"{self.name}: give at least one variant, one setting and one seed")

    def searches(self) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        """What names each search in the rows of the study, and what it changes of the preset."""
        for setting, common in self.settings.items():
            for variant, own in self.variants.items():
                for seed in self.own_seeds.get(variant, self.seeds):
                    keys = {"variant": variant, "seed": seed}
                    yield {"setting": setting, **keys} if setting else keys, {**common, **own, "seed": seed}

    def part(
        self, variants: Sequence[str] = (), first_seed: int | None = None, seeds: int | None = None
    ) -> Study:
        """Only some variants and seeds, in one call or in many: a record is made in parts."""
        if unknown := [name for name in variants if name not in self.variants]:
            known = ", ".join(self.variants)
            raise StudyError(f"{self.name}: unknown variant {unknown[0]!r}; choose from {known}")
        chosen = {name: own for name, own in self.variants.items() if name in variants or not variants}
        common = (
            self.seeds if first_seed is None else range(first_seed, first_seed + (seeds or len(self.seeds)))
        )
        own = {name: [s for s in every if s in common][:seeds] for name, every in self.own_seeds.items()}
        return replace(self, variants=chosen, seeds=common[:seeds], own_seeds=own)

    def pictures(self, out: Path) -> dict[str, list[str]]:
        """The files that the pictures of its searches were made of; nothing where they ship."""
        every = [out / folder(keys, own.get("space", "nasbench201")) for keys, own in self.searches()]
        paths = [path for each in every if (path := each / "images.json").exists()]
        names = {read_json(path).get("source") for path in paths} - {None}
        return {"pictures": sorted(names)} if names else {}


def folder(keys: Mapping[str, Any], space: str = "nasbench201") -> str:
    """The run directory of a search; that of another space begins with the space."""
    name = f"{'' if space == 'nasbench201' else space} {keys.get('setting', '')} {keys['variant']}".lower()
    for letter, word in (("λ", "lambda"), ("ε0", "eps"), ("α", "alpha"), ("β", "beta")):
        name = name.replace(letter, word)
    name = re.sub(r"-(?=,|$)", " minus", name)  # of DARTS-
    words = "".join(c if c.isalnum() or c == "." else " " for c in name).split()
    return f"{'-'.join(words)}-seed{keys['seed']}"
