import math

import pytest
import torch

from helpers import random_weights, small_batch
from ldarts_lib.bilevel.gradients import gradients
from ldarts_lib.bilevel.half_steps import Bilevel
from ldarts_lib.bilevel.methods import METHODS
from ldarts_lib.bilevel.packed import run_packed
from ldarts_lib.bilevel.protocols import protocol
from ldarts_lib.bilevel.regularizers import Regularizer, regularized_gradients
from ldarts_lib.bilevel.search import SearchResult, search, search_all
from ldarts_lib.bilevel.state import SearchState
from ldarts_lib.bilevel.trajectory import Trajectory
from ldarts_lib.errors import ProtocolError
from ldarts_lib.fast.packed import PackedSupernet
from ldarts_lib.networks.batches import Batch
from ldarts_lib.networks.supernet import Supernet, initial_alphas
from ldarts_lib.runs.directory import Run

COPIES = 3


def small(**settings):
    """Three steps an epoch."""
    return protocol(size="smoke", **{"batch_size": 40, "split": 0.12} | settings)


def generators():
    return [torch.Generator().manual_seed(seed) for seed in range(COPIES)]


def pack(depth=1, reduction="light", activation="relu"):
    """Reference supernets in float64, and the pack of them."""
    sizes = {"channels": 2, "depth": depth, "classes": 3, "channels_in": 1, "reduction": reduction}
    sizes["activation"] = activation
    space = protocol().search_space
    singles = []
    for seed, generator in enumerate(generators()):
        torch.manual_seed(seed)
        single = Supernet(space, generator=generator, **sizes).double()
        for buffer in single.buffers():
            if buffer.dim():
                buffer.add_(torch.rand_like(buffer))
        singles.append(single)
    packed = PackedSupernet(space, generators(), **sizes).double()
    packed.load(singles)
    return packed, singles


def scene(first=0):
    """A batch for each network, and all of them side by side."""
    batches = [small_batch(first + seed) for seed in range(COPIES)]
    together = Batch(torch.cat([b.inputs for b in batches], 1), torch.stack([b.targets for b in batches]))
    return batches, together


def weights_of(singles):
    each = [random_weights(net, seed) for seed, net in enumerate(singles)]
    return each, {"normal": torch.stack([w["normal"].detach() for w in each], 1).requires_grad_()}


def assert_packed(packed_tensors, single_tensors):
    for packed, parts in zip(packed_tensors, zip(*single_tensors, strict=True), strict=True):
        torch.testing.assert_close(
            packed.flatten(), torch.cat([p.flatten() for p in parts]), rtol=1e-9, atol=1e-12
        )


@pytest.mark.parametrize("few", [COPIES, COPIES - 1])
@pytest.mark.parametrize(("depth", "reduction"), [(1, "light"), (2, "residual")])
def test_a_pack_is_its_networks(monkeypatch, depth, reduction, few):
    """In a small one the edges that leave a state are computed together."""
    monkeypatch.setattr("ldarts_lib.fast.execution.FEW", few)
    packed, singles = pack(depth, reduction)
    batches, together = scene()
    each, weights = weights_of(singles)
    for mode in (True, False):
        packed.train(mode)
        found = gradients(packed, together, weights, update_statistics=True)
        expected = [
            gradients(net.train(mode), batch, w, update_statistics=True)
            for net, batch, w in zip(singles, batches, each, strict=True)
        ]
        torch.testing.assert_close(found.loss, torch.stack([e.loss for e in expected]))
        torch.testing.assert_close(found.output, torch.stack([e.output for e in expected]))
        cells = torch.stack([e.cells["normal"] for e in expected], 1)
        torch.testing.assert_close(found.cells["normal"], cells, rtol=1e-9, atol=1e-12)
        assert_packed(found.weights, [e.weights for e in expected])
    _, handed_back = pack(depth, reduction)
    packed.unload(handed_back)
    for net, other in zip(singles, handed_back, strict=True):
        for one, two in zip(net.state_dict().values(), other.state_dict().values(), strict=True):
            torch.testing.assert_close(one, two)


@pytest.mark.parametrize("form", ["cosine", "sign", "edge", "random"])
@pytest.mark.parametrize("estimator", ["exact", "central", "forward"])
def test_each_network_has_its_own_regularizer(form, estimator):
    packed, singles = pack()
    batches, together = scene()
    each, weights = weights_of(singles)
    regularizer = Regularizer(form, estimator, 1e-3)
    found, penalty = regularized_gradients(packed, together, weights, regularizer)
    expected = [
        regularized_gradients(net, batch, w, regularizer)
        for net, batch, w in zip(singles, batches, each, strict=True)
    ]
    assert_packed(found.weights, [e.weights for e, _ in expected])
    for ours, parts in zip(penalty, zip(*(p for _, p in expected), strict=True), strict=True):
        theirs = torch.cat([p.flatten() for p in parts])
        assert (ours.flatten() - theirs).norm() <= 1e-7 * theirs.norm() + 1e-12


@pytest.mark.parametrize(
    "changes",
    [
        *({"method": method} for method in METHODS if method != "darts-2nd"),
        {"method": "lambda-noise", "estimator": "central", "epsilon": 0.1},
        {"method": "lambda-blurred", "estimator": "central", "epsilon": 0.1},
        {"regularizer_batch": "validation"},
        {"regularizer_batch": "both"},
        {"activation": "gelu"},
    ],
    ids=str,
)
def test_steps_together_are_the_steps_alone(changes):
    settings = protocol(clip=0.5, epochs=3, **changes)
    packed, singles = pack(activation=settings.activation)
    alphas = [initial_alphas(settings.search_space, generator=g, dtype=torch.float64) for g in generators()]
    stacked = {"normal": torch.stack([a["normal"].detach() for a in alphas]).requires_grad_()}
    ours = Bilevel(packed, stacked, settings)
    theirs = [Bilevel(net, a, settings) for net, a in zip(singles, alphas, strict=True)]
    for step in range(3):
        (training, of_weights), (validation, of_alpha) = scene(), scene(10 * step)
        for bilevel in (ours, *theirs):
            bilevel.start_epoch(1)
        norms = ours.step(of_weights, of_alpha)[0].norms
        every = zip(theirs, training, validation, strict=True)
        alone = torch.stack([bilevel.step(*batches)[0].norms for bilevel, *batches in every])
        torch.testing.assert_close(norms, alone, equal_nan=True)
    assert_packed(ours.parameters, [bilevel.parameters for bilevel in theirs])
    torch.testing.assert_close(stacked["normal"], torch.stack([a["normal"] for a in alphas]))
    assert not torch.allclose(stacked["normal"][0], stacked["normal"][1])


@pytest.mark.parametrize("method", ["darts", "lambda"])
def test_searches_together_leave_what_searches_alone_leave(tmp_path, method):
    protocols = [small(method=method, seed=seed) for seed in range(3)]
    run_packed(protocols, [tmp_path / str(p.seed) for p in protocols])
    for settings in protocols:
        result = SearchResult.read(tmp_path / str(settings.seed))
        alone = search(settings, tmp_path / f"alone{settings.seed}", progress=False)
        assert {path.name for path in result.path.iterdir()} == {path.name for path in alone.path.iterdir()}
        for one, two in zip(result.history, alone.history, strict=True):
            assert one.keys() == two.keys()
            assert one["train_loss"] == pytest.approx(two["train_loss"], rel=1e-3)
            assert one["valid_alignment"] == pytest.approx(two["valid_alignment"], abs=0.02)
        together, single = (Trajectory.load(r.path) for r in (result, alone))
        assert abs(together.weights["normal"] - single.weights["normal"]).max() < 1e-3
        saved, expected = (Run(r.path).read_checkpoint() for r in (result, alone))
        for ours, theirs in zip(saved["supernet"].values(), expected["supernet"].values(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-2, atol=2e-3)
        if method == "darts":  # second derivatives amplify the roundings
            moments = [s["alpha_optimizer"]["state"][0]["exp_avg"] for s in (saved, expected)]
            assert (moments[0] - moments[1]).norm() < 0.02 * moments[1].norm()


def interrupt_after(monkeypatch, saves):
    save, saved = SearchState.save, []

    def interrupted(state, run):
        saved.append(run.path)
        if len(saved) > saves:
            raise KeyboardInterrupt
        save(state, run)

    monkeypatch.setattr(SearchState, "save", interrupted)
    monkeypatch.setattr("ldarts_lib.bilevel.packed.SAVE_SECONDS", 0)


@pytest.mark.parametrize("saves", [3, 5])
def test_an_interrupted_pack_continues(tmp_path, monkeypatch, saves):
    """Between epochs bit for bit; while it saves, some are an epoch ahead and go on alone."""
    protocols = [small(epochs=3, seed=seed) for seed in range(3)]
    paths = [tmp_path / f"part{p.seed}" for p in protocols]
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt_after(patch, saves)
        run_packed(protocols, paths)
    wholes = [tmp_path / f"whole{p.seed}" for p in protocols]
    run_packed(protocols, paths)
    run_packed(protocols, wholes)
    for one, other in zip(map(SearchResult.read, wholes), map(SearchResult.read, paths), strict=True):
        assert [row["epoch"] for row in other.history] == [0, 1, 2]
        if saves == 3:
            assert [r | {"seconds": 0} for r in one.history] == [r | {"seconds": 0} for r in other.history]
            assert torch.equal(one.alphas["normal"], other.alphas["normal"])
        else:
            assert one.history[-1]["train_loss"] == pytest.approx(other.history[-1]["train_loss"], rel=0.02)


def test_a_study_packs_what_can_be_packed(tmp_path):
    protocols = {
        **{f"lambda{seed}": small(epochs=1, seed=seed) for seed in range(3)},
        "other": small(epochs=1, method="darts-2nd"),
    }
    found = search_all(protocols, tmp_path, workers=1, together=2)
    assert list(found) == list(protocols)
    assert all(math.isfinite(result.history[0]["train_loss"]) for result in found.values())
    with pytest.raises(ValueError, match="together must be at least 1, got 0"):
        search_all({}, tmp_path, together=0)


def test_what_cannot_run_together_is_refused(tmp_path):
    different = [protocol(seed=0), protocol(seed=1, epochs=3)]
    with pytest.raises(ProtocolError, match="nothing but the seed"):
        run_packed(different, [tmp_path / "a", tmp_path / "b"])
    with pytest.raises(ProtocolError, match="cannot run together"):
        run_packed([protocol("s2")], [tmp_path / "a"])
    with pytest.raises(ValueError, match="'s2' cannot be packed"):
        PackedSupernet(protocol("s2").search_space, generators(), channels=2, depth=5, classes=3)
    with pytest.raises(ValueError, match="at least two networks, got 1"):
        PackedSupernet(protocol().search_space, generators()[:1], channels=2, depth=1, classes=3)
    with pytest.raises(ValueError, match=r"expected \(3, 3, 6, 5\), got \(3, 6, 5\)"):
        packed, singles = pack()
        packed(torch.zeros(2, 3, 8, 8, dtype=torch.float64), random_weights(singles[0]))
