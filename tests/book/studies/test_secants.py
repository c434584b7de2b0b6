"""Means over batches, against loops over pairs of batches and slopes of a smooth network."""

import pandas as pd
import pytest
import torch

from helpers import random_weights, small_batch, small_supernet
from ldarts_book.studies import secants
from ldarts_book.studies.secants import Scene, Sums
from ldarts_book.studies.study import StudyError
from ldarts_lib.bilevel.alignment import layer_alignment
from ldarts_lib.bilevel.gradients import flat, gradients
from ldarts_lib.bilevel.regularizers import Regularizer, regularized_gradients


def test_products_of_means_are_between_different_batches():
    draw, sums, n = torch.Generator().manual_seed(0), Sums(), 6
    x, e = (torch.randn(n, 2, 5, generator=draw, dtype=torch.float64) for _ in range(2))
    for i in range(n):
        sums.add({"exact": e[i], "0.1": x[i]}, half=i // 3)
    found = sums.measures()

    def naive(a, b):
        return sum((a[i] * b[j]).sum(-1) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))

    torch.testing.assert_close(found["0.1", "inner"], naive(x, e))
    torch.testing.assert_close(found["0.1", "square"], naive(x, x))
    torch.testing.assert_close(found["exact", "inner"], found["exact", "square"])
    torch.testing.assert_close(found["0.1", "single"], x.square().sum(-1).mean(0))
    torch.testing.assert_close(found["0.1", "same"], (x * e).sum(-1).mean(0))


def test_vectors_are_the_estimates_of_the_library_and_slopes_are_derivatives():
    net, weights = small_supernet("nasbench201", activation="gelu"), None
    weights, batches = random_weights(net), [small_batch(seed) for seed in range(2)]
    sums = Sums()
    for half, batch in ((0, batches[0]), *((1, batch) for batch in batches), (0, batches[1])):
        found = secants.vectors(net, batch, weights, [0.1], control=False)
        sums.add(found, half)
    for name, estimator in (("exact", "exact"), ("0.1", "central")):
        regularizer = Regularizer("cosine", estimator, 0.1)
        _, expected = regularized_gradients(net, batches[1], weights, regularizer)
        torch.testing.assert_close(found[name], flat(expected)[None])
    before = flat(net.parameters())
    rises = secants.rises(net, weights, batches, sums)
    moved = flat(net.parameters())  # the last step, along the noise
    assert (moved - before).norm().item() == pytest.approx(max(secants.STEPS))
    # steps are tried on the second half of the batches: ⟨Ē, v⟩ is the slope of the mean of Λ
    up, down = rises["0.1", "mean 0.01"], rises["0.1", "mean -0.01"]
    torch.testing.assert_close((up - down) / 0.02, rises["0.1", "slope exact"], rtol=0.03, atol=0)

    def mean_alignment():
        cells = [gradients(net, b, weights, of_parameters=False).cells["normal"] for b in batches]
        return sum(layer_alignment(g.flatten(1)) for g in cells) / 2

    after = mean_alignment()
    torch.nn.utils.vector_to_parameters(before, net.parameters())
    torch.testing.assert_close(rises["noise", "single 0.3"][0], after - mean_alignment())


def test_parts_of_the_record_are_made_once_and_of_several_seeds_together(tmp_path, monkeypatch):
    tiny = {"channels": 2, "size": "smoke", "batch_size": 4}
    one, two = (Scene(seeds, 0, [1e-3], tiny, 2, tried) for seeds, tried in (([3], 0), ([3, 4], 1)))
    monkeypatch.setattr(secants, "SCENES", {"one, steps = 0": one, "two": two})
    secants.make_secants(tmp_path)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.csv.gz")}
    secants.make_secants(tmp_path)
    assert times == {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.csv.gz")}
    parts = [pd.read_csv(tmp_path / f"{name}.csv.gz") for name in ("one-steps-0", "two")]
    assert [set(part["scene"]) for part in parts] == [{"one, steps = 0"}, {"two"}]
    assert set(parts[1]["vector"]) == {"exact", "control", "0.001", "noise"}
    both = parts[0].merge(parts[1], on=["seed", "vector", "measure"])
    assert len(both) == len(parts[0]) == 8
    assert both["value_x"].tolist() == pytest.approx(both["value_y"].tolist(), rel=1e-2)
    names = ["two", "three, steps = 9", "one, steps = 0"]
    rows, commands = secants.recorded_parts(tmp_path.name, names, tmp_path.parent)
    assert rows["scene"].unique().tolist() == ["two", "one, steps = 0"] and len(rows) == sum(map(len, parts))
    asked = '--variants "three, steps = 9" --record data/recorded'
    assert commands == [f"ldarts study {tmp_path.name} {asked}"]
    with pytest.raises(StudyError, match="choose from one, steps = 0; two"):
        secants.make_secants(tmp_path, ["three"])
