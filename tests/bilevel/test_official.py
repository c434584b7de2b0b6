"""Size ``official`` against a plain reading of the released loops, made with PyTorch alone."""

from copy import deepcopy

import pytest
import torch

from helpers import drawn_alphas, small_batch, small_supernet
from ldarts_lib.bilevel.half_steps import Bilevel
from ldarts_lib.bilevel.packed import can_pack
from ldarts_lib.bilevel.protocols import protocol
from ldarts_lib.bilevel.state import SearchState
from ldarts_lib.datasets.images import load_images
from ldarts_lib.errors import ProtocolError

TINY = {"channels": 1, "depth": 1, "batch_size": 300, "reduction": "light"}


def test_what_the_scripts_do_not_have_is_refused_by_name():
    for space, method in (("nasbench201", "lambda-sign"), ("darts", "lambda-projected"), ("s2", "oles")):
        with pytest.raises(
            ProtocolError, match=rf"method = '{method}': .* choose one of darts, darts-2nd, lam"
        ):
            protocol(space, "cifar10", method, "official")
    with pytest.raises(ProtocolError, match="neither with clip_alpha nor with short batches"):
        protocol("nasbench201", size="official", cuda_graph=True)
    with pytest.raises(ProtocolError, match=r"halves 'listed' needs split = 0\.5 and one of cifar10"):
        protocol("nasbench201", halves="listed")
    with pytest.raises(ProtocolError, match="clip_alpha is for α that nothing else moves"):
        protocol("nasbench201", method="oles", clip_alpha=True)
    assert not can_pack(protocol("nasbench201", size="official"))
    texts = (protocol("ptb", "ptb", size=size) for size in ("paper", "official"))
    assert {(p.alpha_beta, p.units, p.lambda_max, p.epsilon) for p in texts} == {(0.9, 200, 0.25, 1e-3)}


class Released:
    """Steps as released: ``backward`` adds to gradients, which are cleared where the scripts clear them."""

    def __init__(self, net, alphas, p):
        self.net, self.p = net, p
        self.alphas = {kind: a.detach().clone().requires_grad_() for kind, a in alphas.items()}
        self.weights, self.of_alpha = list(net.parameters()), list(self.alphas.values())
        rate = p.learning_rate(0)
        self.w_optimizer = torch.optim.SGD(self.weights, lr=rate, momentum=0.9, weight_decay=3e-4)
        self.a_optimizer = torch.optim.Adam(self.of_alpha, p.alpha_lr, betas=(0.5, 0.999), weight_decay=1e-3)

    def loss(self, batch, moves=None):
        """The loss with p of each cell moved, and the copies of p that the cells get."""
        copies = {}
        for kind, alpha in self.alphas.items():
            copies[kind] = torch.stack([alpha.softmax(-1)] * self.net.layout.count(kind))
            copies[kind].retain_grad()
        read = copies | ({"normal": copies["normal"] + moves} if moves is not None else {})
        output = self.net(batch.inputs, read, update_statistics=False)
        return torch.nn.functional.cross_entropy(output, batch.targets), copies["normal"]

    def weight_step(self, batch):
        self.w_optimizer.zero_grad()
        loss, copies = self.loss(batch)
        loss.backward()
        if self.p.method == "lambda":
            g = copies.grad.flatten(1)
            u, eye = g / g.norm(dim=1, keepdim=True), torch.eye(g.shape[1], dtype=g.dtype)
            rows = [(eye - v.outer(v)) / x.norm() @ u.sum(0) for v, x in zip(u, g, strict=True)]
            delta = torch.stack(rows).view_as(copies) * 2 / (len(g) * (len(g) - 1))
            far = self.p.epsilon / delta.norm()
            ends = [torch.autograd.grad(self.loss(batch, s * far * delta)[0], self.weights) for s in (-1, 1)]
            for w, first, second in zip(self.weights, *ends, strict=True):
                w.grad += self.p.lambda_max * (first - second) / (2 * far)
        among = self.weights + (self.of_alpha if self.p.clip_alpha else [])
        self.norm = torch.nn.utils.clip_grad_norm_(among, self.p.clip)
        self.w_optimizer.step()

    def alpha_step(self, batch):
        self.a_optimizer.zero_grad()
        self.loss(batch)[0].backward()
        self.a_optimizer.step()

    def step(self, training, validation):
        if self.p.step_order == "weights-first":
            self.weight_step(training)
        self.alpha_step(validation)
        if self.p.step_order == "alpha-first":
            self.weight_step(training)


@pytest.mark.parametrize(
    ("space", "method"), [("nasbench201", "darts"), ("nasbench201", "lambda"), ("s2", "lambda")]
)
def test_steps_equal_a_plain_reading(space, method):
    settings = {"epochs": 1, "clip": 0.3, "depth": 1 if space == "nasbench201" else 4}
    chosen = protocol(space, "noisy-digits", method, "official", **settings)
    one, other = (
        small_supernet(space, depth=chosen.depth, generator=torch.Generator().manual_seed(5)) for _ in "ab"
    )
    alphas = drawn_alphas(one)
    theirs, ours = Released(other, alphas, chosen), Bilevel(one, alphas, chosen)
    ours.start_epoch(0)
    for step, size in enumerate((4, 3)):  # the last batch of a pass is short
        batches = [small_batch(2 * step + half, size=size, pixels=4) for half in (0, 1)]
        of_weights, _ = ours.step(*batches)
        theirs.step(*batches)
        assert theirs.norm > chosen.clip  # it is cut, and by what is in the norm
        torch.testing.assert_close(of_weights.norms[-2], theirs.norm, rtol=1e-6, atol=0)
    pairs = [*zip(ours.parameters, theirs.weights, strict=True)]
    for mine, yours in [*pairs, *zip(ours.alphas.values(), theirs.of_alpha, strict=True)]:
        torch.testing.assert_close(mine.detach(), yours.detach(), rtol=1e-7, atol=1e-9)


def test_batches_are_those_of_the_scripts():
    images = load_images("noisy-digits")
    state = SearchState(protocol("nasbench201", method="darts", size="official", **TINY), images)
    pairs = list(state.pairs())
    assert [(len(w.targets), len(a.targets)) for w, a in pairs] == [(300, 300), (200, 200)]
    rows = torch.cat([a.inputs for _, a in pairs]).flatten(1)
    assert len(rows.unique(dim=0)) < 400  # 500 draws with replacement show about 316 of 500 images
    chain = TINY | {"depth": 3}
    (w, a), (last, other) = SearchState(
        protocol("s2", method="darts", size="official", **chain), images
    ).pairs()
    assert len(torch.cat([a.inputs, other.inputs]).flatten(1).unique(dim=0)) == len(w.targets) + 200
    assert len(last.targets) == len(other.targets) == 200


def test_a_search_with_alpha_in_the_norm_goes_on_bit_for_bit():
    images = load_images("noisy-digits")
    chosen = protocol("nasbench201", method="darts", size="official", epochs=2, clip=0.1, **TINY)
    first, again = (SearchState(chosen, images) for _ in range(2))
    first.run_epoch(0)
    again.restore(deepcopy(first.checkpoint()))
    rows = [state.run_epoch(1) | {"seconds": 0} for state in (first, again)]
    assert rows[0] == rows[1]
    for kind, alpha in first.bilevel.alphas.items():
        assert torch.equal(alpha, again.bilevel.alphas[kind])
