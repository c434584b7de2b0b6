from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from ldarts_lib.bilevel.protocols import protocol
from ldarts_lib.datasets.images import load_images
from ldarts_lib.evaluation.standalone import (
    Recipe,
    initial_network,
    standalone_accuracies,
    standalone_accuracy,
)
from ldarts_lib.fast.packed import PackedNetwork
from ldarts_lib.spaces.literals import decode
from ldarts_lib.spaces.space import SPACES

OPS = ("302143", "322143", "000000", "111111", "434041")


@pytest.fixture(scope="module")
def digits():
    """320 images to train on, 300 to test."""
    images = load_images("noisy-digits")
    search = {name: getattr(images, name)[:320] for name in ("search_images", "search_labels")}
    test = {name: getattr(images, name)[:300] for name in ("test_images", "test_labels")}
    return replace(images, **search, **test)


@pytest.mark.parametrize("settings", [{}, {"depth": 2, "reduction": "residual", "channels": 2}])
def test_each_network_is_that_of_the_single_one(digits, settings):
    chosen = protocol(**settings)
    genotypes = [decode(ops) for ops in OPS]
    single = [initial_network(g, chosen, digits, seed).double() for g in genotypes for seed in (3, 4)]
    for parameter in (p for net in single for p in net.parameters() if p.dim() == 1):
        parameter.data += torch.rand_like(parameter)  # of norms, and offsets
    sizes = chosen.model_dump(include={"channels", "depth", "reduction"}) | {"classes": 10, "channels_in": 1}
    packed = PackedNetwork(chosen.search_space, genotypes, 2, **sizes).double()
    packed.load(single)
    draw = torch.Generator().manual_seed(0)
    images = torch.randn(7, 2, 8, 8, generator=draw, dtype=torch.float64)  # other images for each copy
    labels = torch.randint(10, (7,), generator=draw)
    for mode in (True, False):
        logits = packed.train(mode)(images)
        expected = [net.train(mode)(images[:, i % 2 : i % 2 + 1]) for i, net in enumerate(single)]
        torch.testing.assert_close(logits, torch.stack(expected), rtol=1e-10, atol=1e-12)
    packed.train()
    for network in single:
        network.train()
    gradient_of_sum = sum(F.cross_entropy(one, labels) for one in packed(images))
    gradient_of_sum.backward()
    first_kernels, first_biases = [], []
    for i, network in enumerate(single):
        F.cross_entropy(network(images[:, i % 2 : i % 2 + 1]), labels).backward()
        kernel = network.macro.stem[0].weight  # without a gradient behind a disconnected cell
        first_kernels.append(torch.zeros_like(kernel) if kernel.grad is None else kernel.grad)
        first_biases.append(network.macro.head[-1].bias.grad)
    torch.testing.assert_close(packed.macro.stem[0].weight.grad, torch.cat(first_kernels))
    torch.testing.assert_close(packed.macro.head[-1].bias.grad, torch.cat(first_biases))


def test_training_side_by_side_is_training_alone(digits):
    chosen, recipe = protocol(), Recipe(epochs=2, learning_rate=0.01)
    genotypes = [decode(ops) for ops in ("302143", "333033")]
    found = standalone_accuracies(genotypes, chosen, digits, recipe, seeds=(0, 5))
    assert found.shape == (2, 2)
    for genotype, row in zip(genotypes, found.tolist(), strict=True):
        for seed, accuracy in zip((0, 5), row, strict=True):
            alone = standalone_accuracy(genotype, chosen, digits, recipe, seed=seed)
            assert accuracy == pytest.approx(alone, abs=0.02)  # float32 rounding moves a few images
    assert found.std() > 0.01


def test_what_cannot_be_packed_is_refused():
    with pytest.raises(ValueError, match="'stages'"):
        PackedNetwork(SPACES["s2"], [], 1, classes=10, channels=1, depth=1)
    with pytest.raises(ValueError, match="nothing to pack: 0 genotypes"):
        PackedNetwork(SPACES["nasbench201"], [], 1, classes=10, channels=1, depth=1)
