"""The chapter on two searches side by side: what was found is looked up or trained, and told as it is."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from types import SimpleNamespace

import pytest

from ldarts_book import quickstart
from ldarts_lib.bilevel.protocols import protocol
from ldarts_lib.spaces.literals import decode

GOOD, COLLAPSED = "333133", "111111"


def found(cells, dataset="noisy-digits"):
    """Two seeds of each method."""
    protocols = {
        f"{method}-seed{seed}": protocol(method=method, size="smoke", seed=seed, dataset=dataset)
        for seed, method in product(range(2), cells)
    }
    histories = [[{"skips": cells[p.method].count("1"), "valid_alignment": 0.5}] for p in protocols.values()]
    results = {
        name: SimpleNamespace(genotype=decode(cells[p.method]), history=history)
        for (name, p), history in zip(protocols.items(), histories, strict=True)
    }
    return quickstart.found_cells(results, protocols, "cpu"), protocols


@pytest.mark.parametrize(
    ("darts", "lambda_", "expected"),
    [
        (COLLAPSED, GOOD, ["better on average", "are 2 of 2 cells of DARTS and 0 of Λ-DARTS"]),
        (GOOD, COLLAPSED, ["worse on average", "are 0 of 2 cells of DARTS and 2 of Λ-DARTS"]),
        (GOOD, GOOD, ["about as good on average", "in 0 of 2 seeds"]),
    ],
)
def test_what_it_means_follows_from_what_was_found(darts, lambda_, expected):
    table, protocols = found({"darts": darts, "lambda": lambda_})
    said = quickstart.story(table, protocols, Path("runs/demo/noisy-digits-demo"))
    assert all(words in " ".join(said.split()) for words in expected)
    assert max(map(len, said.splitlines())) <= 80
    assert list(table["place"] > 4000) == [cell == COLLAPSED for cell in (darts, darts, lambda_, lambda_)]


def test_on_other_images_cells_are_trained(monkeypatch):
    monkeypatch.setattr(quickstart, "evaluate_all", lambda cells, *_, **__: dict.fromkeys(cells, 0.5))
    table, protocols = found({"darts": GOOD, "lambda": GOOD}, "digits")
    said = quickstart.story(table, protocols, Path("runs"))
    assert set(table["test accuracy"]) == {0.5} and "trained from scratch" in said
    assert "Digits-201" not in said and "random cell" not in said
