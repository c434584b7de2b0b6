"""The selection by perturbation against a naive one, and that it goes on and leaves the run as it is."""

import json
from dataclasses import replace

import pytest
import torch

from helpers import small_space
from ldarts_lib.bilevel import perturbation
from ldarts_lib.bilevel.protocols import protocol
from ldarts_lib.bilevel.search import search
from ldarts_lib.bilevel.state import SearchState
from ldarts_lib.datasets.images import load_images
from ldarts_lib.networks.supernet import Supernet
from ldarts_lib.spaces.notations import parse

TINY = {"size": "smoke", "channels": 2, "batch_size": 40, "split": 0.96, "epochs": 1, "epoch_steps": 1}


def searched(folder, space="nasbench201", **settings):
    search(protocol(space, **TINY | settings), folder, progress=False)
    return {file.name: file.read_bytes() for file in folder.iterdir() if not file.name.startswith(".")}


def interrupted(folder, monkeypatch, after):
    real, made = perturbation._Selection.decide, []

    def decide(self):
        made.append(self.made)
        if len(made) > after:
            raise KeyboardInterrupt
        real(self)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(perturbation._Selection, "decide", decide)
        perturbation.select_by_perturbation(folder, progress=False)


def test_an_edge_keeps_the_operation_that_the_supernet_misses_most(tmp_path, monkeypatch):
    searched(tmp_path, precision="float64", supernet="reference")
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    interrupted(tmp_path, monkeypatch, after=1)
    partly = torch.load(tmp_path / "perturbation.pt", weights_only=True)["chosen"]["normal"]
    (edge,) = partly[:, 0].isfinite().nonzero().flatten().tolist()
    images = load_images("noisy-digits")
    net = Supernet(protocol().search_space, channels=2, depth=1, classes=10, channels_in=1, reduction="light")
    net.double().load_state_dict(saved["supernet"])
    _, validation = images.halves(fraction=0.96, seed=0)
    inputs, labels = validation.all()  # one batch of 40
    accuracies = []
    for operation in range(5):
        p = saved["alphas"]["normal"].softmax(-1).expand(3, 6, 5).clone()
        p[:, edge, operation] = 0
        logits = net(inputs.double(), {"normal": p}, update_statistics=False)
        loss = torch.nn.functional.cross_entropy(logits, labels).item()
        accuracies.append(((logits.argmax(-1) == labels).double().mean().item(), -loss))
    kept = min(range(5), key=accuracies.__getitem__)
    assert partly[edge].tolist() == [float(operation == kept) for operation in range(5)]
    assert not (tmp_path / perturbation.SELECTED).exists()


def test_a_tenth_of_the_epochs_at_a_tenth_of_the_rate_lies_between_two_decisions():
    settings = protocol(size="demo", epochs=30, weight_lr=0.5)
    selection = perturbation._Selection(SearchState(settings, load_images("noisy-digits")))
    assert selection.epochs == 3 and selection.protocol.learning_rate(0) == pytest.approx(0.05)
    assert {selection.protocol.strength(epoch) for epoch in (0, 9)} == {settings.lambda_max}


def test_a_node_keeps_the_edges_without_which_the_supernet_is_worst(tmp_path, monkeypatch):
    space = replace(small_space("s4"), name="small")
    searched(tmp_path, space, method="darts", depth=5, batch_size=20, split=0.98)
    real = perturbation._Selection._quality

    def quality(self, kind, removed):  # of whole edges: without a later one it is worse
        return real(self, kind, removed) if isinstance(removed, tuple) else (-removed, 0.0)

    monkeypatch.setattr(perturbation._Selection, "_quality", quality)
    found = perturbation.select_by_perturbation(tmp_path, progress=False)
    assert [edge.source for edge in found.normal.edges if edge.target == 3] == [1, 2]


def test_a_selection_goes_on_bit_for_bit_where_nodes_keep_two_edges(ldarts, tmp_path, monkeypatch):
    folder, space = tmp_path / "run", replace(small_space("s4"), name="small")
    before = searched(folder, space, method="darts", depth=5, batch_size=20, split=0.98)
    interrupted(folder, monkeypatch, after=4)
    code, text, _ = ldarts("discretize", folder, "--selection", "perturbation", "--device", "cpu")
    assert code == 0 and not (folder / "perturbation.pt").exists()
    found = perturbation.select_by_perturbation(folder, progress=False)
    assert parse(text) == found == parse((folder / perturbation.SELECTED).read_text())
    assert before == {name: (folder / name).read_bytes() for name in before}
    space.validate(found)
    _, _, error = ldarts("discretize", folder, "--selection", "perturbation", "--epoch", 0)
    assert "leave --epoch out" in error
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"method": "gdas"}))
    assert "'gdas' draws its p" in ldarts("discretize", folder, "--selection", "perturbation")[2]
    (folder / "metrics.json").unlink()
    assert "needs a finished search" in ldarts("discretize", folder, "--selection", "perturbation")[2]
