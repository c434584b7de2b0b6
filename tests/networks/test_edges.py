"""Partial channels and drop-path against their formulas, in the reference, the fast supernet and packs."""

from __future__ import annotations

import pytest
import torch

from helpers import error, naive_operation, small_batch, small_space
from ldarts_lib.fast.packed import PackedSupernet
from ldarts_lib.fast.supernet import FastSupernet
from ldarts_lib.networks.supernet import Supernet
from ldarts_lib.spaces.space import SPACES

SIZES = {"classes": 3, "channels_in": 1}


def partial_net(kind, space, **options):
    depth = 1 if space.macro == "stages" else 5
    torch.manual_seed(3)
    return kind(space, channels=8, depth=depth, partial=4, **SIZES, **options).double()


def weights_of(net, copies=()):
    draw = torch.Generator().manual_seed(1)
    found = {}
    for kind, cell in net.space.cells.items():
        for name, shape in ((kind, cell.shape), (f"{kind}_edges", cell.shape[:1])):
            drawn = torch.rand(net.layout.count(kind), *copies, *shape, generator=draw, dtype=torch.float64)
            found[name] = drawn.requires_grad_()
    return found


def naive_cell(cell, states, p, beta):
    """s_i = Σ_j β_ij shuffle[Σ_o p_o o(x₁), x₂] with x₁ the first quarter of the channels (PC-DARTS)."""
    space, states = cell.space, list(states)
    for node in range(space.inputs, space.inputs + space.nodes):
        total = 0
        for e, (target, source) in enumerate(space.edges):
            if target != node:
                continue
            x, stride = states[source], 2 if cell.halve and source < space.inputs else 1
            seen, rest = x[:, : x.shape[1] // 4], x[:, x.shape[1] // 4 :]
            operations = zip(space.candidates[e], cell.edges[e].operations, strict=True)
            mixed = sum(p[e, o] * naive_operation(n, m, seen, stride) for o, (n, m) in enumerate(operations))
            rest = torch.nn.functional.max_pool2d(rest, 2) if stride == 2 else rest
            both = torch.cat([mixed, rest], 1)
            order = [group * both.shape[1] // 4 + c for c in range(both.shape[1] // 4) for group in range(4)]
            total = total + beta[e] * both[:, order]
        states.append(total)
    return torch.cat([states[node] for node in space.output_nodes], 1)


@pytest.mark.parametrize("name", ["nasbench201", "darts"])
def test_partial_channels_are_the_formula(name):
    net = partial_net(Supernet, small_space(name))
    p = weights_of(net)
    place = net.layout.index("reduce") if "reduce" in net.layout else 0
    cell, kind = net.macro.cells[place], net.layout[place]
    width = 8 * (2 if cell.halve else 1)
    states = [torch.randn(4, width, 8, 8, dtype=torch.float64) for _ in range(cell.space.inputs)]
    first = p[kind][0], p[f"{kind}_edges"][0]
    found = cell(states, torch.cat([first[0], first[1][:, None]], 1))
    assert torch.allclose(found, naive_cell(cell, states, *first))


@pytest.mark.parametrize(
    ("name", "strategy", "keep"),
    [("nasbench201", "separate", 0.5), ("s4", "batched", 0.5), ("s2", "separate", 1.0)],
)
def test_the_fast_supernet_has_the_same_edges(name, strategy, keep):
    space, batch = small_space(name), small_batch()
    nets = [partial_net(Supernet, space), partial_net(FastSupernet, space, strategy=strategy)]
    nets[1].load_state_dict(nets[0].state_dict())
    found = []
    for net in nets:
        draw = torch.Generator().manual_seed(5)
        net.rule.keep, net.rule.generators = keep, [draw]
        for module in net.modules():
            if hasattr(module, "generator"):
                module.generator = draw
        p = weights_of(net)
        loss = batch.losses(net(batch.inputs, p, update_statistics=False))
        with net.architecture_only():
            first = torch.autograd.grad(loss, [*p.values()], create_graph=True)
        inner = loss + sum(g.square().sum() for g in first)
        second = torch.autograd.grad(inner, [*p.values(), *net.parameters()])
        found.append([x.detach() for x in (loss, *first, *second)])
    assert error(found[1], found[0]) < 1e-9


def test_networks_in_a_pack_keep_and_drop_what_each_alone_does():
    space, batches = SPACES["nasbench201"], [small_batch(0), small_batch(1)]
    singles, sizes = [], {"channels": 8, "depth": 1, "partial": 4, **SIZES}
    for seed in range(2):
        torch.manual_seed(seed)
        draw = torch.Generator().manual_seed(seed)
        singles.append(FastSupernet(space, generator=draw, **sizes).double())
    pack = PackedSupernet(space, [torch.Generator().manual_seed(seed) for seed in range(2)], **sizes).double()
    pack.load(singles)
    p = weights_of(pack, (2,))
    pack.rule.keep = 0.5
    found = pack(torch.cat([batch.inputs for batch in batches], 1), p)
    for copy, (net, batch) in enumerate(zip(singles, batches, strict=True)):
        net.rule.keep = 0.5
        own = {kind: w[:, copy] for kind, w in p.items()}
        assert torch.allclose(found[copy], net(batch.inputs, own))


def test_an_edge_is_dropped_for_an_image_or_scaled():
    """E[kept] = 1: entries are 0 or 1/keep, as often as told, and each edge and image draws by itself."""
    net = Supernet(SPACES["nasbench201"], channels=2, depth=1, generator=torch.Generator(), **SIZES)
    net.rule.keep = 0.8
    _, others = net.rule.weights(torch.ones(6, 5), torch.zeros(500, 2, 4, 4))
    kept = torch.stack([keep for _, keep in others])
    assert kept.unique().tolist() == pytest.approx([0, 1.25])
    assert (kept > 0).float().mean((1, 2)).sub(0.8).abs().max() < 0.06
