import copy
import json
import math
import shutil

import pytest
import torch
from lightning_fabric import connector

from ldarts_lib.datasets.images import load_images
from ldarts_lib.errors import ProtocolError, RunError
from ldarts_lib.evaluation import evaluate as evaluation
from ldarts_lib.evaluation.devices import make_fabric
from ldarts_lib.evaluation.evaluate import evaluate
from ldarts_lib.evaluation.images import training_images
from ldarts_lib.evaluation.protocols import training_protocol
from ldarts_lib.evaluation.training import ImageTraining, Objective, has_dead_ends, network_of
from ldarts_lib.runs.directory import Run
from ldarts_lib.runs.environment import allows_tf32
from ldarts_lib.runs.processes import ProcessFailed
from ldarts_lib.runs.record import Diverged
from ldarts_lib.spaces.notations import parse
from ldarts_lib.spaces.published import published

CPU = torch.device("cpu")
ONE_CELL = parse("|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|nor_conv_3x3~2|")
NOISY = parse(
    "Genotype(normal=[('noise', 0), ('sep_conv_3x3', 1)], normal_concat=[2], "
    "reduce=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1)], reduce_concat=[2])"
)


def small(recipe="cifar-small", size="smoke", cell=None, **overrides):
    cell = cell or (ONE_CELL if recipe == "nasbench201" else published("DARTS_V2"))
    settings = {"images": 32, "batch_size": 16} | overrides
    return training_protocol("a cell", cell, "digits", recipe, size, **settings)


def run(protocol, out, **options):
    return evaluate(protocol, out, device="cpu", progress=False, **options)


def weights(path):
    return Run(path).read_checkpoint()["network"]


def start(protocol):
    return ImageTraining(make_fabric(CPU, 1, protocol.precision), protocol, training_images(protocol, CPU))


SEARCHED = {"space": "s2", "dataset": "digits", "method": "darts", "size": "smoke", "seed": 3}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run: its directory, protocol and metrics."""
    out, protocol = tmp_path_factory.mktemp("training") / "run", small(searched=SEARCHED, cutout=8)
    return out, protocol, run(protocol, out)


def test_a_network_learns(tmp_path):
    protocol = small("nasbench201", epochs=5, images=None, batch_size=32, channels=8, test_every=2)
    found = run(protocol, tmp_path / "run")
    history = Run(tmp_path / "run").read_history()
    assert found["test_accuracy"] > 0.8
    assert found["test_top5_accuracy"] > found["test_accuracy"]
    assert history[-1]["train_loss"] < history[0]["train_loss"] / 2
    tested = [row["epoch"] for row in history if not math.isnan(row["test_accuracy"])]
    assert tested == [1, 3, 4]
    assert found["test_accuracy"] == history[-1]["test_accuracy"]
    assert found["best_test_accuracy"] == max(history[e]["test_accuracy"] for e in tested)


def test_the_run_directory_says_everything(trained):
    out, protocol, found = trained
    stored = {path.name for path in out.iterdir() if path.suffix}
    facts = {f"{name}.json" for name in ("config", "environment", "genotype", "images", "metrics")}
    assert stored == facts | {"history.csv", "checkpoint.pt"}
    assert json.loads((out / "metrics.json").read_text()) == found
    assert "searched" not in json.loads((out / "config.json").read_text())
    assert (found["version"], found["stage"], found["recipe"]) == (1, "evaluate", "cifar-small")
    assert (found["searched"], found["changed"]) == (SEARCHED, "images = 32, batch_size = 16, cutout = 8")
    network = network_of(protocol, load_images("digits"))
    head = sum(p.numel() for p in network.auxiliary.parameters())
    assert found["parameters"] == sum(p.numel() for p in network.parameters()) - head


def test_a_finished_run_needs_no_images_and_belongs_to_its_settings(trained, monkeypatch):
    out, protocol, found = trained
    monkeypatch.setattr(evaluation, "training_images", lambda *_, **__: pytest.fail("loaded"))
    assert run(protocol, out) == found
    with pytest.raises(RunError, match=r"another run \(channels: 4 → 8"):
        run(protocol.model_copy(update={"channels": 8}), out)


@pytest.mark.parametrize("recipe", ["cifar-small", "nasbench201", "noise"])
def test_a_training_repeats_and_restores_bit_for_bit(recipe):
    recipe, cell = ("cifar-small", NOISY) if recipe == "noise" else (recipe, None)
    protocol = small(recipe, epochs=3, cell=cell)
    whole = start(protocol)
    rows = [whole.run_epoch(0, lambda: None)]
    saved = copy.deepcopy(whole.checkpoint())
    rows += [whole.run_epoch(epoch, lambda: None) for epoch in (1, 2)]
    torch.rand(7)  # whatever else happened
    parts = start(protocol)
    parts.restore(saved)
    again = [parts.run_epoch(epoch, lambda: None) for epoch in (1, 2)]
    assert [row | {"seconds": 0} for row in again] == [row | {"seconds": 0} for row in rows[1:]]
    expected, found = whole.network.state_dict(), parts.network.state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    other = start(small(recipe, cell=cell, seed=1)).network.state_dict()
    assert not torch.equal(other["macro.stem.0.weight"], expected["macro.stem.0.weight"])


def same_weights(folder, protocol):
    """Train in one process and in two, and compare the weights; returns both outcomes."""
    found = run(protocol, folder / "one"), run(protocol, folder / "two", devices=2)
    pairs = zip(weights(folder / "one").values(), weights(folder / "two").values(), strict=True)
    for a, b in pairs:
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)
    return found


def test_two_processes_train_the_network_of_one(tmp_path, monkeypatch):
    """gloo on the CPU, float64, the same global batch; drop path, cutout and the auxiliary head are on.

    They start from a notebook, where Fabric would refuse.
    """
    monkeypatch.setattr(connector, "_IS_INTERACTIVE", True)
    protocol = small(precision="64-true")
    one, two = same_weights(tmp_path, protocol)
    assert Run(tmp_path / "two").read_json("environment.json")["devices"] == 2
    assert protocol.drop_probability(1) > 0
    histories = [Run(tmp_path / name).read_history() for name in ("one", "two")]
    for a, b in zip(*histories, strict=True):
        assert a["train_loss"] == pytest.approx(b["train_loss"], rel=1e-6)  # Fabric returns float32
        assert a["train_accuracy"] == b["train_accuracy"]
    assert one["test_accuracy"] == two["test_accuracy"]


@pytest.mark.parametrize(
    ("precision", "tf32"), [("32-true", False), ("tf32", True), ("bf16-mixed", True), ("64-true", False)]
)
def test_convolutions_of_a_training_in_float32_are_in_float32(precision, tf32, monkeypatch):
    training, seen = start(small("nasbench201", precision=precision)), []
    no_loss = torch.zeros(3, dtype=torch.float64)
    monkeypatch.setattr(training, "_step", lambda *_: seen.append(allows_tf32()["allow_tf32"]) or no_loss)
    monkeypatch.setattr(training, "_tested", lambda: seen.append(allows_tf32()["allow_tf32"]) or (0.0, 0.0))
    monkeypatch.setattr(training.fabric, "all_reduce", lambda *_, **__: torch.ones(3))
    training.run_epoch(0, lambda: None)
    assert set(seen) == {tf32}
    kinds = {tensor.dtype for tensor in training.network.parameters()}
    assert kinds == {torch.float64 if precision == "64-true" else torch.float32}


DEAD_EDGES = parse("|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_1x1~1|+|nor_conv_3x3~0|none~1|none~2|")
DEAD_INPUT = parse("|none~0|+|none~0|nor_conv_3x3~1|+|none~0|none~1|nor_conv_3x3~2|")


def test_dead_ends_are_found():
    """Edges behind an operation without a gradient, or an input that none reads."""
    assert all(map(has_dead_ends, (DEAD_EDGES, DEAD_INPUT, NOISY)))
    assert not any(map(has_dead_ends, (ONE_CELL, published("DARTS_V2"))))


@pytest.mark.slow
@pytest.mark.parametrize("cell", [DEAD_EDGES, DEAD_INPUT])
def test_two_processes_train_a_network_with_dead_ends(tmp_path, cell):
    """DDP must not wait for their gradients."""
    same_weights(tmp_path, small("nasbench201", cell=cell, precision="64-true"))


@pytest.mark.slow
def test_what_one_of_several_processes_raises_arrives(tmp_path):
    with pytest.raises(ProcessFailed, match="Diverged: the training loss is nan in epoch 0"):
        run(small(learning_rate=1e30, clip=None), tmp_path / "run", devices=2)
    assert Run(tmp_path / "run").epochs == 0


def test_the_loss_is_that_of_the_recipe():
    """Cross-entropy with smoothed labels, plus 0.4 times that of the second head, by hand."""
    protocol = small(label_smoothing=0.1)
    objective = Objective(network_of(protocol, load_images("digits")), protocol).double()
    x, y = torch.randn(6, 1, 32, 32, dtype=torch.float64), torch.tensor([1, 2, 3, 4, 5, 6])
    loss, logits = objective(x, y, None)
    target = 0.9 * torch.nn.functional.one_hot(y, 10) + 0.01
    first, second = objective.network.with_auxiliary(x)
    expected = sum(
        weight * -(target * out.log_softmax(-1)).sum(-1).mean() for weight, out in ((1, first), (0.4, second))
    )
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(logits, first)


@pytest.mark.parametrize("nesterov", [False, True])
def test_the_steps_of_an_epoch_equal_momentum_sgd_by_hand(nesterov):
    settings = {"momentum": 0.8, "weight_decay": 0.01, "nesterov": nesterov, "clip": 0.5, "epochs": 4}
    state = start(small("nasbench201", precision="64-true", channels=2, depth=1, **settings))
    net, velocity = copy.deepcopy(state.network).train(), None
    expected, rate = list(net.parameters()), state.protocol.rate(1)
    for images, labels in state.images.epoch(1):
        loss = torch.nn.functional.cross_entropy(net(images.double()), labels)
        grads = torch.autograd.grad(loss, expected)
        norm = torch.cat([g.flatten() for g in grads]).norm()
        assert norm > 0.5
        with torch.no_grad():
            grads = [g * 0.5 / (norm + 1e-6) + 0.01 * w for g, w in zip(grads, expected, strict=True)]
            velocity = [0.8 * v + g for v, g in zip(velocity or [0] * len(grads), grads, strict=True)]
            for w, v, g in zip(expected, velocity, grads, strict=True):
                w -= rate * (g + 0.8 * v if nesterov else v)
    state.run_epoch(1, lambda: None)
    assert 0 < rate < state.protocol.learning_rate
    for ours, theirs in zip(state.network.parameters(), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-10)


def test_drop_path_keeps_the_expectation():
    state = start(small(images=64, batch_size=64))
    factors = torch.cat([state._paths(0.3, torch.Generator().manual_seed(i)).flatten() for i in range(40)])
    assert factors.unique().tolist() == pytest.approx([0, 1 / 0.7])
    assert factors.mean() == pytest.approx(1, abs=0.01)
    assert state._paths(0.0, torch.Generator()) is None


def test_what_cannot_be_trained_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ProtocolError, match="devices = 0"):
        run(small(), tmp_path / "run", devices=0)
    with pytest.raises(ProtocolError, match="batch_size = 16 cannot be shared by 3 devices"):
        run(small(), tmp_path / "run", devices=3)
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_no_number_stops_the_training(tmp_path):
    with pytest.raises(Diverged, match="the training loss is nan in epoch 0"):
        run(small(learning_rate=1e30, clip=None), tmp_path / "run")
    assert not Run(tmp_path / "run").finished


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs a C++ compiler")
def test_a_compiled_network_trains_alike(tmp_path):
    protocol = small("nasbench201", precision="64-true")
    plain = run(protocol, tmp_path / "plain")
    compiled = run(protocol.model_copy(update={"compile": True}), tmp_path / "compiled")
    losses = [Run(tmp_path / n).read_history()[-1]["train_loss"] for n in ("plain", "compiled")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-8)
    assert plain["test_accuracy"] == compiled["test_accuracy"]


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_training_on_a_gpu(tmp_path, precision):
    protocol = small(epochs=4, images=None, precision=precision)
    found = evaluate(protocol, tmp_path, device="cuda", progress=False)
    assert found["test_accuracy"] > 0.3
