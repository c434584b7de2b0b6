import pytest
import torch
from torchvision import transforms
from torchvision.transforms.functional import to_pil_image

from ldarts_lib.datasets.batches import Augmentation
from ldarts_lib.datasets.imagenet import MEAN, STD, standardized
from ldarts_lib.datasets.images import ImageDataset, load_images
from ldarts_lib.errors import DatasetMissing, ProtocolError
from ldarts_lib.evaluation import images as evaluation_images
from ldarts_lib.evaluation.images import AHEAD, WORKERS, random_stream, training_images
from ldarts_lib.evaluation.protocols import training_protocol
from ldarts_lib.spaces.published import published

CPU = torch.device("cpu")


def small(**overrides):
    settings = {"batch_size": 40, "images": 100, "seed": 3} | overrides
    return training_protocol("V2", published("DARTS_V2"), "digits", "cifar", "smoke", **settings)


def epoch(protocol, number, **options):
    return list(training_images(protocol, CPU, **options).epoch(number))


def test_the_parts_of_two_processes_are_the_batch_of_one():
    whole = epoch(small(), 1)
    parts = [epoch(small(), 1, part=(rank, 2)) for rank in (0, 1)]
    assert len(whole) == 3
    for (images, labels), *halves in zip(whole, *parts, strict=True):
        assert images.shape == (40, 1, 32, 32)
        for rank, (some, theirs) in enumerate(halves):
            torch.testing.assert_close(some, images[rank::2], rtol=0, atol=0)
            assert torch.equal(theirs, labels[rank::2])


def test_epochs_differ_and_repeat():
    first, again, second = epoch(small(), 0), epoch(small(), 0), epoch(small(), 1)
    assert all(torch.equal(a[0], b[0]) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0][0], second[0][0])
    assert not torch.equal(first[0][0], epoch(small(seed=4), 0)[0][0])


def test_only_the_first_images_are_used():
    """Every image once, but for those that fill up the last batch, from the start of the order."""
    labels = torch.cat([labels for _, labels in epoch(small(cutout=0), 0)])
    known = load_images("digits").search_labels[:100]
    assert torch.equal(labels[:100].bincount(), known.bincount())
    assert torch.equal(labels[100:], labels[:20])
    tested = torch.cat([labels for _, labels in training_images(small(), CPU).test()])
    assert torch.equal(tested, load_images("digits").test_labels[:100])


def test_held_out_images_are_tested_and_not_trained_on():
    digits, halves = load_images("digits"), training_images(small(cutout=0, held_out=0.25, images=None), CPU)
    assert (halves.training_count, halves.test_count) == (750, 250)
    tested = torch.cat([labels for _, labels in halves.test()])
    trained = torch.cat([labels for _, labels in halves.epoch(0)])[:750]
    assert torch.equal(tested, digits.search_labels[750:])  # stored in random order
    assert torch.equal(trained.bincount(), digits.search_labels[:750].bincount())
    with pytest.raises(ProtocolError, match="held_out: only of images that fit on a device"):
        training_protocol("V2", published("DARTS_V2"), "imagenet", "imagenet", held_out=0.5)


def test_training_images_are_cropped_and_mirrored_and_test_images_are_not():
    """Images that grow brighter to the right; what a crop brings in from outside is black."""
    slope = torch.linspace(0.5, 1, 32).expand(60, 1, 32, 32)
    labels, unit = torch.zeros(60, dtype=torch.int64), (torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1))
    bright = ImageDataset("bright", 1, slope, labels, slope, labels, *unit, Augmentation(4, flip=True))
    settings = {"batch_size": 60, "images": 60, "cutout": 0}
    protocol = training_protocol("V2", published("DARTS_V2"), bright, "cifar", "smoke", **settings)
    found = training_images(protocol, CPU, dataset=bright)
    ((images, _),) = found.epoch(0)
    mirrored = images[..., 8, 4] > images[..., 8, 27]
    assert 15 < mirrored.sum() < 45 and 30 < (images == 0).flatten(1).any(1).sum() < 60
    assert all(torch.equal(x, slope) for x, _ in found.test())


def test_cutout_blanks_a_sixteenth_of_training_images_only():
    images = torch.cat([images for images, _ in epoch(small(cutout=16), 0)])
    blank = (images == 0).flatten(1).sum(1)
    assert blank.max() == 256
    assert blank.float().mean() > 130  # squares lose what lies beyond the border
    assert all((x == 0).sum() < 5 for x, _ in training_images(small(cutout=16), CPU).test())


def test_what_does_not_fit_is_named():
    with pytest.raises(ProtocolError, match="batch_size = 101 is larger than the 100 training images of dig"):
        training_images(small(batch_size=101), CPU)
    with pytest.raises(ProtocolError, match="batch_size = 40 cannot be shared by 3 devices"):
        training_images(small(), CPU, part=(0, 3))
    with pytest.raises(ProtocolError, match="images of 8 pixels: the auxiliary head needs 32 or more"):
        training_images(small(resolution=None), CPU)


def test_streams_are_independent():
    keys = [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 0, 0, 1)]
    assert len({torch.rand(1, generator=random_stream(*key)).item() for key in keys}) == len(keys)


@pytest.fixture
def few_files(tmp_path, monkeypatch):
    """Two classes of six training and three test JPEG files, red and blue."""
    for split, count in (("train", 6), ("val", 3)):
        for channel, name in ((0, "n01"), (2, "n02")):
            folder = tmp_path / "imagenet" / split / name
            folder.mkdir(parents=True)
            image = torch.zeros(3, 60, 80)
            image[channel] = 1
            for i in range(count):
                to_pil_image(image).save(folder / f"{i}.jpeg")
    monkeypatch.setenv("LDARTS_DATA", str(tmp_path))


def imagenet(**overrides):
    settings = {"batch_size": 8, "resolution": 224, "images": None} | overrides
    return training_protocol("V2", published("DARTS_V2"), "imagenet", "imagenet", "smoke", **settings)


def test_imagenet_is_read_from_files(few_files):
    found = training_images(imagenet(), CPU)
    assert (found.classes, found.training_count, found.test_count) == (2, 12, 6)
    batches = list(found.epoch(0))
    assert [images.shape for images, _ in batches] == [(8, 3, 224, 224)] * 2
    tested = list(found.test())
    images, labels = (torch.cat(parts) for parts in zip(*tested, strict=True))
    assert labels.tolist() == [0, 0, 0, 1, 1, 1]
    means, deviations = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    colours = torch.eye(3)[2 * labels]
    torch.testing.assert_close(images.mean((2, 3)), (colours - means) / deviations, atol=0.03, rtol=0)


def test_imagenet_is_standardized_as_torchvision_does_it_bit_for_bit():
    """From bytes, which workers hand over and the device standardizes."""
    picture = to_pil_image(torch.randint(256, (3, 9, 7), dtype=torch.uint8))
    as_bytes, expected = transforms.PILToTensor()(picture), transforms.ToTensor()(picture)
    expected = transforms.Normalize(MEAN, STD)(expected)
    assert torch.equal(standardized(as_bytes[None])[0], expected)


def test_what_readers_of_imagenet_share_fits_into_memory(few_files):
    """Batches of the paper's recipe on one device, as many ahead as there are readers: below 3 GB, not 20."""
    found = training_images(imagenet(), CPU)
    image, _ = found.training[0]
    paper = training_protocol("V2", published("DARTS_V2"), "imagenet", "imagenet", "paper")
    assert image.dtype == found.testing[0][0].dtype == torch.uint8
    assert WORKERS * AHEAD * paper.batch_size * image.nbytes < 3e9


@pytest.mark.parametrize(("processors", "world", "readers"), [(64, 1, 16), (64, 8, 8), (2, 4, 1)])
def test_readers_of_imagenet_hand_over_bytes_which_the_device_standardizes(
    few_files, monkeypatch, processors, world, readers
):
    given, seen = {}, []
    batch = torch.zeros(2, 3, 224, 224, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64)
    monkeypatch.setattr(evaluation_images, "cores", lambda: processors)
    monkeypatch.setattr(
        evaluation_images, "DataLoader", lambda *_, **options: given.update(options) or [batch]
    )
    monkeypatch.setattr(evaluation_images, "standardized", lambda x: seen.append(x) or standardized(x))
    found = training_images(imagenet(), torch.device("meta"), part=(0, world))
    ((images, labels),) = found.test()
    assert given["num_workers"] == readers and given["prefetch_factor"] == 1
    assert [(x.is_meta, x.dtype) for x in seen] == [(True, torch.uint8)]
    assert images.is_meta and labels.is_meta and images.dtype == torch.float32


def test_a_few_images_of_imagenet_are_of_all_classes(few_files):
    found = training_images(imagenet(images=4, batch_size=4), CPU)
    assert (found.training_count, found.test_count) == (4, 4)
    ((_, labels),) = found.epoch(0)
    assert sorted(labels.tolist()) == [0, 0, 1, 1]


def test_processes_share_imagenet(few_files):
    def labels(**part):
        return torch.cat([labels for _, labels in epoch(imagenet(), 0, **part)])

    for rank in (0, 1):
        assert torch.equal(labels().view(2, 8)[:, rank::2].flatten(), labels(part=(rank, 2)))


def test_missing_imagenet_says_what_belongs_where(tmp_path, monkeypatch):
    monkeypatch.setenv("LDARTS_DATA", str(tmp_path))
    with pytest.raises(DatasetMissing, match=r"imagenet/train should hold one folder.*image-net\.org"):
        training_images(imagenet(), CPU)
