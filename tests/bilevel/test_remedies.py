"""Each remedy's defining property against a naive formula, and the interface that they share."""

import pytest
import torch

from helpers import drawn_alphas, small_batch, small_supernet
from ldarts_lib.bilevel.gradients import gradients
from ldarts_lib.bilevel.half_steps import Bilevel
from ldarts_lib.bilevel.methods import METHODS
from ldarts_lib.bilevel.packed import PackedSearch
from ldarts_lib.bilevel.protocols import SearchProtocol, protocol
from ldarts_lib.bilevel.remedies import described
from ldarts_lib.bilevel.remedies.sdarts_rs import on_simplex
from ldarts_lib.bilevel.remedies.table import REMEDIES
from ldarts_lib.bilevel.state import SearchState
from ldarts_lib.datasets.images import load_images
from ldarts_lib.errors import ProtocolError
from ldarts_lib.fast.supernet import FastSupernet
from ldarts_lib.networks.supernet import MixedOperation, Supernet, architecture_weights, cell_copies

EPOCHS = 5


def scene(method, epoch=1, supernet=Supernet, **settings):
    """Both half-steps of a small network in float64, in the second epoch of five; t/(T−1) = 1/4."""
    generator = torch.Generator().manual_seed(0)
    reference = small_supernet("nasbench201", generator=generator)
    net = supernet(
        reference.space, channels=2, depth=1, classes=3, channels_in=1, generator=generator
    ).double()
    net.load_state_dict(reference.state_dict())
    alphas = {kind: alpha.requires_grad_() for kind, alpha in drawn_alphas(net).items()}
    bilevel = Bilevel(net, alphas, protocol(method=method, epochs=EPOCHS, **settings))
    bilevel.start_epoch(epoch)
    return bilevel


def alpha_gradient(bilevel):
    """What a step of α follows, and the cells' gradients of that step."""
    batch = small_batch()
    found = bilevel.alpha_step(batch, batch)
    return bilevel.alphas["normal"].grad, found.cells["normal"]


def naive_gradient(alpha, function):
    leaf = alpha.detach().clone().requires_grad_()
    return torch.autograd.grad(function(leaf), leaf)[0]


def test_the_decay_of_beta_darts_is_the_softmax():
    """∂/∂α mean_e log Σ exp α = p/E: largest where α is."""
    bilevel = scene("beta-darts", beta_decay=8)
    before = bilevel.alphas["normal"].detach().clone()
    grad, cells = alpha_gradient(bilevel)
    p = before.softmax(-1)
    total = naive_gradient(before, lambda a: (a.softmax(-1) * cells.sum(0)).sum())
    torch.testing.assert_close(grad, total + 8 / 4 * p / len(p), rtol=1e-9, atol=1e-12)


def test_fair_darts_follows_sigmoids_and_the_zero_one_loss():
    bilevel = scene("fair-darts", zero_one=3)
    before = bilevel.alphas["normal"].detach().clone()
    grad, cells = alpha_gradient(bilevel)
    of_loss = naive_gradient(before, lambda a: (a.sigmoid() * cells.sum(0)).sum())
    s = before.sigmoid()
    torch.testing.assert_close(grad, of_loss - 3 * 2 * (s - 0.5) * s * (1 - s) / s.numel())


def test_darts_minus_adds_a_skip_to_every_edge(monkeypatch):
    """β is 1 in the first epoch, 3/4 in the second of five and 0 in the last."""
    bilevel, batch = scene("darts-minus"), small_batch()
    weights = cell_copies(bilevel.mixtures(), bilevel.supernet.layout)
    found = bilevel.supernet(batch.inputs, weights)
    mixed = MixedOperation.forward
    monkeypatch.setattr(MixedOperation, "forward", lambda edge, x, w: mixed(edge, x, w) + x * 3 / 4)
    softmax = architecture_weights(bilevel.alphas, bilevel.supernet.layout)
    torch.testing.assert_close(found, bilevel.supernet(batch.inputs, softmax))
    bilevel.start_epoch(EPOCHS - 1)
    assert torch.equal(bilevel.mixtures()["normal"], bilevel.alphas["normal"].softmax(-1))
    for space in ("s1", "s4"):
        with pytest.raises(ProtocolError, match=f"needs skip_connect on every edge, .* {space!r}"):
            protocol(space, method="darts-minus")


def test_drnas_draws_from_a_dirichlet_distribution():
    bilevel = scene("drnas")
    alpha = bilevel.alphas["normal"].detach().clone().requires_grad_()
    torch.manual_seed(0)  # the seed of the supernet's generator
    expected = torch.distributions.Dirichlet(torch.nn.functional.elu(alpha) + 1).rsample()
    torch.testing.assert_close(bilevel.mixtures()["normal"], expected)
    bilevel.supernet.generator.manual_seed(0)
    grad, cells = alpha_gradient(bilevel)
    torch.testing.assert_close(grad, torch.autograd.grad((expected * cells.sum(0)).sum(), alpha)[0])


def test_gdas_draws_one_operation_and_only_that_one_passes_a_gradient():
    """τ = 10 − (10 − 0.1)/4; Gumbel noise is −log of an exponential variable."""
    bilevel = scene("gdas")
    alpha = bilevel.alphas["normal"].detach().clone()
    torch.manual_seed(0)  # the seed of the supernet's generator
    noise = -torch.empty_like(alpha).exponential_().log()
    drawn = (alpha.log_softmax(-1) + noise).argmax(-1)
    grad, cells = alpha_gradient(bilevel)

    def naive(a):
        soft = ((a.log_softmax(-1) + noise) / 7.525).softmax(-1)
        return sum(soft[e, o] * cells[:, e, o].sum() for e, o in enumerate(drawn.tolist()))

    torch.testing.assert_close(grad, naive_gradient(alpha, naive))
    bilevel.supernet.generator.manual_seed(0)
    one_hot = torch.eye(alpha.shape[-1], dtype=alpha.dtype)[drawn]
    with torch.no_grad():
        assert torch.equal(bilevel.mixtures()["normal"], one_hot)
    with pytest.raises(ProtocolError, match=r"tau_min = 2\.0 is above tau_max = 1\.0"):
        protocol(method="gdas", tau_max=1, tau_min=2)


def onto_simplex(p):
    """Edge by edge."""
    rows = []
    for row in p.flatten(0, -2):
        cut = row.clamp(0, 1)
        rows.append(cut / cut.sum() if cut.sum() else torch.eye(len(row), dtype=row.dtype)[row.argmax()])
    return torch.stack(rows).view_as(p)


def test_what_is_perturbed_is_cut_and_scaled_edge_by_edge():
    p = torch.tensor([[1.25, 0.25, -0.5], [0.5, 0.25, 0.25], [-0.5, -0.125, -0.25]])
    torch.testing.assert_close(on_simplex(p), torch.tensor([[0.8, 0.2, 0], [0.5, 0.25, 0.25], [0, 1, 0]]))


def test_sdarts_rs_trains_at_perturbed_weights_and_alpha_sees_its_own():
    """ε = 0.03 + (1.6 − 0.03)/4; one δ for all cells."""
    bilevel, batch = scene("sdarts-rs", radius=1.6), small_batch()
    layout = bilevel.supernet.layout
    p = architecture_weights(bilevel.alphas, layout)["normal"].detach()
    torch.manual_seed(0)  # the seed of the supernet's generator
    delta = 0.4225 * torch.empty_like(p[:1]).uniform_(-1, 1)
    moved = onto_simplex(p + delta).requires_grad_()
    expected = gradients(bilevel.supernet, batch, {"normal": moved})
    found = bilevel.weight_step(batch)
    torch.testing.assert_close(found.cells["normal"], expected.cells["normal"])
    assert not moved.eq(0).all() and moved.eq(0).any(), "some entries are cut"
    assert torch.equal(bilevel.mixtures()["normal"], bilevel.alphas["normal"].softmax(-1))


def test_sdarts_adv_ascends_the_loss_by_signs_within_a_cube():
    bilevel, batch = scene("sdarts-adv", ascents=3), small_batch()
    net, reach = bilevel.supernet.eval(), 0.03 + 0.27 / 4
    p = architecture_weights(bilevel.alphas, net.layout)["normal"].detach()

    def loss(w):
        return torch.nn.functional.cross_entropy(net(batch.inputs, {"normal": w}), batch.targets)

    torch.manual_seed(0)  # the seed of the supernet's generator
    moved = onto_simplex(p[0] + reach * torch.empty_like(p[0]).uniform_(-1, 1))
    for _ in range(3):
        shared = moved.clone().requires_grad_()
        (ascent,) = torch.autograd.grad(loss(shared.expand_as(p)), shared)
        delta = shared.detach() + 2 * reach / 3 * ascent.sign() - p[0]
        moved = onto_simplex(p[0] + delta.clamp(-reach, reach))
    bilevel.supernet.train()
    weights = cell_copies(bilevel.mixtures(), net.layout)
    found = bilevel.remedy.perturb(weights, bilevel.supernet, batch, bilevel.share)["normal"].detach()
    torch.testing.assert_close(found, moved.expand_as(p))
    assert bilevel.supernet.training
    assert loss(found) > loss(p)


@pytest.mark.parametrize("method", ["gdas", "sdarts-adv"])
def test_the_fast_supernet_serves_remedies_as_the_reference_does(method):
    steps = []
    for kind in (Supernet, FastSupernet):
        bilevel, batch = scene(method, supernet=kind), small_batch()
        steps += [[*bilevel.step(batch, batch)[0].weights, bilevel.alphas["normal"]]]
    for one, other in zip(*steps, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-9)


def search_states(method, copies):
    images, tiny = load_images("noisy-digits"), {"channels": 2, "batch_size": 20, "split": 0.04}
    settings = [protocol(method=method, size="smoke", seed=seed, **tiny) for seed in range(copies)]
    return images, [SearchState(one, images) for one in settings]


def test_a_search_with_random_numbers_goes_on_bit_for_bit():
    (_, (whole,)), (_, (first,)), (_, (second,)) = (search_states("drnas", 1) for _ in range(3))
    for state in (whole, first):
        state.run_epoch(0)
    second.restore(first.checkpoint())
    rows = [state.run_epoch(1) | {"seconds": 0} for state in (whole, second)]
    assert rows[0] == rows[1]


def test_what_a_remedy_keeps_is_each_search_s_own_in_a_pack_and_after_a_pause(monkeypatch):
    def count(self, bilevel, epoch, validation):
        self.kept["sum"] = self.kept.get("sum", 0) + validation.targets.sum(-1)

    monkeypatch.setattr(REMEDIES["beta-darts"], "after_epoch", count)
    images, packed = search_states("beta-darts", 2)
    PackedSearch(packed, images).run_epoch(0)
    _, resumed = search_states("beta-darts", 2)
    for state, earlier in zip(resumed, packed, strict=True):
        state.restore(earlier.checkpoint())
    PackedSearch(resumed, images).run_epoch(1)
    for alone, state in zip(search_states("beta-darts", 2)[1], resumed, strict=True):
        alone.run_epoch(0), alone.run_epoch(1)
        assert torch.equal(state.checkpoint()["remedy"]["sum"], alone.checkpoint()["remedy"]["sum"])


def test_every_remedy_is_a_documented_module_and_a_line_in_the_table():
    assert {*described()} == {*REMEDIES} < {*METHODS}
    for name, remedy in REMEDIES.items():
        chosen = protocol(method=name)
        assert remedy.strength in remedy.model_fields or remedy.strength in SearchProtocol.model_fields
        assert not remedy.model_fields.keys() & SearchProtocol.model_fields.keys(), "one name, one meaning"
        assert chosen.remedy == remedy().model_dump()
        assert SearchProtocol.model_validate_json(chosen.model_dump_json()) == chosen


PUBLISHED = {
    "darts-es": {"growth": 1 / 0.75 - 1, "window": 5 / 50, "start": 10 / 50},
    "r-darts": {"decay": 9},
    "sdarts-rs": {"radius": 0.3},
    "sdarts-adv": {"radius": 0.3, "ascents": 7},
    "darts-minus": {"skip": 1},
    "beta-darts": {"beta_decay": 50},
    "pc-darts": {"partial": 4, "wait": 15 / 50},
    "gdas": {"tau_max": 10, "tau_min": 0.1},
    "fair-darts": {"zero_one": 10},
    "oles": {"threshold": 0.4, "steps": 20},
}
"""As the papers and their code have it, with searches of 50 epochs."""


@pytest.mark.parametrize("method", PUBLISHED)
def test_the_defaults_of_a_remedy_are_published(method):
    found = REMEDIES[method]().model_dump()
    assert {name: found[name] for name in PUBLISHED[method]} == pytest.approx(PUBLISHED[method])


def test_settings_of_a_remedy_are_given_by_name_and_checked():
    chosen = protocol(method="beta-darts", beta_decay="12.5", epochs=3)
    assert chosen.remedy == {"beta_decay": 12.5} and chosen.epochs == 3
    assert "beta_decay = 12.5" in chosen.changed and "remedy" not in chosen.changed
    assert protocol(method="lambda+beta-darts", lambda_max=2.0).form == "cosine"
    for settings, message in (
        ({"beta_decay": -1}, "beta_decay = -1: "),
        (
            {"tau": 1},
            "unknown setting 'tau'; .* cuda_graph, remedy, and of method 'beta-darts' beta_decay",
        ),
        ({"lambda_max": 2.0, "ramp": "constant"}, "lambda_max, ramp: method 'beta-darts' has no regularizer"),
        ({"cuda_graph": True}, "cuda_graph cannot replay"),
        ({"method": "darts", "remedy": {"beta_decay": 1}}, "remedy: method 'darts' has none"),
        ({"method": "darts", "beta_decay": 1}, "unknown setting 'beta_decay'"),
        ({"method": "lambda+darts-2nd"}, r"method = 'lambda\+darts-2nd': .*lambda\+beta-darts"),
    ):
        with pytest.raises(ProtocolError, match=message):
            protocol(**{"method": "beta-darts"} | settings)
