"""Each remedy's defining property against a naive formula, and the interface that they share."""

import pytest
import torch

from helpers import drawn_alphas, small_batch, small_supernet
from ldarts_lib.bilevel.half_steps import Bilevel
from ldarts_lib.bilevel.methods import METHODS
from ldarts_lib.bilevel.protocols import SearchProtocol, protocol
from ldarts_lib.bilevel.remedies import described
from ldarts_lib.bilevel.remedies.table import REMEDIES
from ldarts_lib.errors import ProtocolError

EPOCHS = 5


def scene(method, epoch=2, **settings):
    """Both half-steps of a small network in float64, in an epoch of five; t/(T−1) = 1/2 in the middle."""
    generator = torch.Generator().manual_seed(0)
    net = small_supernet("nasbench201", generator=generator)
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
    torch.testing.assert_close(grad, total + 8 / 2 * p / len(p), rtol=1e-9, atol=1e-12)


def test_every_remedy_is_a_documented_module_and_a_line_in_the_table():
    assert {*described()} == {*REMEDIES} < {*METHODS}
    for name, remedy in REMEDIES.items():
        chosen = protocol(method=name)
        assert remedy.strength in remedy.model_fields or remedy.strength in SearchProtocol.model_fields
        assert not remedy.model_fields.keys() & SearchProtocol.model_fields.keys(), "one name, one meaning"
        assert chosen.remedy == remedy().model_dump()
        assert SearchProtocol.model_validate_json(chosen.model_dump_json()) == chosen


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
