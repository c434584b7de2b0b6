"""The gradient of a window is the sum of its time steps' gradients."""

from __future__ import annotations

import pandas as pd
import pytest
import torch

from ldarts_book.ptb import averaged, gradients_by_step, last_against_all
from ldarts_lib.bilevel.alignment import layer_alignment
from ldarts_lib.bilevel.gradients import gradients
from ldarts_lib.datasets.corpus import Reader
from ldarts_lib.networks.batches import Inputs, TextBatch
from ldarts_lib.networks.recurrent import Dropouts
from ldarts_lib.networks.recurrent_supernet import RecurrentSupernet
from ldarts_lib.networks.supernet import architecture_weights, initial_alphas

NONE = Dropouts(output=0, hidden=0, inputs=0, embedding=0, words=0)


@pytest.fixture
def setting():
    """A supernet in float64, its α, and a text in columns."""
    torch.manual_seed(0)
    supernet = RecurrentSupernet(words=20, units=6, dropouts=NONE).double().train()
    alphas = initial_alphas(supernet.space, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return supernet, alphas, torch.randint(20, (41, 5))


def test_the_steps_add_up_to_the_window(setting):
    supernet, alphas, text = setting
    batch = TextBatch.of(*Reader(text, supernet.initial_hidden(5)).read(7), slowness=0.1)
    by_step = gradients_by_step(supernet, batch, alphas)
    assert by_step.shape == (7, 2, 36 * 5)
    leaves = architecture_weights(alphas, supernet.layout)
    leaves = {kind: weights.detach().requires_grad_() for kind, weights in leaves.items()}
    whole = gradients(supernet, batch, leaves, of_parameters=False).cells["normal"].flatten(1)
    torch.testing.assert_close(by_step.sum(0), whole, rtol=1e-10, atol=1e-13)


def test_the_last_step_reaches_the_last_word_only(setting):
    supernet, alphas, text = setting
    batch = TextBatch.of(*Reader(text, supernet.initial_hidden(5)).read(4))
    weights = architecture_weights(alphas, supernet.layout)
    leaf = weights["normal"].detach().requires_grad_()
    with torch.no_grad():
        before = Inputs(batch.inputs.words[:-1], batch.inputs.hidden)
        hidden = supernet(before, weights, update_statistics=False).hidden
    last = Inputs(batch.inputs.words[-1:], hidden)
    logits = supernet(last, {"normal": leaf}, update_statistics=False).logits
    loss = torch.nn.functional.cross_entropy(logits, batch.targets[-5:]) / 4
    (expected,) = torch.autograd.grad(loss, leaf)
    torch.testing.assert_close(gradients_by_step(supernet, batch, alphas)[-1], expected.flatten(1))


def test_windows_are_compared(setting):
    supernet, alphas, text = setting
    found = last_against_all(supernet, text, alphas, [1, 4], windows=3)
    assert found.groupby("length").size().tolist() == [3, 3]
    single = found[found["length"] == 1]
    assert single["cosine"].tolist() == pytest.approx([1] * 3)
    assert single["alignment"].tolist() == pytest.approx(single["alignment of the last step"].tolist())
    batch = TextBatch.of(*Reader(text, supernet.initial_hidden(5)).read(4))
    by_step = gradients_by_step(supernet, batch, alphas)
    first = found[found["length"] == 4].iloc[0]
    assert first["alignment"] == pytest.approx(layer_alignment(by_step.sum(0)).item())


def test_dropout_is_refused(setting):
    supernet, alphas, text = setting
    supernet.dropouts = Dropouts()
    batch = TextBatch.of(*Reader(text, supernet.initial_hidden(5)).read(4))
    with pytest.raises(ValueError, match="switch dropout off"):
        gradients_by_step(supernet, batch, alphas)
    assert gradients_by_step(supernet.eval(), batch, alphas).isfinite().all()


def test_windows_are_averaged_with_their_standard_error():
    windows = pd.DataFrame(
        {"length": [4, 4, 16, 16], "cosine": [0.4, 0.6, 0.2, 0.4], "alignment": [0.1, 0.3, 0.2, 0.2]}
    ).assign(**{"alignment of the last step": 0.0})
    table = averaged(windows).set_index(["variant", "words per window, T"])
    means = table.loc["last step and window"]
    assert means["cosine"].tolist() == pytest.approx([0.5, 0.3])
    assert (means["high"] - means["low"]).tolist() == pytest.approx([0.2, 0.2])
    assert table.loc[r"$1/\sqrt{T}$", "cosine"].tolist() == pytest.approx([0.5, 0.25])
    assert table.loc["all steps", "alignment"].tolist() == pytest.approx([0.2, 0.2])
    assert table.loc["last step", "alignment"].tolist() == [0, 0]
