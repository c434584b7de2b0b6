"""The state of a search: which images it reads, what it measures of a step, and how it decides."""

import pytest
import torch

from ldarts_lib.bilevel.half_steps import Bilevel
from ldarts_lib.bilevel.protocols import protocol
from ldarts_lib.bilevel.state import SearchState
from ldarts_lib.datasets.batches import Augmentation
from ldarts_lib.datasets.images import ImageDataset


def dataset(images, labels, augmentation):
    unit = torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1)
    return ImageDataset("mine", 3, images, labels, images, labels, *unit, augmentation)


DRAW = torch.Generator().manual_seed(0)
IMAGES = torch.rand(100, 1, 8, 8, generator=DRAW), torch.randint(3, (100,), generator=DRAW), Augmentation()


def begun(images=IMAGES, **settings):
    sizes = {"size": "smoke", "channels": 2, "depth": 1, "batch_size": 20}
    return SearchState(protocol(**sizes | settings), dataset(*images))


def test_the_split_and_the_steps_are_those_of_the_settings():
    state = begun(split=0.3)
    assert (len(state.training), len(state.validation), state.steps) == (30, 70, 2)
    assert begun(epoch_steps=1).steps == 1


@pytest.mark.parametrize("drawn", ["passes", "drawn"])
def test_both_halves_are_augmented(drawn):
    """Images that grow brighter to the right; what a crop brings in from outside is black."""
    slope, change = torch.linspace(0.5, 1, 8).expand(100, 1, 8, 8), Augmentation(1, flip=True)
    state = begun((slope, IMAGES[1], change), batch_size=40, alpha_batches=drawn)
    for batch in next(state.pairs()):
        assert 5 < (batch.inputs[..., 4, 1] > batch.inputs[..., 4, 6]).sum() < 35
        assert 10 < (batch.inputs == 0).flatten(1).any(1).sum() < 40


def test_a_row_of_the_history_is_what_the_step_saw(monkeypatch):
    """Of an epoch of one step, on both halves; each number by the words that define it."""
    seen, step = [], Bilevel.step

    def kept(bilevel, *batches):
        seen.extend(zip(step(bilevel, *batches), batches, strict=True))
        return seen[-2][0], seen[-1][0]

    monkeypatch.setattr(Bilevel, "step", kept)
    state = begun(batch_size=50, epoch_steps=1, epochs=3, method="lambda")
    row = state.run_epoch(1)
    for name, half, (found, batch) in zip(("train", "valid"), (0, 1), seen, strict=True):
        g = found.cells["normal"].flatten(1).double()
        cosines = torch.nn.functional.cosine_similarity(g[:, None], g[None], -1)
        decisions = torch.nn.functional.cosine_similarity(g, g.sum(0, keepdim=True), -1)
        offset = g.view(3, 6, 5) - g.view(3, 6, 5).mean(-1, keepdim=True)
        projected = torch.nn.functional.cosine_similarity(offset.view(3, 1, -1), offset.view(1, 3, -1), -1)
        expected = {
            "loss": found.loss.item(),
            "accuracy": (found.output.argmax(-1) == batch.targets).double().mean().item(),
            "alignment": (cosines.sum().item() - 3) / 6,
            "projected_alignment": (projected.sum().item() - 3) / 6,
            **{f"norm_{cell}": g[cell].norm().item() for cell in range(3)},
        }
        assert {key: row[f"{name}_{key}"] for key in expected} == pytest.approx(expected, rel=1e-4, abs=1e-6)
        assert state.trajectory.cosines[0, half].tolist() == [
            pytest.approx(r, abs=1e-5) for r in cosines.tolist()
        ]
        assert state.trajectory.decisions[0, half].tolist() == pytest.approx(decisions.tolist(), abs=1e-5)
    assert (row["lambda"], row["learning_rate"]) == (
        state.protocol.lambda_max / 2,
        state.protocol.learning_rate(1),
    )
    assert 0 < row["learning_rate"] < state.protocol.weight_lr


def test_a_difference_too_small_for_half_precision_decides():
    state = begun()
    with torch.no_grad():
        state.bilevel.alphas["normal"].zero_()[:, 3] = 1e-5
    assert set(state.genotype().normal.operations) == {"nor_conv_3x3"}
