"""What cells want of each edge along searches, against searches that are made one by one."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest
import torch

from ldarts_book import studies
from ldarts_book.studies import predictions
from ldarts_book.studies.theory import copies, searched, softmax_jacobian
from ldarts_lib.bilevel.alignment import layer_alignment
from ldarts_lib.bilevel.gradients import gradients
from ldarts_lib.bilevel.packed import PackedSearch
from ldarts_lib.bilevel.protocols import protocol
from ldarts_lib.datasets.images import load_images
from ldarts_lib.networks.batches import Batch

SPACE = {"name": "three", "macro": "stages", "cells": {"normal": {
    "nodes": 2, "candidates": ("none", "skip_connect", "nor_conv_1x1"),
}}}  # fmt: skip
TINY = {
    "space": SPACE,
    "method": "darts",
    "size": "smoke",
    "channels": 2,
    "batch_size": 250,
    "precision": "float64",
}
WATCH = predictions.Watch("DARTS", 3, TINY, epochs=(1,), moves=2, seeds=2)


@pytest.fixture(scope="module")
def rows():
    return predictions.watch_rows(WATCH)


def test_a_pack_is_looked_at_as_each_search_would_be(rows):
    state = searched(protocol(**TINY, seed=4), 1)
    p = state.bilevel.alphas["normal"].detach().softmax(-1)
    weights, found = copies(state.bilevel.supernet, state.bilevel.alphas), []
    for images, labels in state.validation.epoch(250, torch.Generator().manual_seed(0), augment=False):
        found.append(
            gradients(state.bilevel.supernet, Batch(images.double(), labels), weights).cells["normal"]
        )
    g = torch.stack(found)
    felt = torch.einsum("eop,bcep->bceo", softmax_jacobian(p), g)
    expected = {
        "p": p,
        **{f"g_{cell}": g.mean(0)[cell] for cell in range(3)},
        "square": felt.sum(1).square().mean(0),
        "batches": torch.stack([layer_alignment(one.flatten(1)) for one in g]).mean().expand(3, 3),
        "batches_felt": torch.stack(
            [torch.stack([layer_alignment(felt[b, :, e]) for e in range(3)]) for b in range(len(g))]
        ).mean(0)[:, None].expand(3, 3),
    }  # fmt: skip
    ours = rows.query("seed == 4 and epoch == 1 and half == 'valid' and state == 'search'")
    assert ours[["edge", "operation"]].to_numpy().tolist() == [[e, o] for e in range(3) for o in range(3)]
    for name, value in expected.items():
        found = torch.tensor(ours[name].to_numpy()).view(3, 3)
        torch.testing.assert_close(found, value.double(), rtol=2e-3, atol=2e-5)


def test_one_half_is_looked_at_alone_as_beside_the_other(rows):
    alone = predictions.watch_rows(replace(WATCH, moves=0, halves=("valid",)))
    pd.testing.assert_frame_equal(
        alone, rows.query("state == 'search' and half == 'valid'").reset_index(drop=True)
    )


def test_at_rest_alpha_has_moved_and_the_weights_have_not(rows):
    assert rows.groupby(["state", "epoch", "half"]).size().to_dict() == {
        ("at rest", 1, "valid"): 18,
        **{("search", 1, half): 18 for half in ("train", "valid")},
    }
    ends = rows.query("epoch == 1 and half == 'valid'").set_index(["seed", "edge", "operation"])
    after, before = (torch.tensor(part["p"].to_numpy()).log() for _, part in ends.groupby("state"))
    most = 2 * 1.5 * protocol(**TINY).alpha_lr  # two entries of an edge, by Adam's steps of about η and η/2
    assert 0.2 * most < (after - before).abs().max() < 1.2 * most
    assert set(rows["seed"]) == {3, 4} and set(rows["variant"]) == {"DARTS"}


def test_on_the_way_to_rest_the_rate_falls_and_nothing_decays():
    states = [searched(protocol(**TINY, seed=seed)) for seed in (3, 4)]
    bilevel, seen = PackedSearch(states, load_images("noisy-digits")).bilevel, []
    optimizer, halves = bilevel.alpha_optimizer, [state.validation for state in states]
    optimizer.register_step_pre_hook(lambda *_: seen.append(dict(optimizer.param_groups[0])))
    predictions.come_to_rest(bilevel, halves, states[0].protocol, moves=4)
    rate = states[0].protocol.alpha_lr
    assert [group["lr"] for group in seen] == pytest.approx([rate, rate * 3 / 4, rate / 2, rate / 4])
    assert {group["weight_decay"] for group in seen} == {0.0}


def test_parts_are_made_once_and_named_like_their_first_search(tmp_path, monkeypatch, ldarts):
    assert {"darts-seed200", "lambda-darts-nine-cells-seed240"} < {*predictions.WATCHES}
    three = {w.variant for w in predictions.WATCHES.values() if "cells" not in w.variant}
    assert three - {predictions.OFTEN} == {*predictions.COMPARED} < {*studies.VARIANTS}
    monkeypatch.setattr(predictions, "WATCHES", {"darts-seed3": WATCH})
    monkeypatch.setattr(predictions, "watch_rows", lambda *_: pd.DataFrame({"seed": [3]}))
    what = "predictions", "--variants", "darts-seed3", "--record", tmp_path
    assert ldarts("study", *what)[0] == 0
    path = tmp_path / "predictions" / "darts-seed3.csv.gz"
    assert pd.read_csv(path)["seed"].tolist() == [3]
    monkeypatch.setattr(predictions, "watch_rows", lambda *_: 1 / 0)
    assert ldarts("study", *what)[0] == 0
    code, _, error = ldarts("study", "predictions", "--variants", "none")
    assert code == 2 and "predictions: unknown variant 'none'; choose from darts-seed3" in error
