"""A GPU without one: whole steps with all tensors on the meta device, which has shapes and no numbers.

There a step fails that waits for a number, or has a tensor on the CPU: on a GPU the one would stop the queue
and the other would end the run. What torch has for a GPU and not for the meta device gets a stand-in.
"""

import re
from dataclasses import replace
from importlib import import_module
from types import SimpleNamespace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from helpers import DEPTHS, small_batch, small_space
from ldarts_book.studies.bench import Usage
from ldarts_lib.bilevel.half_steps import Bilevel
from ldarts_lib.bilevel.methods import METHODS, TEXT_METHODS
from ldarts_lib.bilevel.protocols import protocol
from ldarts_lib.bilevel.recurrent_state import RecurrentState
from ldarts_lib.bilevel.remedies.table import REMEDIES
from ldarts_lib.bilevel.state import SearchState, measure
from ldarts_lib.datasets.corpus import Corpus, Reader
from ldarts_lib.datasets.images import load_images
from ldarts_lib.evaluation.language import LanguageTraining
from ldarts_lib.evaluation.protocols import training_protocol
from ldarts_lib.evaluation.training import ImageTraining
from ldarts_lib.fast.packed import PackedSupernet
from ldarts_lib.fast.supernet import FastSupernet
from ldarts_lib.networks.batches import Batch, TextBatch
from ldarts_lib.networks.recurrent import Dropouts
from ldarts_lib.networks.recurrent_supernet import RecurrentSupernet
from ldarts_lib.networks.supernet import Supernet, initial_alphas
from ldarts_lib.spaces.notations import parse
from ldarts_lib.spaces.published import published
from ldarts_lib.spaces.space import PTB, SPACES

ALL_METHODS = [*METHODS, *(f"lambda+{name}" for name, remedy in REMEDIES.items() if remedy.with_lambda)]
SIZES = {"channels": 4, "classes": 3, "channels_in": 1}
CELL = "|nor_conv_3x3~0|+|skip_connect~0|avg_pool_3x3~1|+|none~0|nor_conv_1x1~1|nor_conv_3x3~2|"
KILOBYTE = 2**10


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch):
    def moments(z, *_):
        return z.new_empty(z.shape[1]), z.new_empty(z.shape[1])

    monkeypatch.setattr(torch, "batch_norm_update_stats", moments)
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *_: False)
    monkeypatch.setattr(torch, "_sample_dirichlet", lambda like, _: torch.empty_like(like))
    monkeypatch.setattr(torch, "_dirichlet_grad", lambda like, *_: torch.empty_like(like))
    monkeypatch.setattr(torch.Tensor, "exponential_", lambda tensor, generator: tensor)
    adam, clipping = import_module("torch.optim.adam"), import_module("torch.nn.utils.clip_grad")
    monkeypatch.setattr(adam, "_device_dtype_check_for_fused", lambda *_: None)
    monkeypatch.setattr(clipping, "_device_has_foreach_support", lambda _: True)


class OnlyThere(TorchDispatchMode):
    """Fail at a tensor that is made elsewhere (torch refuses operands from two devices), or where a GPU would
    use TF32."""

    def __init__(self, *, full=True):
        super().__init__()
        self.full = full

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found, name = function(*args, **(kwargs or {})), function.overloadpacket.__name__
        assert not (self.full and "convolution" in name and torch.backends.cudnn.allow_tf32), function
        for tensor in found if isinstance(found, list | tuple) else [found]:
            assert not isinstance(tensor, torch.Tensor) or tensor.is_meta, function
        return found


def there(batch, copies=1):
    return Batch(batch.inputs.float().repeat(1, copies, 1, 1).to("meta"), batch.targets.to("meta"))


def make_step(net, alphas, chosen, batches):
    """One step; returns what is measured of it."""
    for name, more in chosen.new_remedy().further_alphas(torch.Generator()).items():
        alphas[name] = more.to("meta").requires_grad_()
    problem = Bilevel(net.to("meta").train(), alphas, chosen)
    problem.start_epoch(0)
    with OnlyThere():
        return measure(problem.step(*batches), batches)


def few_edges(name):
    """A space with all candidate operations and few edges."""
    if name != "nasbench201":
        return small_space(name)
    space = SPACES[name]
    cell = replace(space.cells["normal"], nodes=2, candidates=space.cells["normal"].candidates[:3])
    return replace(space, cells={"normal": cell})


def search(name="nasbench201", method="lambda", kind=FastSupernet, how=None, **settings):
    regularizer = {"ramp": "constant", "estimator": "exact"} if "lambda" in method else {}
    chosen = protocol(name, method=method, size="paper", **regularizer | settings)
    space = few_edges(name) if chosen.remedy is None else chosen.search_space
    own = {
        "depth": DEPTHS[space.macro],
        "generator": torch.Generator(),
    } | chosen.new_remedy().supernet_options()
    alphas = initial_alphas(space, device="meta")
    batches = [there(small_batch(seed)) for seed in range(2)]
    return make_step(kind(space, **SIZES, **own, **how or {}), alphas, chosen, batches)


@pytest.mark.parametrize(("number", "method"), enumerate(ALL_METHODS))
def test_a_step_of_every_method(number, method):
    search(method=method, how={"strategy": ("separate", "batched")[number % 2]})


@pytest.mark.parametrize(("number", "space"), enumerate(SPACES))
def test_a_step_of_every_space(number, space):
    search(space, how={"strategy": ("batched", "separate")[number % 2]})


@pytest.mark.parametrize("space", ["nasbench201", "s4"])
def test_a_step_of_the_reference(space):
    search(space, kind=Supernet)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "settings", "how"),
    [
        ("lambda", {"estimator": "central"}, {"strategy": "batched"}),
        ("lambda-edge", {"estimator": "forward"}, {"strategy": "separate"}),
        ("lambda-random", {"estimator": "central", "regularizer_batch": "validation"}, {}),
        ("lambda", {"regularizer_batch": "both", "regularized_cells": "all"}, {"checkpoint": True}),
        ("lambda", {}, {"precision": torch.bfloat16, "strategy": "batched"}),
        ("lambda", {"estimator": "central", "clip_alpha": True}, {}),
    ],
)
def test_a_step_of_every_estimator_and_setting(method, settings, how):
    space = "nasbench201" if method == "lambda-edge" else "s2"  # that needs three operations on an edge
    search(space, method, how=how, **settings)


@pytest.mark.parametrize("method", ["lambda", "lambda-random", "lambda-noise"])
def test_a_step_of_a_pack(method):
    chosen, space = protocol(method=method, ramp="constant"), few_edges("nasbench201")
    net = PackedSupernet(space, [torch.Generator(), torch.Generator()], depth=1, **SIZES)
    single = initial_alphas(space, device="meta")["normal"].detach()
    batches = [there(small_batch(seed), 2) for seed in range(2)]
    batches = [replace(batch, targets=torch.stack([batch.targets] * 2)) for batch in batches]
    measured = make_step(net, {"normal": torch.stack([single] * 2).requires_grad_()}, chosen, batches)
    assert measured.shape[:2] == (2, 2)


@pytest.mark.slow
@pytest.mark.parametrize("method", TEXT_METHODS)
def test_a_step_of_the_recurrent_cell(method):
    chosen = protocol("ptb", method=method, size="smoke", units=4, ramp="constant")
    own = {"dropouts": Dropouts(**chosen.dropouts), "generator": torch.Generator()}
    net = RecurrentSupernet(words=12, units=4, cells=2, space=PTB, **own)
    words = torch.zeros(3, 5, dtype=torch.int64, device="meta")
    window = TextBatch.of(words, torch.zeros(2, 5, 4, device="meta"), words.flatten(), chosen.slowness)
    make_step(net, initial_alphas(PTB, device="meta"), chosen, [window, window])


@pytest.mark.parametrize("kind", ["search", "search on a text", "training on a text"])
def test_what_is_drawn_on_the_device_has_a_generator_there(monkeypatch, kind):
    """A meta device has none; which device is asked for one is noted, and the CPU's is given."""
    asked, real = [], torch.Generator
    monkeypatch.setattr(torch, "Generator", lambda device="cpu": asked.append(str(device)) or real())
    text = Corpus("t", ("a", "b"), *[torch.zeros(640, dtype=torch.int64)] * 3)
    if kind == "search":
        SearchState(protocol("s4", size="smoke"), load_images("noisy-digits"), "meta")
    elif kind == "search on a text":
        RecurrentState(protocol("ptb", size="smoke"), text, "meta")
    else:
        LanguageTraining(training_protocol("mine", published("DARTS_V2_ptb"), size="smoke"), text, "meta")
    assert sorted(set(asked)) == ["cpu", "meta"], "the batches are drawn on the CPU"


@pytest.mark.parametrize(
    ("space", "method"),
    [
        *(("s4", method) for method in ("darts", "lambda", "darts-2nd")),
        *(("nasbench201", method) for method in ("lambda-random", "lambda-noise", "sdarts-rs")),
    ],
)
def test_a_step_draws_from_that_generator_alone(space, method):
    """Then steps on a GPU repeat whatever else draws there."""
    generator, small = torch.Generator().manual_seed(0), few_edges(space)
    ramp = {"ramp": "constant"} if "lambda" in method else {}
    chosen = protocol(space, method=method, size="paper", **ramp)
    net = FastSupernet(small, **SIZES, depth=DEPTHS[small.macro], generator=generator).train()
    problem = Bilevel(net, initial_alphas(small), chosen)
    problem.start_epoch(0)
    batches = [small_batch(seed, torch.float32) for seed in range(2)]
    before, own = torch.get_rng_state(), generator.get_state()
    problem.step(*batches)
    assert torch.equal(torch.get_rng_state(), before) and not torch.equal(generator.get_state(), own)


class OneDevice:
    """What a training uses of Lightning Fabric."""

    device, world_size, global_rank = torch.device("meta"), 1, 0

    def setup(self, objective, optimizer):
        return objective, optimizer

    def backward(self, loss):
        loss.backward()

    def clip_gradients(self, objective, optimizer, max_norm, error_if_nonfinite):
        torch.nn.utils.clip_grad_norm_(objective.parameters(), max_norm, foreach=True)


@pytest.mark.parametrize(("recipe", "pixels"), [("cifar", 32), ("imagenet", 64), ("nasbench201", 32)])
def test_a_step_of_a_training_of_images(recipe, pixels):
    cell = parse(CELL) if recipe == "nasbench201" else published("DARTS_V2")
    small = {"channels": 8, "depth": 1 if recipe == "nasbench201" else 3}
    chosen = training_protocol("mine", cell, "cifar10", recipe, "paper").model_copy(update=small)
    facts = SimpleNamespace(facts={}, training_count=8, classes=3, channels=3)
    with torch.device("meta"):
        training = ImageTraining(OneDevice(), chosen, facts)
        images, labels = torch.empty(4, 3, pixels, pixels), torch.zeros(4, dtype=torch.int64)
    paths = training._paths(chosen.drop_path, torch.Generator())
    with OnlyThere(full=False):  # run_epoch switches TF32 off
        found = training._step(images, labels, None if paths is None else paths[:, :4])
    assert found.shape == (3,) and (paths is None) == (chosen.drop_path == 0)


@pytest.mark.parametrize(("recipe", "devices"), [("cifar", 1), ("imagenet", 8)])
def test_masks_of_drop_path_go_to_a_gpu_without_waiting_for_it(recipe, devices):
    """A copy from ordinary memory of 64 KiB or more waits."""
    chosen = training_protocol("mine", published("DARTS_V2"), "cifar10", recipe, "paper")
    fabric = SimpleNamespace(device=torch.device("meta"), world_size=devices, global_rank=0)
    edges = [8] * chosen.depth
    with Copies() as seen:
        training = SimpleNamespace(fabric=fabric, protocol=chosen, network=SimpleNamespace(edges=edges))
        paths = ImageTraining._paths(training, 0.1, torch.Generator())
    assert paths.shape == (sum(edges), chosen.batch_size // devices) and paths.dtype == torch.float32
    assert 0 < max(seen.bytes) < 64 * KILOBYTE


class Copies(TorchDispatchMode):
    """The bytes of each copy from the CPU to the meta device."""

    def __init__(self):
        super().__init__()
        self.bytes = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        if function.overloadpacket.__name__ == "_to_copy" and found.is_meta and not args[0].is_meta:
            self.bytes.append(args[0].nbytes)
        return found


def test_a_step_of_the_training_of_a_language_model(monkeypatch):
    words, cpu = torch.zeros(64, dtype=torch.int64), torch.Generator()
    monkeypatch.setattr(torch, "Generator", lambda *_: cpu)
    monkeypatch.setattr("ldarts_lib.evaluation.language.window_length", lambda *_: 8)  # drawn on the CPU
    text = SimpleNamespace(name="t", vocabulary=["a", "b"], train=words, valid=words, test=words)
    chosen = training_protocol("mine", published("DARTS_V2_ptb"), size="smoke")
    chosen = chosen.model_copy(update={"units": 4, "batch_size": 4, "evaluation_columns": 4})
    training = LanguageTraining(chosen, text, "meta")
    training.average = [parameter.detach().clone() for parameter in training.parameters]
    reader = Reader(training.train, training.model.initial_hidden(4))
    with OnlyThere():
        assert training._step(reader).is_meta


def test_a_batch_of_imagenet_takes_the_memory_that_the_workflow_says(repository):
    """An estimate, to be met within 10 %: eight times what a step keeps of 128 images."""
    text = (repository / "workflow" / "Snakefile").read_text(encoding="utf-8")
    (told,) = re.findall(r"estimated (\d+) GiB", text)
    chosen = training_protocol("mine", published("DARTS_V2"), "imagenet", "imagenet", "paper")
    facts = SimpleNamespace(facts={}, training_count=1024, classes=1000, channels=3)
    with torch.device("meta"):
        training = ImageTraining(OneDevice(), chosen, facts)
        images, labels = torch.empty(128, 3, 224, 224), torch.zeros(128, dtype=torch.int64)
    with Usage() as usage:
        training._step(images, labels, None)
    assert chosen.batch_size / 128 * usage.peak / 2**30 == pytest.approx(int(told), rel=0.1)
