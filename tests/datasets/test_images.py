"""Images of one's own as tensors: what is refused, and what a search on them records."""

import json

import pytest
import torch

from ldarts_lib.bilevel.protocols import protocol
from ldarts_lib.bilevel.search import search
from ldarts_lib.datasets.batches import Augmentation
from ldarts_lib.datasets.images import ImageDataset
from ldarts_lib.errors import DatasetCorrupt, DatasetMissing, ProtocolError, RunError

DRAW = torch.Generator().manual_seed(0)
X = torch.randint(0, 256, (60, 3, 8, 8), dtype=torch.uint8, generator=DRAW)
Y = torch.arange(60) % 3
HALF = torch.full((1, 3, 1, 1), 0.5)


def mine(images=X, labels=Y, tested=None, name="mine", class_names=()):
    parts = images[:50], labels[:50], *(tested or (images[50:], labels[50:])), HALF, HALF
    return ImageDataset(name, 3, *parts, Augmentation(), class_names)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": Y + 1}, "mine: search_labels reach from 1 to 3; expected 0 to 2"),
        ({"tested": (X[:5], Y[:5] - 1)}, "mine: test_labels reach from -1 to 1"),
        ({"labels": Y.int()}, r"search_labels are torch.int32 \(50,\); expected torch.int64 \(50,\)"),
        ({"tested": (X[:5], Y[:4])}, r"test_labels are torch.int64 \(4,\)"),
        ({"images": X.float()}, "search_images reach from 0 to 255; expected 0 to 1"),
        ({"images": X / 255 - 0.5}, "search_images reach from -0.5 to 0.5; expected 0 to 1"),
        ({"images": X / 0.0}, "search_images reach from nan to nan"),
        ({"images": X.long()}, "search_images are torch.int64; expected uint8 or float32"),
        ({"images": X[..., :6]}, r"search_images have the shape \(50, 3, 8, 6\)"),
        ({"images": X[..., :6, :6]}, "multiple of 4"),
        ({"tested": (X[:5, :1], Y[:5])}, r"test_images have the shape \(5, 1, 8, 8\)"),
        ({"class_names": ("cat", "dog")}, "2 class_names for 3 classes"),
    ],
)
def test_what_cannot_be_images_is_refused_by_name(change, message):
    with pytest.raises(DatasetCorrupt, match=message):
        mine(**change)


def test_images_describe_themselves():
    told = json.loads(json.dumps(mine(class_names=("a", "b", "c")).describe()))
    assert told["class_names"] == ["a", "b", "c"] and mine().class_names == ("0", "1", "2")
    assert (told["name"], told["channels"], told["size"]) == ("mine", 3, 8)
    assert told["mean"] == told["std"] == [0.5] * 3 and told["counts"] == {"search": 50, "test": 10}
    assert told["fingerprint"] == mine().fingerprint != mine(images=X.flip(0)).fingerprint
    assert mine().to("cpu").fingerprint == mine().fingerprint and mine(name="svhn").fingerprint == ""


def test_a_search_on_loaded_images_records_their_own_name(tmp_path):
    """Also where the protocol says another one; those of another content are refused."""
    settings = protocol("nasbench201", "cifar10", "darts", "smoke", epochs=1, batch_size=25, channels=1)
    search(settings, tmp_path / "run", dataset=mine(), progress=False)
    config, told = (json.loads((tmp_path / "run" / n).read_text()) for n in ("config.json", "images.json"))
    assert config["dataset"] == told["name"] == "mine" and config["fingerprint"] == told["fingerprint"]
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["dataset"] == "mine"
    other = mine(images=X.flip(0))
    with pytest.raises(RunError, match=r"holds another run .*fingerprint: "):
        search(settings, tmp_path / "run", dataset=other, progress=False)
    own = protocol("nasbench201", mine(), "darts", "smoke")
    assert (own.dataset, own.fingerprint, own.pictures) == ("mine", mine().fingerprint, 50)
    with pytest.raises(ProtocolError, match=r"made for the images 'mine' .fingerprint .*, given are 'mine'"):
        search(own, tmp_path / "other", dataset=other, progress=False)
    with pytest.raises(DatasetMissing, match="where the pictures 'mine' lie is not known"):
        search(own, tmp_path / "other", progress=False)
    with pytest.raises(ProtocolError, match=r"a half .* of mine, 25; set batch_size to 25"):
        search(own, tmp_path / "other", dataset=mine(), progress=False)
