import math

import pytest
import torch

from ldarts_lib.errors import ProtocolError
from ldarts_lib.evaluation.protocols import training_protocol
from ldarts_lib.spaces.notations import parse
from ldarts_lib.spaces.published import published

ONE_CELL = parse("|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|none~0|none~1|nor_conv_3x3~2|")


def of(recipe, size="paper", dataset="cifar10", **overrides):
    cell = ONE_CELL if recipe == "nasbench201" else published("DARTS_V2")
    return training_protocol("DARTS_V2", cell, dataset, recipe, size, **overrides)


def test_the_published_settings():
    """The defaults of train.py and train_imagenet.py of the Λ-DARTS code, and of NAS-Bench-201."""
    cifar = of("cifar")
    assert (cifar.channels, cifar.depth, cifar.epochs, cifar.batch_size) == (36, 20, 600, 96)
    assert (cifar.learning_rate, cifar.momentum, cifar.weight_decay, cifar.clip) == (0.025, 0.9, 3e-4, 5)
    assert (cifar.cutout, cifar.drop_path, cifar.auxiliary, cifar.label_smoothing) == (16, 0.2, 0.4, 0)
    assert cifar.model_copy(update={"recipe": "cifar-small", "channels": 16, "depth": 8}) == of("cifar-small")
    small = {"recipe": "choice", "epochs": 100, "held_out": 0.5}
    assert of("cifar-small").model_copy(update=small) == of("choice")
    imagenet = of("imagenet")
    assert (imagenet.channels, imagenet.depth, imagenet.epochs, imagenet.batch_size) == (48, 14, 250, 1024)
    assert (imagenet.learning_rate, imagenet.weight_decay, imagenet.label_smoothing) == (0.5, 3e-5, 0.1)
    assert (imagenet.cutout, imagenet.drop_path, imagenet.auxiliary, imagenet.warm_up) == (0, 0, 0, 5)
    tabular = of("nasbench201")
    assert (tabular.channels, tabular.depth, tabular.epochs, tabular.batch_size) == (16, 5, 200, 256)
    assert (tabular.learning_rate, tabular.nesterov, tabular.weight_decay) == (0.1, True, 5e-4)
    assert (tabular.clip, tabular.auxiliary, tabular.cutout) == (None, 0, 0)


def test_the_cosine_is_pytorchs():
    protocol = of("cifar", epochs=7)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], protocol.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 7)
    for epoch in range(7):
        assert protocol.rate(epoch) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
        optimizer.step()
        schedule.step()


def test_the_linear_schedule_is_that_of_the_code():
    """Five epochs of warm-up, then a line, which is flatter in the last five epochs."""
    protocol = of("imagenet")
    assert [protocol.rate(epoch) for epoch in range(5)] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    assert protocol.rate(5) == pytest.approx(0.5 * 240 / 245)
    assert protocol.rate(244) == pytest.approx(0.5 / 245)
    assert protocol.rate(245) == pytest.approx(0.5 * 5 / (245 * 5))
    assert protocol.rate(249) == pytest.approx(0.5 * 1 / (245 * 5))
    whole, ended = of("imagenet", epochs=10, warm_up=0), of("imagenet", epochs=11, warm_up=0)
    assert [whole.rate(epoch) for epoch in (0, 4, 9)] == pytest.approx([0.5, 0.3, 0.05])  # too few to end so
    assert [ended.rate(epoch) for epoch in (0, 5, 6, 10)] == pytest.approx([0.5, 0.5 / 6, 0.5 / 6, 0.1 / 6])
    short = of("imagenet", "smoke")
    assert [short.rate(epoch) for epoch in range(2)] == pytest.approx([0.1, 0.05])


def test_a_genotype_as_name_does_not_fill_the_progress_line():
    assert of("cifar").label == of("cifar").architecture
    assert training_protocol(str(ONE_CELL), ONE_CELL).label == "a genotype"


def test_drop_path_grows_linearly():
    protocol = of("cifar")
    assert [protocol.drop_probability(e) for e in (0, 300, 599)] == pytest.approx([0, 0.1, 0.2 * 599 / 600])


@pytest.mark.parametrize("size", ["smoke", "demo"])
@pytest.mark.parametrize("recipe", ["cifar", "cifar-small", "imagenet", "nasbench201"])
def test_every_recipe_has_small_sizes(recipe, size):
    small, paper = of(recipe, size), of(recipe)
    assert small.epochs < paper.epochs
    assert small.channels < paper.channels
    assert math.isfinite(small.rate(small.epochs - 1))


@pytest.mark.parametrize(
    ("recipe", "overrides", "message"),
    [
        ("cifar", {"dataset": "cifar11"}, "unknown dataset 'cifar11'; choose one of noisy-digits"),
        ("cifar", {"width": 3}, "unknown setting 'width'; the settings are .*architecture"),
        ("cifar", {"epochs": 0}, "epochs = 0"),
        ("cifar", {"resolution": 16}, "images of 16 pixels: the auxiliary head needs 32 or more"),
        ("nasbench201", {"auxiliary": 0.4}, "only an architecture with a reduction cell"),
        ("nasbench201", {"stem": "imagenet"}, "needs an architecture with a reduction cell"),
        ("imagenet", {"warm_up": 250}, "warm_up = 250 must be less than epochs = 250"),
        ("imagenet", {"channels": 4}, "channels = 4: the stem 'imagenet' needs an even number from 8"),
        ("cifar", {"resolution": 34}, "images of 34 pixels: the stem 'small' needs a multiple of 4"),
        ("imagenet", {"resolution": 240}, "images of 240 pixels: the stem 'imagenet' needs a multiple of 32"),
        ("cifar", {"precision": "8"}, "precision = '8'"),
    ],
)
def test_bad_settings_are_named(recipe, overrides, message):
    with pytest.raises(ProtocolError, match=message):
        of(recipe, **overrides)


def test_an_unknown_recipe_lists_the_known_ones():
    with pytest.raises(ProtocolError, match=r"recipe = 'cifar11'.*'cifar-small'"):
        of("cifar11")


def test_an_unknown_operation_is_named():
    cell = "[('sep_conv_9x9', 0), ('skip_connect', 1)]"
    text = f"Genotype(normal={cell}, normal_concat=[2], reduce={cell}, reduce_concat=[2])"
    with pytest.raises(
        ProtocolError, match="unknown operation sep_conv_9x9 on edge 2<-0; choose one of none"
    ):
        training_protocol("mine", parse(text), "cifar10", "cifar", "paper")


@pytest.mark.parametrize("size", ["smoke", "demo", "paper"])
@pytest.mark.parametrize("recipe", ["cifar", "cifar-small"])
def test_a_preset_changes_nothing_of_itself(recipe, size):
    names = "V2", published("DARTS_V2"), "digits" if size == "smoke" else "cifar10", recipe, size
    assert training_protocol(*names, seed=2).changed == ""
    assert training_protocol(*names, epochs=9).changed == "epochs = 9"
